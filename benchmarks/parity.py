"""Claim: what is computed here is what transformers and llama.cpp compute, at every position, in prefill and with a cache.

    python benchmarks/parity.py [--seeds 3] [--prompt 64] [--steps 32] [--greedy 200] [--json]

Twins are small models of every architecture in which no number is a default, neutral or equal to another, and one that was trained.
Each is exported (a Hugging Face folder, a GGUF file in F32 and in Q8_0) and opened by the other engine. Both read the same random
tokens, first a prompt at once, then one token at a time. The figure is the largest difference of any logit relative to the largest.

Where llama.cpp multiplies a weight in Q8_0 it rounds what it multiplies it with to eight bits too; here that stays float32. So Q8_0
is measured twice: as it is, and with that rounding done here as well. Then only numbers that lie between two roundings differ, and
a long text has some: the second figure is the median of texts of four tokens.

Greedy: both continue a prompt by themselves. Where they part, the two best logits must be closer than the difference measured; the
smallest margin of the text says how hard the question was. Exit 1 where a bound is passed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.parts.feedforward import gelu
from picolab.trace.engines.engine import Engine
from picolab.trace.engines.here import Here
from picolab.trace.engines.llama_cpp import LlamaCpp
from picolab.trace.engines.transformers import Transformers
from picolab.weights.checkpoint import save_model
from picolab.weights.formats import open_checkpoint
from picolab.weights.gguf.write import write_gguf
from picolab.zoo import build

from harness import finish

SIZES = {"vocab_size": 307, "context_length": 320, "d_model": 96, "n_layers": 3, "n_heads": 6, "d_ff": 160}
ROTARY = {**SIZES, "n_kv_heads": 2, "rope_theta": 137.0, "norm_eps": 3e-4}
YARN = {"kind": "yarn", "factor": 2.9, "original_context_length": 110}
"""With the published ends of the ramp: llama.cpp reads no others from the file of a qwen2."""

LLAMA3 = {
    "kind": "llama3", "factor": 3.7, "original_context_length": 190, "low_freq_factor": 1.3, "high_freq_factor": 3.1
}  # fmt: skip

TWINS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {**SIZES, "norm_eps": 3e-4}),
    "gpt2 untied": ("gpt2", {**SIZES, "norm_eps": 3e-4, "tied": False}),
    "llama": ("llama", {**ROTARY, "head_dim": 32}),
    "llama tied": ("llama", {**ROTARY, "head_dim": 32, "tied": True}),
    "llama scaled as llama3": ("llama", {**ROTARY, "head_dim": 32, "rope_scaling": LLAMA3}),
    "qwen2": ("qwen2", {**ROTARY, "tied": False}),
    "qwen2 tied": ("qwen2", ROTARY),
    "qwen2 scaled by yarn": ("qwen2", {**ROTARY, "rope_scaling": YARN}),
    "qwen3": ("qwen3", {**ROTARY, "head_dim": 32, "tied": False}),
    "qwen3 tied": ("qwen3", {**ROTARY, "head_dim": 32}),
    "mistral": ("mistral", {**ROTARY, "head_dim": 32, "window": 21}),
    "gpt_oss": ("gpt_oss", {**ROTARY, "head_dim": 32, "window": 21}),
    "nanochat": ("nanochat", {**ROTARY, "head_dim": 32}),
}
"""Three query heads a key head, a head_dim that is not d_model / n_heads where the formats allow it."""

TRAINED = "stories260K, trained"
STORIES = Path(os.environ.get("PICOLAB_SHARED", "../shared")) / "data" / "stories260K" / "stories260K.gguf"

TABLE = "gpt2, GELU looked up here too"
"""llama.cpp looks GELU up in a table of half-precision numbers; with the same table here what is left is what else differs."""


@dataclass
class Row:
    """What was measured of one twin in one engine, the worst of all seeds."""

    twin: str
    engine: str
    version: str
    f32: tuple[float, float] = (0.0, 0.0)
    q8: tuple[float, float] | None = None
    q8_rounded: float | None = None
    same: int = 0
    of: int = 0
    margin: float = float("inf")
    parted: list[tuple[float, float]] = field(default_factory=list)


def main(args: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    rows: dict[tuple[str, str], Row] = {}
    for seed in range(args.seeds):
        for twin in [*TWINS, *([TRAINED] if STORIES.exists() else [])]:
            with tempfile.TemporaryDirectory() as name:
                for row in measure(twin, seed, Path(name), args):
                    merge(rows, row)
    report(list(rows.values()), args)
    return any(
        max(row.f32) > BOUNDS[row.engine] or any(margin > noise for margin, noise in row.parted)
        for row in rows.values()
    )


BOUNDS = {"transformers": 1e-5, "llama.cpp": 1e-3}


def measure(twin: str, seed: int, folder: Path, args: argparse.Namespace) -> list[Row]:
    """One twin in every engine that can open it."""
    model = open_checkpoint(STORIES)[0] if twin == TRAINED else randomised(twin, seed)
    generator = torch.Generator().manual_seed(1000 + seed)
    tokens = torch.randint(0, model.config.vocab_size, (args.prompt + args.steps,), generator=generator).tolist()
    save_model(model, None, folder / "hub")
    rows = [one(twin, "transformers", Here(model), Transformers.open(folder / "hub"), tokens, args)]
    try:
        write_gguf(model, None, folder / "f32.gguf")
    except BadInput:  # no place in the format
        return rows
    write_gguf(model, None, folder / "q8.gguf", kind="Q8_0")
    rows.append(one(twin, "llama.cpp", Here(model), LlamaCpp.open(folder / "f32.gguf"), tokens, args))
    quantised, theirs = Here(open_checkpoint(folder / "q8.gguf")[0]), LlamaCpp.open(folder / "q8.gguf")
    rows[-1].q8 = apart(quantised, theirs, tokens, args.prompt)
    if model.architecture == "gpt2":
        look_up(quantised.model)
    with Rounding():
        short = [tokens[start : start + 4] for start in range(0, args.prompt, 4)]
        rows[-1].q8_rounded = statistics.median(apart(quantised, theirs, text, 3)[1] for text in short)
    if twin == "gpt2":
        look_up(model)
        rows.append(one(TABLE, "llama.cpp", Here(model), LlamaCpp.open(folder / "f32.gguf"), tokens, args))
    return rows


def one(twin: str, name: str, ours: Engine, theirs: Engine, tokens: Sequence[int], args: argparse.Namespace) -> Row:
    row = Row(twin, name, theirs.name, f32=apart(ours, theirs, tokens, args.prompt), of=args.greedy)
    prompt = tokens[: args.prompt // 4]
    mine, margins = greedy(ours, prompt, args.greedy)
    other, _ = greedy(theirs, prompt, args.greedy)
    row.same = next((i for i, (a, b) in enumerate(zip(mine, other, strict=True)) if a != b), args.greedy)
    row.margin = min(margins[: row.same + 1])
    if row.same < args.greedy:
        row.parted = [(margins[row.same], row.f32[1])]
    return row


def apart(ours: Engine, theirs: Engine, tokens: Sequence[int], prompt: int) -> tuple[float, float]:
    """Largest relative difference in the prefill, and in the steps after it."""
    ours.forget()
    theirs.forget()
    first = difference(ours.read(tokens[:prompt]), theirs.read(tokens[:prompt]))
    steps = [(ours.read([token]), theirs.read([token])) for token in tokens[prompt:]]
    mine, other = (torch.cat(logits) for logits in zip(*steps, strict=True))
    return first, difference(mine, other)


def difference(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / a.abs().max()).item()


def greedy(engine: Engine, prompt: Sequence[int], count: int) -> tuple[list[int], list[float]]:
    """The most probable text, and by how much its tokens were: best less second best, relative to the largest logit."""
    engine.forget()
    logits, found, margins = engine.read(prompt)[-1], [], []
    for _ in range(count):
        best = logits.topk(2).values
        margins.append(((best[0] - best[1]) / logits.abs().max()).item())
        found.append(int(logits.argmax()))
        logits = engine.read(found[-1:])[-1]
    return found, margins


def randomised(twin: str, seed: int) -> LanguageModel:
    """Every parameter random, and large enough that attention is far from uniform."""
    architecture, settings = TWINS[twin]
    model = build(architecture, settings).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.7 if parameter.ndim == 1 else 1.2 * parameter.shape[-1] ** -0.5
            parameter.copy_(float(parameter.ndim == 1) + scale * torch.randn(parameter.shape, generator=generator))
    return model


def look_up(model: LanguageModel) -> None:
    """Let a GPT-2 compute GELU as llama.cpp does: in half precision before and after."""

    def looked_up(x: Tensor) -> Tensor:
        value = gelu(x.half().float()).half().float()
        return torch.where(x <= -10, 0.0, torch.where(x >= 10, x, value))

    for block in model.blocks:
        block.mlp.activation = looked_up


class Rounding(TorchFunctionMode):
    """While open, what a matrix is multiplied with is rounded as llama.cpp rounds it: for a matrix in Q8_0, 32 numbers at a time to
    eight bits and a scale in half precision; for one whose rows are no multiple of 32, and so in F16, each to half precision."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.linear:
            args = (_rounded(args[0]), *args[1:])
        return func(*args, **(kwargs or {}))


