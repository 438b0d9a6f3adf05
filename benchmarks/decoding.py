"""How fast is a text written and a prompt read, against transformers and llama.cpp on the same weights?

    python benchmarks/decoding.py [--json]      float32, one text, greedy; a llama of 56 M parameters and one of 1.8 M

One unit of work is a whole text: a prompt of 8 tokens, then 64 more (small model: 256), each the likeliest; or a prompt of 512
tokens and what follows it. Every worker opens the same weights, exported by picolab: transformers a folder, llama.cpp a GGUF file.

    picolab        eager: the loop of `generate`; compiled: a compiled step and the sampler
    transformers   `generate` as it comes; with a static cache, whose forward pass it compiles
    llama.cpp      its C interface, called token by token: no wrapper's sampler, the largest logit found by NumPy
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import copy_rate, finish, measure, serve, worker_arguments

SIZES: dict[str, dict[str, int]] = {
    "56 M": {
        "vocab_size": 32000,
        "context_length": 2048,
        "d_model": 512,
        "n_layers": 8,
        "n_heads": 8,
        "n_kv_heads": 4,
        "d_ff": 1408,
    },
    "1.8 M": {
        "vocab_size": 4096,
        "context_length": 2048,
        "d_model": 128,
        "n_layers": 4,
        "n_heads": 4,
        "n_kv_heads": 2,
        "d_ff": 352,
    },
}
NEW = {"56 M": 64, "1.8 M": 256}
SHORT, LONG = 8, 512
THREADS = 2

WRITERS = [
    ("llama.cpp", "C interface"),
    ("transformers", "eager"),
    ("transformers", "static cache"),
    ("transformers", "compiled"),
    ("picolab", "eager"),
    ("picolab", "compiled"),
]
READERS = [("llama.cpp", "C interface"), ("transformers", "eager"), ("picolab", "eager")]

Work = Callable[[], None]


def worker(task: str, size: str, who: str, how: str, folder: str, threads: str) -> Iterator[None]:
    """One text, or one prompt, for each `next`."""
    prompt = [(7 * i + 3) % SIZES[size]["vocab_size"] for i in range(SHORT if task == "write" else LONG)]
    new = NEW[size] if task == "write" else 1
    work = MAKERS[who](how, Path(folder), prompt, new, int(threads))
    work()
    while True:
        yield
        work()


def picolab(how: str, folder: Path, prompt: list[int], new: int, threads: int) -> Work:
    import torch

    from picolab.sample.compiled import Step
    from picolab.sample.pick import Sampler
    from picolab.weights.checkpoint import load_model

    torch.set_num_threads(threads)
    model, sampler = load_model(folder), Sampler(temperature=0)
    if how == "eager" and new > 1:
        from picolab.sample.generate import generate

        return lambda: _check(len(generate(model, None, [prompt], max_new_tokens=new, sampler=sampler)[0].ids), new)
    step = Step(model, 1, len(prompt) + new, compiled=how == "compiled")

    def work() -> None:
        step.clear()
        ids = [sampler.pick(step.read(torch.tensor([prompt])))]
        while len(ids) < new:
            ids.append(sampler.pick(step(ids[-1][:, None])))
            int(ids[-1])  # a text is handed out as it is written

    return work


def transformers(how: str, folder: Path, prompt: list[int], new: int, threads: int) -> Work:
    import torch
    import transformers

    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = torch.tensor([prompt])
    options: dict[str, Any] = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "use_cache": True}
    if how != "eager":
        options["cache_implementation"] = "static"
    if how == "compiled":  # the forward pass of a step; generate's own wish to compile holds for accelerators only
        config = transformers.CompileConfig(fullgraph=False, mode="default")
        config._compile_all_devices = True
        options["compile_config"] = config
    else:
        options["disable_compile"] = True

    @torch.inference_mode()
    def write() -> None:
        _check(model.generate(tokens, attention_mask=torch.ones_like(tokens), **options).shape[1], len(prompt) + new)

    @torch.inference_mode()
    def read() -> None:
        model(tokens, use_cache=True, logits_to_keep=1).logits.argmax(-1)

    return write if new > 1 else read


def llama_cpp(how: str, folder: Path, prompt: list[int], new: int, threads: int) -> Work:
    import ctypes

    import llama_cpp as c
    import numpy as np

    c.llama_backend_init()
    silent = c.llama_log_callback(lambda *_: None)
    c.llama_log_set(silent, ctypes.c_void_p(0))
    parameters = c.llama_model_default_params()
    instead = (c.llama_model_kv_override * 2)()  # the file holds no words, and needs none
    instead[0].key, instead[0].tag = b"tokenizer.ggml.model", c.LLAMA_KV_OVERRIDE_TYPE_STR
    instead[0].value.val_str = b"no_vocab"
    parameters.kv_overrides = instead
    model = c.llama_model_load_from_file(str(folder / "model.gguf").encode(), parameters)
    settings = c.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch = 1024, LONG, LONG
    settings.n_threads = settings.n_threads_batch = threads
    context = c.llama_init_from_model(model, settings)
    vocab_size = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))
    first, one = (c.llama_token * len(prompt))(*prompt), (c.llama_token * 1)()

    def read(tokens: Any) -> int:
        if c.llama_decode(context, c.llama_batch_get_one(tokens, len(tokens))):
            raise RuntimeError("llama.cpp could not read on")
        return int(np.ctypeslib.as_array(c.llama_get_logits_ith(context, -1), (vocab_size,)).argmax())

    def work(_: object = (silent, model)) -> None:
        c.llama_memory_clear(c.llama_get_memory(context), True)
        token = read(first)
        for _ in range(new - 1):
            one[0] = token
            token = read(one)

    return work


MAKERS = {"picolab": picolab, "transformers": transformers, "llama.cpp": llama_cpp}


def _check(made: int, wanted: int) -> None:
    """A text that ended early would be a fast one."""
    if made != wanted:
        raise RuntimeError(f"{made} tokens were made, not {wanted}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--only", choices=SIZES, help="one of the two models")
    args, _ = parser.parse_known_args()
    rows, limit = [], sum_rate(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        for size in [args.only] if args.only else SIZES:
            place = Path(folder) / size.replace(" ", "")
            streamed = export(size, place)
            for task, hows in (("write", WRITERS), ("read", READERS)):
                if size == "1.8 M" and task == "read":
                    continue
                arms = [(task, size, *how, str(place), str(args.threads)) for how in hows]
                timings = measure(__file__, arms, rounds=args.rounds, warm_up=2)
                rows += table(task, size, hows, timings, streamed, limit)
    finish(
        "decoding",
        "Writing a text, reading a prompt",
        [
            "model",
            "what",
            "who",
            "how",
            "tokens/s",
            "/ best of transformers",
            "/ llama.cpp",
            "weights read",
            "peak memory",
        ],
        rows,
        [
            f"float32, {args.threads} threads, batch 1, greedy; writing: {SHORT} tokens read and {NEW['56 M']} written "
            f"({NEW['1.8 M']} by the 1.8 M model), the latter counted; reading: {LONG} tokens",
            f"weights read: bytes of the weights a token needs times tokens/s; a plain sum reads {limit / 1e9:.1f} GB/s, "
            f"a copy moves {copy_rate() / 1e9:.1f} GB/s; the 1.8 M model lies in the processor's cache",
            "peak memory of the whole process, libraries included, while it worked",
        ],
    )


def table(task: str, size: str, hows: Any, timings: Any, streamed: int, limit: float) -> list[list[str]]:
    tokens = NEW[size] if task == "write" else LONG
    speed = {how: tokens / t.seconds for how, t in zip(hows, timings, strict=True) if t is not None}
    best = max((s for how, s in speed.items() if how[0] == "transformers"), default=None)
    other = max((s for how, s in speed.items() if how[0] == "llama.cpp"), default=None)
    what = f"writing {tokens}" if task == "write" else f"reading {tokens}"
    rows = []
    for how, timing in zip(hows, timings, strict=True):
        if timing is None:
            rows.append([size, what, *how, "does not run here", "", "", "", ""])
            continue
        share = (
            f"{speed[how] * streamed / 1e9:.1f} GB/s ({speed[how] * streamed / limit:.0%})" if task == "write" else ""
        )
        against = [f"{speed[how] / peer:.2f} x" if peer else "" for peer in (best, other)]
        rows.append([size, what, *how, f"{speed[how]:,.0f}", *against, share, f"{timing.peak_mb:,.0f} MB"])
    return rows


def export(size: str, folder: Path) -> int:
    """Write the model as transformers and llama.cpp read it; the bytes of weights that one token needs."""
    import torch

    from picolab.weights.checkpoint import save_model
    from picolab.weights.gguf.write import write_gguf
    from picolab.zoo import build

    torch.manual_seed(0)
    model = build("llama", SIZES[size])
    save_model(model, None, folder)
    write_gguf(model, None, folder / "model.gguf")
    return 4 * (sum(p.numel() for p in model.parameters()) - model.embedding.weight.numel())


def sum_rate(threads: int) -> float:
    """Bytes/s a plain sum reads."""
    import torch

    from picolab.measure.limits import read_rate

    torch.set_num_threads(threads)
    return read_rate()


if __name__ == "__main__":
    arm = worker_arguments()
    if arm:
        serve(worker(*arm))
    else:
        sys.exit(main())
