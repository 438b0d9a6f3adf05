"""Which families of integers does each model fail, and why? A few sentences a model, every reason computed.

determined numbers wrong   right on trained rules, or most of the errors only on others     knows the rules it was shown
                           wrong on trained rules as well                                   not learned
numbers right, odds wrong  most excess is about when a text ends                            cannot tell how long texts are
                           it is about the number                                           at which number most of it lies
right so far, wrong when longer                                                             positions no text had in training
"""

from __future__ import annotations

from collections.abc import Sequence

from picolab.compare.sequences import TIMES, FamilyRow, Sequences
from picolab.measure.sequences import FamilyScore, Point

RIGHT, CLOSE = 0.99, 0.05
"""A family is learned with this share of determined numbers right and less than so many nats above the floor."""
ONE_PLACE = 0.3
"""Share of the excess at one position from which that position is named."""


def sequences_in_words(rows: Sequence[FamilyRow], studies: Sequence[Sequences]) -> tuple[str, ...]:
    """For each model: what it learned, what it fails and why, and what happens beyond the lengths it trained on."""
    models = dict.fromkeys(row.model for row in rows)
    return tuple(sentence for model in models for sentence in _of_model(model, rows, studies))


def judged_part(rows: Sequence[FamilyRow]) -> str:
    """The part that decides: test where there is one, or else validation."""
    parts = {row.part for row in rows}
    return next((part for part in ("test", "validation") if part in parts), "train")


def fails(row: FamilyRow) -> bool:
    """Whether a family is not learned."""
    return _wrong(row) or row.excess.mean >= CLOSE


def _wrong(row: FamilyRow) -> bool:
    return row.accuracy is not None and row.accuracy.mean < RIGHT


def _of_model(model: str, rows: Sequence[FamilyRow], studies: Sequence[Sequences]) -> list[str]:
    mine = {(row.part, row.family): row for row in rows if row.model == model}
    part = judged_part(rows)
    judged = [row for (name, _), row in mine.items() if name == part]
    failed = [row for row in judged if fails(row)]
    learned = [row.family for row in judged if not fails(row)]
    new = part != "train"
    told = []
    if learned:
        told.append(
            f"{model} has learned {_listed(learned)}: on {'rules it never saw' if new else 'the rules it trained on'} at least "
            f"{RIGHT:.0%} of determined numbers are right and less than {CLOSE} nats a token are above the floor."
        )
    wrong = [(row, mine.get(("train", row.family))) for row in failed if _wrong(row)]
    told += _missed(model, [(row, trained) for row, trained in wrong if _by_heart(row, trained)], (
        "it knows the rules it trained on and too few others"
    ))  # fmt: skip
    told += _missed(model, [(row, trained) for row, trained in wrong if not _by_heart(row, trained)], (
        "it has not learned the rule, not even where it was shown"
    ))  # fmt: skip
    for row in failed:
        if not _wrong(row):
            scores = [s for study in studies if study.model == model for s in _scores(study, part, row.family)]
            told.append(f"{model} fails {row.family}: {_odds(row, scores)}.")
    return [*told, *_longer(model, mine, learned, studies)]


def _by_heart(row: FamilyRow, trained: FamilyRow | None) -> bool:
    """Whether at least half of the errors would be gone if rules kept back were predicted as well as those that were shown."""
    if row.accuracy is None or trained is None or trained.accuracy is None or row.part == "train":
        return False
    return trained.accuracy.mean - row.accuracy.mean >= (1 - row.accuracy.mean) / 2


def _missed(model: str, rows: Sequence[tuple[FamilyRow, FamilyRow | None]], why: str) -> list[str]:
    """One sentence about families that fail for one reason; shares are of determined numbers."""
    if not rows:
        return []
    said = []
    for row, trained in rows:
        right = _percent(row.accuracy.mean) if row.accuracy else "none"
        known = trained.accuracy if trained is not None and trained is not row else None
        said.append(f"{row.family} ({right} right" + (f", {_percent(known.mean)} on trained rules)" if known else ")"))
    return [f"{model} fails {_listed(said)}: {why}."]


def _odds(row: FamilyRow, scores: Sequence[FamilyScore]) -> str:
    says = f"{row.excess.mean:.3f} nats a token above the floor" + (
        "" if row.accuracy is None else ", though it knows the determined numbers"
    )
    if row.ending > row.excess.mean / 2:
        return f"{says}, {row.ending:.3f} of them because it cannot tell when a text ends"
    worst, share = _worst([point for score in scores for point in score.profile])
    if share >= ONE_PLACE:
        return f"{says}, {_percent(share)} of it at number {worst + 1} of a text, where it does not know the odds"
    return f"{says}, spread over the whole text: it does not know the odds of the next number"


def _worst(points: Sequence[Point]) -> tuple[int, float]:
    """The position with the largest part of the excess, and that part."""
    total: dict[int, float] = {}
    for point in points:
        total[point.position] = total.get(point.position, 0.0) + point.count * point.excess
    worst = max(total, key=total.__getitem__)
    return worst, total[worst] / max(sum(total.values()), 1e-12)


def _longer(
    model: str, mine: dict[tuple[str, str], FamilyRow], learned: Sequence[str], studies: Sequence[Sequences]
) -> list[str]:
    """What becomes of learned families in longer texts."""
    table = any(study.table for study in studies if study.model == model)
    trained = next((row.longest for (part, _), row in mine.items() if part == "train"), None)
    told = []
    for times in TIMES:
        here = [
            row for (part, family), row in mine.items() if part == f"{times}x" and family in learned and row.accuracy
        ]
        lost = [row for row in here if _wrong(row)]
        if not here or trained is None:
            continue
        if not lost:
            names = _listed([row.family for row in here])
            told.append(f"{model} goes on with {names} at {times} times the length.")
            continue
        shares = ", ".join(f"{row.family} {_percent(row.accuracy.mean)}" for row in lost if row.accuracy)
        why = (
            f"its vectors for positions after {trained} were never trained"
            if table
            else f"nothing it trained on went beyond {trained} numbers"
        )
        told.append(f"At {times} times the length {model} loses determined numbers ({shares} right): {why}.")
    return told


def _scores(study: Sequences, part: str, family: str) -> list[FamilyScore]:
    return [score for one in study.parts if one.name == part for score in one.scores if score.family == family]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if 0.001 <= share < 0.9995 else f"{100 * share:.0f} %"