def _rounded(x: Tensor) -> Tensor:
    if x.shape[-1] % 32:
        return x.half().float()
    blocks = x.unflatten(-1, (-1, 32))
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    return (torch.where(scale > 0, torch.round(blocks * (1 / scale)), 0.0) * scale.half().float()).flatten(-2)


def merge(rows: dict[tuple[str, str], Row], row: Row) -> None:
    """Keep the worst of all seeds."""
    before = rows.setdefault((row.twin, row.engine), row)
    if before is row:
        return
    before.f32 = _worse(before.f32, row.f32)
    if before.q8 is not None and row.q8 is not None:
        before.q8 = _worse(before.q8, row.q8)
    before.q8_rounded = max(before.q8_rounded or 0.0, row.q8_rounded or 0.0) or None
    before.same, before.of = before.same + row.same, before.of + row.of
    before.margin = min(before.margin, row.margin)
    before.parted += row.parted


def _worse(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return max(a[0], b[0]), max(a[1], b[1])


def report(rows: Sequence[Row], args: argparse.Namespace) -> None:
    """Print the table and keep it."""
    lines = []
    for row in rows:
        figures = [*row.f32, *(row.q8 or (None, None)), row.q8_rounded]
        parted = ", ".join(f"{margin:.0e} where {noise:.0e} is noise" for margin, noise in row.parted) or "never"
        shown = ["" if figure is None else f"{figure:.1e}" for figure in figures]
        lines.append([row.twin, row.engine, *shown, f"{row.same} of {row.of}", f"{row.margin:.0e}", parted])
    columns = ["twin", "against", "F32 prefill", "F32 steps", "Q8_0 prefill", "Q8_0 steps", "Q8_0, rounded here too"]
    finish(
        "parity",
        "Logits and greedy texts against other engines",
        [*columns, "greedy the same", "smallest margin", "parted at a margin of"],
        lines,
        [
            f"largest difference of any logit relative to the largest, the worst of {args.seeds} random models: a prompt of "
            f"{args.prompt} random tokens read at once, then {args.steps} one at a time; 0 means the same bits",
            f"greedy: {args.greedy} tokens in F32 for each model; margins are between the two best logits, relative to the largest",
            "a mistral with its window, a nanochat and the reduced gpt-oss have no GGUF; a Hugging Face folder holds no Q8_0",
            "llama.cpp looks GELU up in a table of half-precision numbers, and rounds what it multiplies a Q8_0 weight with to "
            "eight bits; done here too, only numbers that lie between two roundings differ, and what later layers make of them: "
            "so the last figure of Q8_0 is the median of texts of four tokens",
            "against " + " and ".join(sorted({row.version for row in rows})),
        ],
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"seeds": 3, "prompt": 64, "steps": 32, "greedy": 200}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    return parser.parse_args()


if __name__ == "__main__":
    warnings.simplefilter("error")
    sys.exit(main(arguments()))
