"""picolab from Python: the few names a notebook needs. `import picolab` offers them all.

load(reference) -> model, which carries its tokenizer -> generate(model, prompt) -> text
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.runs.reference import open_reference
from picolab.sample import generate as sample
from picolab.sample.pick import Sampler
from picolab.text.chat import render
from picolab.text.tokenizer import Tokenizer
from picolab.trace.record import record

__all__ = ["generate", "load", "record"]


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
