"""Preference training against TRL's DPOTrainer: the same numbers, and how many pairs a second, on the same weights and pairs.

    python benchmarks/dpo.py            softmax-pico and a GPT-2 shape of 25 M parameters, 16 pairs a step, on the CPU

Both sides load one folder of weights. First the numbers: loss, rewards and every gradient, for the sigmoid loss, its form by
length, IPO, and the sigmoid loss with imitation. Then the speed: forward, backward, clipping and AdamW, interleaved. TRL's step is
called without the loop around it (no data loader, no logging), once with its reference model in the step and once with the
reference's log-probabilities computed before, as ours are. TRL needs packages that picolab does not: install them beside it,

    python -m venv PEERS; PEERS/bin/pip install trl safetensors numpy
    PICOLAB_PEERS_PYTHON=PEERS/bin/python python benchmarks/dpo.py

or in the same environment, and leave the variable out; `--quick` takes few rounds of the small model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import Timing, finish, machine, serve, worker_arguments

PEERS = os.environ.get("PICOLAB_PEERS_PYTHON", sys.executable)
QUIET = os.environ | {"PYTHONWARNINGS": "ignore"}
VOCAB = 2048
SHAPES: dict[str, dict[str, int]] = {
    "softmax-pico": {"d_model": 128, "n_heads": 2, "n_layers": 2, "d_ff": 512},
    "GPT-2 shape 25 M": {"d_model": 512, "n_heads": 8, "n_layers": 8, "d_ff": 2048},
}
PAIRS, BETA, LR = 16, 0.1, 1e-4
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sigmoid": ({}, {"loss_type": ["sigmoid"]}),
    "by length": ({"per_token": True}, {"loss_type": ["sigmoid_norm"]}),
    "ipo": ({"variant": "ipo", "per_token": True}, {"loss_type": ["ipo"]}),
    "with imitation": ({"imitation": 0.5}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}),
}
"""Ours, and TRL's words for the same."""
ARMS = [("picolab", "kept"), ("trl", "kept"), ("trl", "in the step")]


def pairs() -> list[dict[str, list[int]]]:
    """Prompts and responses of about the lengths that stories have: 8 to 64 tokens."""
    import numpy as np

    rng = np.random.default_rng(0)

    def ids(low: int, high: int) -> list[int]:
        return rng.integers(0, VOCAB - 1, rng.integers(low, high + 1)).tolist()

    return [
        {"prompt_ids": [VOCAB - 1, *ids(8, 64)], "chosen_ids": [*ids(16, 64)], "rejected_ids": [*ids(16, 64)]}
        for _ in range(PAIRS)
    ]


# Ours.


def _ours(folder: Path) -> tuple[Any, Any, Any]:
    """The policy, the batch and its reference's log-probabilities."""
    import torch

    from picolab.data.pairs import TokenPair, batch_of
    from picolab.objectives.dpo import response_logps
    from picolab.weights.checkpoint import load_model

    made = [
        TokenPair(*(tuple(pair[f"{side}_ids"]) for side in ("prompt", "chosen", "rejected")), "") for pair in pairs()
    ]
    empty = batch_of(made, torch.zeros(len(made), 2), fill=VOCAB - 1)
    with torch.no_grad():
        reference = response_logps(load_model(folder / "reference"), empty)
    return load_model(folder / "policy"), batch_of(made, reference, fill=VOCAB - 1), reference


def our_numbers(folder: Path, form: str) -> dict[str, Any]:
    """Loss, figures and gradients; gradients go to a file, by transformers' names."""
    from safetensors.torch import save_file

    from picolab.objectives.dpo import Dpo

    model, batch, _ = _ours(folder)
    loss = Dpo(beta=BETA, **FORMS[form][0])(model, batch)
    loss.mean.backward()
    names = {name: _foreign(name) for name, p in model.named_parameters() if p.grad is not None}
    grads = {theirs: dict(model.named_parameters())[ours].grad for ours, theirs in names.items()}
    save_file({name: _as_stored(name, grad) for name, grad in grads.items()}, folder / "ours.safetensors")
    return {"loss": loss.mean.item(), **{name: float(value) / PAIRS for name, value in loss.figures.items()}}


def _foreign(name: str) -> str:
    from picolab.models.gpt2 import HUGGING_FACE

    parts = name.split(".")
    if parts[0] != "blocks":
        return HUGGING_FACE.tensors[name]
    return HUGGING_FACE.tensors[".".join(["blocks", "{i}", *parts[2:]])].replace("{i}", parts[1])


