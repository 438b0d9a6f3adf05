"""What has a model learned of integer sequences? Each family against the best possible: rules it saw, others, longer texts.

    train validation test    documents of the three parts, which share no rule          excess, accuracy on determined numbers
    2x 4x                    all rules, twice and four times the longest document       the same of numbers beyond that length

Only for data that is `numeric` and nothing else, read as integers: there the exact law is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from picolab.compare.bands import Band, band, band_or_none
from picolab.data.corpus import numeric_world
from picolab.data.dataset import Dataset, Store
from picolab.data.numeric import World, sample
from picolab.data.split import SPLITS
from picolab.data.store import Mixture
from picolab.errors import BadSetting
from picolab.measure.sequences import FamilyScore, score_sequences
from picolab.models.contract import LanguageModel
from picolab.text.tokenizer import Tokenizer

TIMES = (2, 4)
"""How much longer than the longest document of training."""
DOCUMENTS, LONGER_DOCUMENTS = 600, 100
"""Read of each part: the excess of a family is then known to about a hundredth of a nat."""
ENOUGH = 20
"""Determined numbers that make a share of them worth saying; a random walk has a few by chance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Documents of one kind, at most `longest` numbers each, and how every family of them was predicted."""

    name: str
    longest: int
    scores: tuple[FamilyScore, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sequences:
    """One run. `table` says whether positions are a learned table, of which the rows beyond the longest document never learned."""

    model: str
    seed: int
    table: bool
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyRow:
    """One model, part and family over seeds; `accuracy` is None where too few numbers are determined."""

    model: str
    part: str
    longest: int
    family: str
    documents: int
    determined: int
    floor: float
    excess: Band
    ending: float
    accuracy: Band | None


def numeric_data(spec: str) -> bool:
    """Whether a spec is integer sequences and nothing else."""
    return spec.partition(":")[0] == "numeric" and "," not in spec


def study_sequences(
    model: LanguageModel, tokenizer: Tokenizer, dataset: Dataset, spec: str, *, name: str, seed: int
) -> Sequences | None:
    """What the model learned of the families; None where the data is something else, or its numbers are no tokens."""
    if not numeric_data(spec) or tokenizer.kind != "integers":
        return None
    world, _ = numeric_world(spec)
    parts: list[tuple[str, World, list[tuple[int, ...]], int | None]] = [
        (part, world, _documents(dataset.part(part), tokenizer), None) for part in SPLITS
    ]
    for times in TIMES:
        longer = longer_world(world, times)
        # The last number is predicted, not read: so many tokens as numbers.
        if longer is not None and longer.longest <= model.config.context_length:
            drawn = [example.numbers for example in sample(longer, LONGER_DOCUMENTS, seed=times)]
            parts.append((f"{times}x", longer, drawn, world.longest))
    return Sequences(
        model=name,
        seed=seed,
        table=hasattr(model, "position_embedding"),
        parts=tuple(
            Part(
                name=part,
                longest=its_world.longest,
                scores=score_sequences(model, tokenizer, documents, its_world, beyond=beyond),
            )
            for part, its_world, documents, beyond in parts
            if documents
        ),
    )


@lru_cache(maxsize=16)
def longer_world(world: World, times: int) -> World | None:
    """Documents of exactly so many times the longest length, of the families that stay in range for so long; None if none does."""
    length = times * world.longest
    families = tuple(family for family in world.families if _fits(world, family, length))
    return replace(world, families=families, shortest=length, longest=length) if families else None


def by_family(studies: Sequence[Sequences]) -> tuple[FamilyRow, ...]:
    """The studies of several models and seeds, a row for each model, part and family, in the order they come."""
    found: dict[tuple[str, str, str], list[tuple[Part, FamilyScore]]] = {}
    for study in studies:
        for part in study.parts:
            for score in part.scores:
                found.setdefault((study.model, part.name, score.family), []).append((part, score))
    return tuple(
        FamilyRow(
            model=model,
            part=part,
            longest=some[0][0].longest,
            family=family,
            documents=max(score.documents for _, score in some),
            determined=max(score.determined for _, score in some),
            floor=float(np.mean([score.floor for _, score in some])),
            excess=band([score.excess for _, score in some]),
            ending=float(np.mean([score.ending for _, score in some])),
            accuracy=band_or_none([score.accuracy if score.determined >= ENOUGH else None for _, score in some]),
        )
        for (model, part, family), some in found.items()
    )


def _fits(world: World, family: str, length: int) -> bool:
    try:
        replace(world, families=(family,), shortest=length, longest=length)
    except BadSetting:  # a world refuses a family that has no rule of this length
        return False
    return True


def _documents(store: Store, tokenizer: Tokenizer) -> list[tuple[int, ...]]:
    one = store.stores[0] if isinstance(store, Mixture) else store
    some = (one.document(i) for i in range(min(DOCUMENTS, one.n_documents)))
    return [tuple(int(tokenizer.token_name(int(token))) for token in ids) for ids in some]
