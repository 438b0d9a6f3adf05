"""What is compared with the reference? A bundle of any engine's numbers, or a model that is run now, here or by another engine.

folder with trace.json        what it recorded, on its own tokens and in its own passes
a reference                   run here, or by transformers or llama.cpp, on the tokens asked for
file.py:function              somebody's code: its logits; it may offer more
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from picolab.diagnose.verify_against import open_elsewhere
from picolab.errors import BadInput
from picolab.runs.foreign import is_code, open_callable
from picolab.runs.foreign_engine import Foreign
from picolab.runs.reference import Opened, open_reference
from picolab.trace.bundle import TRACE, read_bundle
from picolab.trace.elsewhere import record_engine
from picolab.trace.engines.engine import Engine
from picolab.trace.engines.here import Here
from picolab.trace.recording import PREFILL, Entry, Recording

STEPS = 3
"""Decode steps of a comparison, where nobody says how many."""


def recording_of(
    target: str,
    tokens: Sequence[int],
    *,
    engine: str = "picolab",
    prefill: int | None = None,
    tokenizer: str | None = None,
) -> tuple[Recording, tuple[str, ...]]:
    """What the target computes, and what should be said about it."""
    if (Path(target) / TRACE).exists():
        return read_bundle(Path(target)), ()
    if not tokens:
        raise BadInput("no tokens to compare on", hint="--prompt TEXT or --tokens 5,17,200")
    first = max(len(tokens) - STEPS, 1) if prefill is None else prefill
    if is_code(target):
        code = open_callable(target)
        return _logits_of(Foreign(code), tokens, first), code.notes
    opened = open_reference(target, tokenizer=tokenizer)
    if engine == "picolab":
        return record_engine(Here(opened.model, opened.tokenizer), tokens, prefill=first), opened.notes
    return _by_another(engine, opened, tokens, first)


def _by_another(engine: str, opened: Opened, tokens: Sequence[int], prefill: int) -> tuple[Recording, tuple[str, ...]]:
    with TemporaryDirectory(prefix="picolab-diff-") as folder:
        other = open_elsewhere(engine, opened, Path(folder), seed=0, longest=64, code=False)
        return record_engine(other.engine, tokens, prefill=prefill), (*opened.notes, *other.notes)


def _logits_of(engine: Engine, tokens: Sequence[int], prefill: int) -> Recording:
    """The logits of an engine that shows nothing else, in the passes asked for."""
    import torch

    recording = Recording(engine=engine.name, tokens=torch.tensor([list(tokens)]))
    engine.forget()
    passes = [tuple(range(prefill)), *((p,) for p in range(prefill, len(tokens)))]
    for number, positions in enumerate(passes):
        phase, step = (PREFILL, 0) if number == 0 else ("decode", number - 1)
        logits = engine.read([tokens[p] for p in positions])[None]
        recording.entries.append(Entry("logits", phase, step, positions, "batch time vocab", logits))
    return recording
