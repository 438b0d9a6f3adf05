"""Is the model that was written the model that was meant? Opened again, it must hold the same numbers, say and spell the same.

    tensors     each within the rounding of its type: none for F32, 2^-11 of itself for F16, half a step of its block for Q8_0
    logits      of both on the same random tokens: bit for bit where nothing was rounded, else the difference is measured
    tokenizer   ids and text of the same texts, the tokens that open and end one

The first finds a tensor in another's place or rows in another's order, even where rounding hides it from the second.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from picolab.errors import BadData
from picolab.models.contract import LanguageModel
from picolab.text.tokenizer import Tokenizer

ROWS, POSITIONS = 2, 64
"""Random tokens that both models read."""

REORDERED = 1e-5
"""Of the largest logit: what another order of additions, or a rope frequency computed another way round, may change."""

TEXTS = (
    "Once upon a time, there was a little girl named Lily.",
    "  Two spaces first, 12345 digits, don't stop;\n\n\ttabs and lines\r\n",
    "naïve café, 東京の夜, 🌹🌹, ½ + ¼ = ¾, e\u0301, \u00a0 no-break",
    "<s> </s> <|endoftext|> <unk> <0x41> ▁ \x00\x1b[31m",
    "",
    " ",
)
DRAWN = 50
"""Texts made of random tokens, beside those."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Likeness:
    """How a model that was opened again differs from the one that was written.

    `strayed` names the parameters that differ by more than the rounding of their type; `exact` says that every logit is the
    same bit for bit; `largest` is the largest difference of a logit over the largest logit, `relative` the norm of all
    differences over that of all logits; `agreeing` is the share of positions with the same best token. `unlike` is the first
    thing in which the tokenizers differ, in words; `texts` is how many were compared.
    """

    strayed: tuple[str, ...]
    exact: bool
    largest: float
    relative: float
    agreeing: float
    positions: int
    rounded: bool
    texts: int = 0
    unlike: str | None = None

    @property
    def faithful(self) -> bool:
        """Whether it is the same model, but for the rounding that was asked for."""
        sound = self.largest == self.largest and (self.rounded or self.largest <= REORDERED)
        return not self.strayed and self.unlike is None and sound


@torch.inference_mode()
def compare(
    model: LanguageModel, again: LanguageModel, types: Mapping[str, str], *, rounded: bool, seed: int = 0
) -> Likeness:
    """Hold what was opened `again` against the model; `types` says how each parameter was written."""
    random_tokens = torch.Generator().manual_seed(seed)
    shape = (ROWS, min(POSITIONS, model.config.context_length))
    tokens = torch.randint(0, model.config.vocab_size, shape, generator=random_tokens)
    ours, theirs = model(tokens).float(), again(tokens).float()
    gap = ours - theirs
    return Likeness(
        strayed=tuple(_strayed(model.state_dict(), again.state_dict(), types)),
        exact=torch.equal(ours, theirs),
        largest=float(gap.abs().max() / ours.abs().max().clamp(min=1e-30)),
        relative=float(gap.norm() / ours.norm().clamp(min=1e-30)),
        agreeing=float((ours.argmax(-1) == theirs.argmax(-1)).float().mean()),
        positions=tokens.numel(),
        rounded=rounded,
    )


def unlike(tokenizer: Tokenizer, again: Tokenizer, *, seed: int = 0) -> tuple[str | None, int]:
    """The first thing in which a tokenizer that was opened again differs, in words; and how many texts were compared."""
    for name in ("opening", "ends", "eot"):
        if getattr(tokenizer, name) != getattr(again, name):
            return f"`{name}` is {getattr(again, name)}, not {getattr(tokenizer, name)}", 0
    drawn = random.Random(seed)
    texts = [*TEXTS, *(tokenizer.decode(_some_ids(tokenizer, drawn)) for _ in range(DRAWN))]
    compared = 0
    for text in texts:
        try:
            ids = tokenizer.encode(text)
        except BadData:  # characters or integers it does not know: nothing to compare
            continue
        compared += 1
        found = again.encode(text)
        if found != ids or again.decode(found) != tokenizer.decode(ids):
            return f"{text[:40]!r} is {found[:12]}, not {ids[:12]}", compared
    return None, compared


def _some_ids(tokenizer: Tokenizer, drawn: random.Random) -> list[int]:
    return [drawn.randrange(tokenizer.vocab_size) for _ in range(drawn.randrange(1, 24))]


def _strayed(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], types: Mapping[str, str]) -> Sequence[str]:
    """Parameters that are not what their type makes of them; one that only the format has must be zero."""
    wrong = [name for name, tensor in theirs.items() if name not in ours and tensor.any()]
    for name, tensor in ours.items():
        again = theirs.get(name)
        if again is None or again.shape != tensor.shape or not _within(tensor, again, types.get(name, "F32")):
            wrong.append(name)
    return wrong


def _within(tensor: Tensor, again: Tensor, kind: str) -> bool:
    """Whether a tensor is another, rounded as numbers of this type are."""
    if not tensor.is_floating_point():
        return torch.equal(tensor, again)
    numbers = tensor.float()
    if kind == "F32":
        return torch.equal(numbers, again.float())
    return bool(((numbers - again.float()).abs() <= _rounding(numbers, kind)).all())


def _rounding(numbers: Tensor, kind: str) -> Tensor:
    if kind == "Q8_0":
        # A block is stored as whole steps of its largest number / 127; the step itself is a float16.
        largest = numbers.unflatten(-1, (-1, 32)).abs().amax(-1).repeat_interleave(32, -1)
        return largest / 127 * (0.5 + 127 * 2**-11) * 1.001 + 127 * 2**-25
    return {"F16": numbers.abs() * 2**-11 + 2**-25, "BF16": numbers.abs() * 2**-8 + 2**-134}[kind]
