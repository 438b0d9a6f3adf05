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
from picolab.text.tokenizer import Tokenizer

__all__ = ["generate", "load"]


def load(reference: str | Path, *, tokenizer: str | None = None, seed: int = 0, **settings: Any) -> LanguageModel:
    """The model a reference means: token ids `(batch, time)` int64 to logits `(batch, time, vocab)`, in evaluation mode.

    `reference` is a run (folder, name or `last`), a checkpoint folder, or a preset, whose weights are random and decided
    by `seed` and which takes `settings` of its own: `load("softmax-pico", vocab_size=50257)`. Without `vocab_size` a preset
    gets the vocabulary of `tokenizer`, `bytes` if not given. `model.tokenizer` is the model's tokenizer, or None.

    Raises `UnknownName` where nothing is called so, `BadCheckpoint` for a torn or foreign folder.
    """
    opened = open_reference(reference, tokenizer=tokenizer, seed=seed, **settings)
    opened.model.tokenizer = opened.tokenizer  # type: ignore[assignment]
    return opened.model


def generate(
    model: LanguageModel,
    prompt: str = "",
    *,
    tokenizer: Tokenizer | None = None,
    max_new_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop: Sequence[str] = (),
    seed: int = 0,
) -> str:
    """What the model writes after the prompt, the prompt itself left out; the same seed writes the same text.

    `tokenizer` is the model's own if not given. `temperature` 0 is greedy; `top_k`, `top_p` and `min_p` narrow the choice
    (see `picolab.sample.pick.Sampler`). The text ends where the model ends it, before a `stop` string, after
    `max_new_tokens`, or at the end of the model's context. `picolab.sample.generate` writes many texts at once and says
    why each ended.

    Raises `BadInput` for a prompt the model cannot read, `BadSetting` for a setting that makes no sense.
    """
    reads = tokenizer or getattr(model, "tokenizer", None)
    if not isinstance(reads, Tokenizer):
        raise BadInput("the model has no tokenizer", hint="picolab.generate(model, prompt, tokenizer=...)")
    sampler = Sampler(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty
    )
    (written,) = sample.generate(
        model, reads, prompt, max_new_tokens=max_new_tokens, sampler=sampler, seed=seed, stop=stop
    )
    return written.text
