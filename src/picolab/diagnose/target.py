"""What is compared with the reference? A bundle of any engine's numbers, or a model that is run now, here or by another engine.

folder with trace.json        what it recorded, on its own tokens and in its own passes
a reference                   run here, or by transformers or llama.cpp, on the tokens asked for
file.py:function              somebody's code: its logits; it may offer more
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from picolab.diagnose.verify_against import open_elsewhere
from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.runs.foreign import Code, is_code, open_callable
from picolab.runs.foreign_engine import Foreign
from picolab.runs.reference import Opened, open_reference
from picolab.trace.bundle import TRACE, read_bundle
from picolab.trace.elsewhere import record_engine
from picolab.trace.engines.engine import Engine
from picolab.trace.engines.here import Here
from picolab.trace.recording import PREFILL, Entry, Recording

STEPS = 3
"""Decode steps of a comparison, where nobody says how many."""

STEADY = 1e-3
"""Relative: how far two runs of one engine may be apart, threads that add in another order included."""

SECONDS = 60.0
"""For one answer of somebody's code."""

TARGETS = "a model, a callable tokens -> logits, a recording, a bundle's folder, file.py:function"

DTYPES: dict[str, torch.dtype] = {
    **dict.fromkeys(("float32", "fp32", "f32", "float"), torch.float32),
    **dict.fromkeys(("float64", "fp64", "f64", "double"), torch.float64),
    **dict.fromkeys(("float16", "fp16", "f16", "half"), torch.float16),
    **dict.fromkeys(("bfloat16", "bf16"), torch.bfloat16),
}
"""What engines call the types they compute in."""


def is_bundle(name: str | Path) -> bool:
    """Whether a name means a trace bundle."""
    try:
        return (Path(name) / TRACE).exists()
    except (OSError, ValueError):  # a name no file can have
        return False


def recording_of(
    target: str,
    tokens: Sequence[int],
    *,
    engine: str = "picolab",
    prefill: int | None = None,
    tokenizer: str | None = None,
    text: str | None = None,
) -> tuple[Recording, tuple[str, ...]]:
    """What the target computes, and what should be said about it.

    It reads `tokens`; of a `text`, where one is given and the target has a tokenizer of its own, what that makes of it.
    """
    if is_bundle(target):
        return read_bundle(Path(target)), ()
    if not tokens:
        raise BadInput("no tokens to compare on", hint="--prompt TEXT or --tokens 5,17,200")
    first = max(len(tokens) - STEPS, 1) if prefill is None else prefill
    if is_code(target):
        code = open_callable(target, seconds=SECONDS)
        if isinstance(code.call, LanguageModel):
            return record_engine(Here(code.call), tokens, prefill=first), code.notes
        engine_of_code = Foreign(code, seconds=SECONDS)
        return _steady(engine_of_code, tokens, first), (*code.notes, *engine_of_code.notes)
    opened = open_reference(target, tokenizer=tokenizer)
    if text is not None and opened.tokenizer is not None:
        tokens = [*opened.tokenizer.opening, *opened.tokenizer.encode(text)]
        first = max(len(tokens) - STEPS, 1) if prefill is None else prefill
    if engine == "picolab":
        return record_engine(Here(opened.model, opened.tokenizer), tokens, prefill=first), opened.notes
    return _by_another(engine, opened, tokens, first)


def _by_another(engine: str, opened: Opened, tokens: Sequence[int], prefill: int) -> tuple[Recording, tuple[str, ...]]:
    with TemporaryDirectory(prefix="picolab-diff-") as folder:
        other = open_elsewhere(engine, opened, Path(folder), seed=0, longest=64, code=False)
        return record_engine(other.engine, tokens, prefill=prefill), (*opened.notes, *other.notes)


def recording_of_module(module: Any, tokens: Sequence[int], prefill: int | None = None) -> Recording:
    """The logits of any module or callable that turns tokens into logits; its other values have no names that are known here."""
    if not callable(module):
        raise BadInput(f"the target is of type {type(module).__name__}, no model", hint=TARGETS)
    if not tokens:
        raise BadInput("no tokens to compare on", hint="diff(reference, target, tokens=[5, 17, 200])")
    first = max(len(tokens) - STEPS, 1) if prefill is None else prefill
    engine = Foreign(
        Code(call=module, source=type(module).__name__, path=Path(type(module).__name__), notes=()), seconds=SECONDS
    )
    return _steady(engine, tokens, first)


def dtype_of(recording: Recording) -> tuple[torch.dtype, tuple[str, ...]]:
    """The type a recording says it was made in; float32, and a note, where that is no type of numbers here."""
    dtype = DTYPES.get(recording.dtype.removeprefix("torch.").lower())
    if dtype is not None:
        return dtype, ()
    return torch.float32, (f"`{recording.dtype[:40]}` is no type known here: rounding is judged as in float32",)


def _steady(engine: Engine, tokens: Sequence[int], prefill: int) -> Recording:
    """The logits of an engine that gives the same twice; one that does not is refused, since no difference would mean a thing."""
    once, again = (_logits_of(engine, tokens, prefill) for _ in range(2))
    for one, other in zip(once.entries, again.entries, strict=True):
        a, b = one.value.double(), other.value.double()
        size = float(a.nan_to_num(0.0, 0.0, 0.0).square().mean().sqrt()) or 1.0
        gap = float((a - b).nan_to_num(0.0, 0.0, 0.0).abs().max()) / size
        if gap > STEADY or not torch.equal(a.isfinite(), b.isfinite()):
            raise BadInput(
                f"{engine.name} is not deterministic: the same {len(tokens)} tokens twice give logits that differ by {gap:.2g}"
                " of their size",
                hint="dropout still on (call .eval()), a random choice, memory that is read before it is written",
            )
    return once


def _logits_of(engine: Engine, tokens: Sequence[int], prefill: int) -> Recording:
    """The logits of an engine that shows nothing else, in the passes asked for."""
    recording = Recording(engine=engine.name, tokens=torch.tensor([list(tokens)]))
    engine.forget()
    passes = [tuple(range(prefill)), *((p,) for p in range(prefill, len(tokens)))]
    for number, positions in enumerate(passes):
        phase, step = (PREFILL, 0) if number == 0 else ("decode", number - 1)
        logits = engine.read([tokens[p] for p in positions])[None]
        recording.entries.append(Entry("logits", phase, step, positions, "batch time vocab", logits))
    return recording
