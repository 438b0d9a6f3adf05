"""picolab from Python: the few names a notebook needs. `import picolab` offers them all.

load(reference) -> model, which carries its tokenizer -> generate(model, prompt) -> text
diagnose(model) -> what is wrong with it          diff(reference, target, tokens=..) -> which line is wrong
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from picolab.diagnose.diff import diff as compare
from picolab.diagnose.doctor import patient_of
from picolab.diagnose.laws.catalogue import LAWS
from picolab.diagnose.laws.law import Finding, Patient, examine
from picolab.diagnose.target import is_bundle, recording_of
from picolab.diagnose.theirs import patient_of_call
from picolab.diagnose.verdict import Verdict
from picolab.diagnose.walk import schedule_of
from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.runs.foreign import Code
from picolab.runs.reference import open_reference
from picolab.sample import generate as sample
from picolab.sample.pick import Sampler
from picolab.text.chat import render
from picolab.text.tokenizer import Tokenizer
from picolab.trace.bundle import read_bundle
from picolab.trace.record import record
from picolab.trace.recording import Recording

__all__ = ["diagnose", "diff", "generate", "load", "record"]


def load(
    reference: str | Path, *, tokenizer: str | None = None, seed: int = 0, dtype: str = "float32", **settings: Any
) -> LanguageModel:
    """The model a reference means: token ids `(batch, time)` int64 to logits `(batch, time, vocab)`, in evaluation mode.

    `reference` is a run (folder, name or `last`), a checkpoint folder, or a preset, whose weights are random and decided
    by `seed` and which takes `settings` of its own: `load("softmax-pico", vocab_size=50257)`. Without `vocab_size` a preset
    gets the vocabulary of `tokenizer`, `bytes` if not given. `model.tokenizer` is the model's tokenizer, or None.
    `dtype` says how weights are kept in memory: float32, bfloat16, float16, int8 or stored (as in the file); a model kept as one
    of the last two is for reading, not for training.

    Raises `UnknownName` where nothing is called so, `BadCheckpoint` for a torn or foreign folder.
    """
    opened = open_reference(reference, tokenizer=tokenizer, seed=seed, dtype=dtype, **settings)
    opened.model.tokenizer = opened.tokenizer  # type: ignore[assignment]
    return opened.model


def generate(
    model: LanguageModel,
    prompt: str | Sequence[int] = "",
    *,
    tokenizer: Tokenizer | None = None,
    max_new_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop: Sequence[str] = (),
    ignore_eot: bool = False,
    chat: bool = False,
    system: str | None = None,
    speculate: int = 0,
    compiled: bool = False,
    seed: int = 0,
) -> str:
    """What the model writes after the prompt, the prompt itself left out; the same seed writes the same text.

    A prompt may be token ids, which are read as they are; a model without a tokenizer reads nothing else and answers with ids
    divided by commas. With `chat` the prompt is what a user says to a model that converses, and `system` who it is to be.
    `tokenizer` is the model's own if not given. `temperature` 0 is greedy; `top_k`, `top_p` and `min_p` narrow the choice
    (see `picolab.sample.pick.Sampler`). The text ends where the model ends it, before a `stop` string, after
    `max_new_tokens`, or at the end of the model's context; `ignore_eot` writes on where the model would end it. `speculate`
    tokens are guessed a pass, and `compiled` lets torch compile the step: faster, the same text. `picolab.sample.generate` writes
    many texts at once and says why each ended.

    Raises `BadInput` for a prompt the model cannot read, `BadSetting` for a setting that makes no sense.
    """
    reads = tokenizer or getattr(model, "tokenizer", None)
    if not isinstance(reads, Tokenizer):
        if isinstance(prompt, str) or chat:
            raise BadInput("the model has no tokenizer", hint="picolab.generate(model, prompt, tokenizer=...)")
        reads = None
    if chat and reads is not None:
        before = [] if system is None else [{"role": "system", "content": system}]
        prompt = render(reads, [*before, {"role": "user", "content": prompt}])
    elif system is not None:
        raise BadInput("`system` is for models that converse", hint="picolab.generate(model, prompt, chat=True, ...)")
    sampler = Sampler(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty
    )
    (written,) = sample.generate(
        model,
        reads,
        prompt if isinstance(prompt, str) else [prompt],
        max_new_tokens=max_new_tokens,
        sampler=sampler,
        seed=seed,
        stop=stop,
        ignore_eot=ignore_eot,
        speculation=sample.Speculation(k=speculate) if speculate else None,
        compiled=compiled,
    )
    return written.text if reads is not None else written.text.removeprefix(",")


def diagnose(model: nn.Module | Any, *, trained: bool | None = None, seed: int = 0) -> list[Finding]:
    """What laws that hold of every correct language model say of this one: a list of findings, each pass, fail or skip.

    `model` is one of the zoo, any module or callable that turns token ids `(batch, time)` int64 into logits, or what `load`
    takes: a run, a checkpoint, a preset, `file.py:function`. Nothing of it is changed. `trained` says whether it has learned
    anything, where that is not known; laws about behaviour are skipped otherwise. A finding says what was measured, and what to
    look at.

    Raises `UnknownName` where nothing is called so, `BadInput` for an object that gives no logits.
    """
    if isinstance(model, str | Path):
        return examine(patient_of(str(model), seed=seed)[0], LAWS)
    if isinstance(model, LanguageModel):
        tokenizer = getattr(model, "tokenizer", None)
        words = tokenizer if isinstance(tokenizer, Tokenizer) else None
        modes = [(module, module.training) for module in model.modules()]
        try:
            return examine(Patient.of(model, tokenizer=words, trained=trained, seed=seed), LAWS)
        finally:
            for module, training in modes:
                module.training = training
    if not callable(model):
        raise BadInput(f"a {type(model).__name__} is no model", hint="a module, a callable tokens -> logits, or a name")
    name = type(model).__name__
    return examine(patient_of_call(Code(call=model, source=name, path=Path(name), notes=()), seed=seed)[0], LAWS)


def diff(
    reference: LanguageModel | Recording | str | Path,
    target: nn.Module | Recording | str | Path | Any,
    *,
    tokens: Sequence[int] = (),
    prefill: int | None = None,
) -> Verdict:
    """Where the target departs from the reference, which line of mathematics is wrong there, and the proof.

    `reference` is a model here, or what `load` takes; `target` is a model, any module or callable tokens -> logits, a recording
    of any engine, or a name: a run, a checkpoint, the folder of a trace bundle, `file.py:function`. Both read `tokens`, the first
    `prefill` at once (all but the last three, if not said), the rest one by one; a recording or bundle has read its own, and
    `tokens`, where given, are those it should have read. Errors are relative to the usual size of a position's values.
    A reference may be a recording or a bundle too: then where both part is told, and causes are leads only.

    Raises `BadInput` where there is nothing to compare, or the target fails, or gives other numbers every time.
    """
    words = None
    right: LanguageModel | Recording
    if isinstance(reference, str | Path):
        if is_bundle(reference):
            right = read_bundle(Path(reference))
        else:
            opened = open_reference(reference)
            right, words = opened.model, opened.tokenizer
    else:
        right = reference
        own = getattr(reference, "tokenizer", None)
        words = own if isinstance(own, Tokenizer) else None
    if isinstance(target, str | Path):
        schedule = schedule_of(right) if isinstance(right, Recording) else None
        ids, first = (tokens, prefill) if schedule is None else (schedule.tokens, schedule.prefill)
        target, _ = recording_of(str(target), ids, prefill=first)
    elif not isinstance(target, Recording) and not tokens and not isinstance(right, Recording):
        raise BadInput("no tokens to compare on", hint="picolab.diff(reference, target, tokens=[5, 17, 200])")
    return compare(right, target, tokens=tokens, prefill=prefill, words=words)