def _as_stored(name: str, grad: Any) -> Any:
    """transformers keeps the layers of a GPT-2 input by output."""
    turned = name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight"))
    return (grad.T if turned else grad).contiguous()


def our_steps(folder: Path) -> Iterator[None]:
    import torch

    from picolab.objectives.dpo import Dpo
    from picolab.runs.settings import OptimizerSettings
    from picolab.train.optimizers import adamw

    model, batch, _ = _ours(folder)
    model.train()
    objective, optimizer = Dpo(beta=BETA), adamw(model, OptimizerSettings(lr=LR))
    while True:
        yield
        loss = objective(model, batch)
        loss.mean.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _told(loss.mean, loss.figures)


def _told(loss: Any, figures: Any) -> list[float]:
    """Everything that is logged, fetched as a run does."""
    import torch

    return torch.stack([loss.detach(), *figures.values()]).tolist()


# TRL's.


def _trainer(folder: Path, form: str, how: str) -> tuple[Any, Any]:
    """A DPOTrainer and the inputs of one step, made by its own collator."""
    import datasets
    import torch
    import transformers
    from trl import DPOConfig, DPOTrainer

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    policy, reference = (
        transformers.AutoModelForCausalLM.from_pretrained(folder / who, dtype=torch.float32)
        for who in ("policy", "reference")
    )
    words = transformers.AutoTokenizer.from_pretrained(folder / "policy")
    dummy = datasets.Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}] * PAIRS)
    arguments = DPOConfig(
        output_dir=str(folder / "out"), beta=BETA, learning_rate=LR, per_device_train_batch_size=PAIRS, max_length=None,
        use_cpu=True, report_to="none", gradient_checkpointing=False, bf16=False, disable_tqdm=True, **FORMS[form][1],
    )  # fmt: skip
    trainer = DPOTrainer(model=policy, ref_model=reference, args=arguments, train_dataset=dummy, processing_class=words)
    examples = pairs()
    inputs = trainer.data_collator(examples)
    if how == "kept":
        chosen, rejected = trainer.compute_ref_log_probs(trainer.ref_model, inputs)
        for example, c, r in zip(examples, chosen.tolist(), rejected.tolist(), strict=True):
            example |= {"ref_chosen_logps": c, "ref_rejected_logps": r}
        inputs = trainer.data_collator(examples)
        trainer.precompute_ref_logps = True
    for module in policy.modules():  # GPT-2's own dropout
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return trainer, inputs


def their_numbers(folder: Path, form: str) -> dict[str, Any]:
    from safetensors.torch import save_file

    trainer, inputs = _trainer(folder, form, "in the step")
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    grads = {n: p.grad.contiguous() for n, p in trainer.model.named_parameters() if p.grad is not None}
    save_file(grads, folder / "theirs.safetensors")
    figures = {name: values[-1] for name, values in trainer._metrics["train"].items() if name[:4] in ("rewa", "logp")}
    return {"loss": loss.item(), **figures}


def their_steps(folder: Path, how: str) -> Iterator[None]:
    import torch

    trainer, inputs = _trainer(folder, "sigmoid", how)
    model = trainer.model
    model.train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.95), fused=True)
    while True:
        yield
        loss = trainer.compute_loss(model, inputs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


# Both.


def make(folder: Path, shape: str) -> None:
    """A policy and a reference with the same tokenizer; all weights random, none neutral."""
    import torch

    from picolab.text.build import build_tokenizer
    from picolab.weights.checkpoint import save_model
    from picolab.zoo import build

    words = build_tokenizer("bytes")
    for seed, who in enumerate(("policy", "reference")):
        torch.manual_seed(seed)
        model = build("gpt2", {"vocab_size": VOCAB, "context_length": 256, **SHAPES[shape]})
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p) * 0.02)
        save_model(model, words, folder / who)


