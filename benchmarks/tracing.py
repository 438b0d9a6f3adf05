"""What does it cost to watch every number of a forward pass? Against the plain pass, and against TransformerLens and nnsight.

    shapes    llama 56 M (512 wide, 8 layers), softmax-pico, GPT-2 shapes of 25 M and 0.4 M parameters: 256 tokens, every site
    long      32,768 tokens, statistics only: memory against the plain pass
    trace     the command `picolab trace` on nanochat-d4, 1,024 tokens, 3 iterations

All arms of a shape load the same weights from one folder. The peers need packages that picolab does not: install them beside it,

    python -m venv PEERS; PEERS/bin/pip install transformer-lens nnsight
    PICOLAB_PEERS_PYTHON=PEERS/bin/python python benchmarks/tracing.py

or in the same environment, and leave the variable out; `--quick` takes few rounds. `picolab.record` asks the C library to keep
freed memory (trace/memory.py); the arms with `memory kept` have that from the outside (MALLOC_TRIM_THRESHOLD_), so that it is fair.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import Timing, finish, measure, serve, worker_arguments

PEERS = os.environ.get("PICOLAB_PEERS_PYTHON", sys.executable)
KEPT = {"MALLOC_TRIM_THRESHOLD_": str(2**31), "MALLOC_MMAP_THRESHOLD_": str(2**25)}

LLAMA = {"vocab_size": 32000, "context_length": 1024, "d_model": 512, "n_layers": 8, "n_heads": 8, "n_kv_heads": 4}
GPT2 = {"vocab_size": 256, "context_length": 256}
SHAPES: dict[str, tuple[str, dict[str, object]]] = {
    "llama 56 M": ("llama", {**LLAMA, "d_ff": 1408}),
    "softmax-pico": ("gpt2", {"d_model": 128, "n_heads": 2, "n_layers": 2, "d_ff": 512}),
    "GPT-2 shape 25 M": ("gpt2", {**GPT2, "d_model": 512, "n_heads": 8, "n_layers": 8, "d_ff": 2048}),
    "GPT-2 shape 0.4 M": ("gpt2", {**GPT2, "d_model": 128, "n_heads": 2, "n_layers": 2, "d_ff": 512}),
}
LONG = ("llama", {"vocab_size": 512, "context_length": 32768, "d_model": 256, "n_layers": 2, "n_heads": 4, "d_ff": 704})
TIME, LONG_TIME = 256, 32768

OURS = [("plain", ""), ("recorded", ""), ("plain", "kept")]
RIVALS = [(who, how) for how in ("", "kept") for who in ("transformers", "transformer-lens", "nnsight")]
LIMITS = {"llama 56 M": 1.10, "softmax-pico": 1.5}

LENS = ["embed", "pos_embed", "ln_final", "unembed"]
LENS_OF_BLOCK = [
    "ln1.hook_normalized", "attn.hook_q", "attn.hook_k", "attn.hook_v", "attn.hook_attn_scores", "attn.hook_pattern",
    "attn.hook_z", "hook_attn_out", "hook_resid_mid", "ln2.hook_normalized", "mlp.hook_pre", "mlp.hook_post", "hook_mlp_out",
    "hook_resid_post",
]  # fmt: skip
"""What TransformerLens calls the places that picolab records."""


def work(who: str, folder: str, _: str = "") -> Iterator[None]:
    """One forward pass for each `next`."""
    import torch

    with torch.inference_mode():
        run = {"transformers": _transformers, "transformer-lens": _lens, "nnsight": _nnsight}.get(who)
        once = run(folder) if run else _ours(who, folder)
        while True:
            yield
            once()


def _ours(who: str, folder: str) -> Callable[[], object]:
    import torch

    from picolab.trace.record import record
    from picolab.weights.checkpoint import load_model
    from picolab.zoo import build

    model = (build(*LONG) if folder == "long" else load_model(Path(folder))).eval()
    tokens = _tokens(LONG_TIME if folder == "long" else TIME)

    def recorded() -> object:
        with record(model, keep="statistics" if who == "statistics" else "device") as recording:
            model(tokens)
        return recording

    torch.manual_seed(0)
    return (lambda: model(tokens)) if who == "plain" else recorded


def _transformers(folder: str) -> Callable[[], object]:
    model, tokens = _theirs(folder), _tokens(TIME)
    return lambda: model(tokens)


def _lens(folder: str) -> Callable[[], object]:
    from transformer_lens.model_bridge import TransformerBridge

    model, tokens = TransformerBridge.boot_transformers(folder, device="cpu"), _tokens(TIME)
    names = [f"{name}.hook_out" for name in LENS]
    names += [f"blocks.{i}.{place}" for i in range(model.cfg.n_layers) for place in LENS_OF_BLOCK]
    _, cache = model.run_with_cache(tokens, names_filter=names)
    missing = set(names) - set(cache.keys())
    if missing:
        raise SystemExit(f"TransformerLens has no {sorted(missing)}")
    return lambda: model.run_with_cache(tokens, names_filter=names)


def _nnsight(folder: str) -> Callable[[], object]:
    from nnsight import NNsight

    # Probabilities are returned by the plain attention only; scores and single queries nowhere.
    model, tokens = NNsight(_theirs(folder, attn_implementation="eager")), _tokens(TIME)

    def once() -> object:
        kept = []
        with model.trace(tokens):
            kept.append(model.transformer.drop.output.save())
            for block in model.transformer.h:
                kept.append(block.ln_1.output.save())
                kept.append(block.attn.c_attn.output.save())
                kept.append(block.attn.c_proj.input.save())
                kept.append(block.attn.output.save())
                kept.append(block.ln_2.input.save())
                kept.append(block.ln_2.output.save())
                kept.append(block.mlp.c_fc.output.save())
                kept.append(block.mlp.act.output.save())
                kept.append(block.mlp.c_proj.output.save())
                kept.append(block.output.save())
            kept.append(model.transformer.ln_f.output.save())
            kept.append(model.lm_head.output.save())
        return kept

    return once


def _theirs(folder: str, **how):
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers.GPT2LMHeadModel.from_pretrained(folder, **how).eval()


def _tokens(time: int):
    import torch

    return torch.randint(0, 256, (1, time), generator=torch.Generator().manual_seed(0))


def trace_command() -> tuple[float, float]:
    """Seconds and peak MB of the command line on nanochat-d4, page and narration included."""
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens.json"
        tokens.write_text(json.dumps(_tokens(1024)[0].tolist()))
        command = ["-m", "picolab", "trace", "--model", "nanochat-d4", "--tokens", str(tokens), "--iterations", "3"]
        start = time.perf_counter()
        subprocess.run([sys.executable, *command, "--html", f"{folder}/t.html"], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> None:
    seconds, peak = trace_command()  # first: the peak is that of the largest child so far
    rounds = 5 if "--quick" in sys.argv else 31
    rows: list[list[str]] = []
    for shape in SHAPES:
        rows += _shape(shape, rounds)
    plain, few = measure(__file__, [("plain", "long"), ("statistics", "long")], rounds=1, warm_up=0)
    assert plain is not None and few is not None
    for who, timing in (("picolab, plain", plain), ("picolab, statistics only", few)):
        ratio = f"{timing.seconds / plain.seconds:.2f} x"
        memory = f"{timing.peak_mb:,.0f} MB ({timing.peak_mb / plain.peak_mb:.2f} x)"
        rows.append(["llama, 2 x 256, 32,768 tokens", who, f"{timing.seconds:.1f} s", ratio, memory])
    rows.append(
        ["nanochat-d4, 1,024 tokens, 3 iterations", "`picolab trace --html`", f"{seconds:.1f} s", "", f"{peak:,.0f} MB"]
    )
    finish(
        "tracing",
        "Watching every number of a forward pass",
        ["model", "who", "a pass", "against the plain pass", "peak memory"],
        rows,
        [
            f"one text of {TIME} tokens, every site kept; the peers keep the places that have a counterpart here",
            "against the plain pass: picolab's own for picolab, transformers' own for the peers",
            "`memory kept`: the C library was told from outside to keep freed memory; `picolab.record` tells it so itself",
            "limits: llama 56 M " + ", softmax-pico ".join(f"{LIMITS[shape]:.2f} x" for shape in LIMITS),
        ],
    )


def _shape(shape: str, rounds: int) -> list[list[str]]:
    from picolab.weights.checkpoint import save_model
    from picolab.zoo import build

    with tempfile.TemporaryDirectory() as folder:
        architecture, settings = SHAPES[shape]
        save_model(build(architecture, settings), None, Path(folder))
        arms = [(who, folder, how) for who, how in OURS + (RIVALS if shape.startswith("GPT-2") else [])]
        timings = measure(__file__, [[word for word in arm if word] for arm in arms], rounds=rounds)
    by_arm: dict[tuple[str, str], Timing | None] = {
        (who, how): t for (who, _, how), t in zip(arms, timings, strict=True)
    }
    rows = []
    for (who, how), timing in by_arm.items():
        ours = who in ("plain", "recorded")
        name = (f"picolab, {who}" if ours else who) + (", memory kept" if how else "")
        if timing is None:
            rows.append([shape, name, "does not run here", "", ""])
            continue
        base = by_arm[("plain", how) if ours else ("transformers", how)]
        ratio = f"{timing.seconds / base.seconds:.2f} x" if base is not None else ""
        rows.append([shape, name, f"{timing.seconds * 1e3:.2f} ms", ratio, f"{timing.peak_mb:,.0f} MB"])
    return rows


def _settle(arm: list[str]) -> None:
    """Become the process that this arm needs: another interpreter, another way of the C library."""
    peer = {"transformer-lens": "transformer_lens", "nnsight": "nnsight", "transformers": "transformers"}.get(arm[0])
    settled = os.environ.get("PICOLAB_ARM_SETTLED") == "1"
    if settled and peer is not None and importlib.util.find_spec(peer) is None:
        raise SystemExit(f"{peer} is not installed in {sys.executable}: see the head of {__file__}")
    if not settled and (peer is not None or "kept" in arm):
        python = PEERS if peer is not None else sys.executable
        more = KEPT if "kept" in arm else {}
        os.execve(
            python, [python, *sys.argv], {**os.environ, **more, "PICOLAB_ARM_SETTLED": "1", "HF_HUB_OFFLINE": "1"}
        )


if __name__ == "__main__":
    arm = worker_arguments()
    if arm:
        _settle(arm)
        serve(work(*arm))
    else:
        sys.exit(main())