def compare_numbers(folder: Path) -> list[list[str]]:
    """The largest differences, form by form."""
    rows = []
    for form in FORMS:
        ours = _ask(sys.executable, folder, "numbers", "picolab", form)
        theirs = _ask(PEERS, folder, "numbers", "trl", form)
        from safetensors.torch import load_file

        a, b = load_file(folder / "ours.safetensors"), load_file(folder / "theirs.safetensors")
        a.pop("lm_head.weight", None)  # tied: the embedding's gradient holds it
        if a.keys() != b.keys():
            raise SystemExit(f"gradients of other tensors: {sorted(a.keys() ^ b.keys())}")
        scale = max(float(g.abs().max()) for g in b.values())
        gradient = max(float((a[n] - b[n]).abs().max()) for n in a)
        rewards = max(abs(ours[n] - theirs[n]) for n in theirs if n.startswith("rewards/"))
        rows.append(
            [
                form,
                f"{ours['loss']:.6f}",
                f"{theirs['loss']:.6f}",
                f"{abs(ours['loss'] - theirs['loss']):.1e}",
                f"{rewards:.1e}",
                f"{gradient:.1e}",
                f"{gradient / scale:.1e}",
            ]
        )
    return rows


def _ask(python: str, folder: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run([python, __file__, "--worker", str(folder), *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(folder: Path, rounds: int, warm_up: int = 3) -> list[Timing]:
    """The arms in turn, each in a process of its own; as harness.measure, but each side with its own Python."""
    import statistics

    workers = []
    for who, how in ARMS:
        command = [PEERS if who == "trl" else sys.executable, __file__, "--worker", str(folder), "steps", who, how]
        worker = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=QUIET
        )
        workers.append(worker)
        while (line := worker.stdout.readline()) and line.strip() != "ready":
            continue
        if not line:
            raise SystemExit(f"{who}, reference {how}: does not run here")
        for word in ["work"] * warm_up + ["forget"]:
            _say(worker, word)
    seconds: list[list[float]] = [[float(_say(worker, "work")) for worker in workers] for _ in range(rounds)]
    timings = []
    for worker, times in zip(workers, zip(*seconds, strict=True), strict=True):
        worker.stdin.close()
        timings.append(Timing(statistics.median(times), float(worker.stdout.read().split()[-1])))
        worker.wait()
    return timings


def _say(worker: Any, word: str) -> str:
    worker.stdin.write(word + "\n")
    return worker.stdout.readline()


def work(words: list[str]) -> None:
    """A worker's side."""
    folder, task, who, how = Path(words[0]), words[1], words[2], words[3]
    if task == "numbers":
        numbers: Callable[[Path, str], dict[str, Any]] = our_numbers if who == "picolab" else their_numbers
        print(json.dumps(numbers(folder, how)))
    else:
        serve(our_steps(folder) if who == "picolab" else their_steps(folder, how))


def main() -> None:
    quick = "--quick" in sys.argv
    with tempfile.TemporaryDirectory() as place:
        make(Path(place) / "numbers", "softmax-pico")
        numbers = compare_numbers(Path(place) / "numbers")
        rows = []
        for shape in list(SHAPES)[:1] if quick else SHAPES:
            folder = Path(place) / shape.replace(" ", "-")
            make(folder, shape)
            timings = measure(folder, 5 if quick else 15)
            ours = timings[0]
            for (who, how), timing in zip(ARMS, timings, strict=True):
                rows.append(
                    [
                        shape,
                        who,
                        how,
                        f"{PAIRS / timing.seconds:,.1f}",
                        f"{timing.seconds / ours.seconds:.2f} x",
                        f"{timing.peak_mb:,.0f} MB",
                    ]
                )
    print(f"measured with {machine()['cores']} cores\n", file=sys.stderr)
    finish(
        "dpo_numbers",
        "DPO: the same numbers as TRL",
        [
            "loss",
            "picolab",
            "TRL",
            "difference",
            "largest of rewards",
            "largest of gradients",
            "of the largest gradient",
        ],
        numbers,
        [f"softmax-pico, {PAIRS} pairs, beta {BETA}, random weights, float32"],
    )
    finish(
        "dpo",
        "DPO: pairs a second",
        ["model", "who", "reference", "pairs/s", "time / picolab", "peak memory"],
        rows,
        [
            f"{PAIRS} pairs a step, prompts of 9 to 65 tokens, responses of 16 to 64, vocabulary {VOCAB:,}; forward, backward, "
            "clipping, AdamW",
            "`kept`: the reference's log-probabilities were computed before; `in the step`: the reference model runs in every "
            "step, TRL's default",
        ],
    )


if __name__ == "__main__":
    given = worker_arguments()
    if given:
        work(given)
    else:
        sys.exit(main())
