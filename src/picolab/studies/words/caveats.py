"""What must a reader know before believing the rest? Trials that did not finish, losses on other text, a study of one seed.

pruned      3 of 24 trials were ended early ..          other_text   Points that differ in data are scored on different text ..
failed      lr 30, seed 1 did not finish: ..            one_seed     One seed gives no band ..
"""

from __future__ import annotations

from collections.abc import Sequence

from picolab.studies.outcome import Outcome
from picolab.studies.points import point_said
from picolab.studies.study import Study
from picolab.studies.words.numbers import Figures, Found

OTHER_TEXT = (
    "data.spec",
    "data.limit_examples",
    "data.validation",
    "data.seed",
    "data.tokenizer",
    "data.compact_vocab",
)
"""Settings that change what is held out, or what a token is."""


def caveats_found(study: Study, outcomes: Sequence[Outcome]) -> Found:
    """All that applies."""
    found: Found = []
    if other := [axis.short for axis in study.axes if axis.name in OTHER_TEXT]:
        found.append(("other_text", {"axes": other}))
    if pruned := sum(o.status == "pruned" for o in outcomes):
        found.append(("pruned", {"count": pruned, "of": len(outcomes)}))
    found += [
        ("failed", {"point": point_said(o.point), "seed": o.seed, "reason": o.reason or "no reason was recorded"})
        for o in outcomes
        if o.status == "failed"
    ]
    if not study.has_bands:
        found.append(("one_seed", {"seed": study.seeds[0]}))
    return found


def say_other_text(f: Figures) -> str:
    """Losses on different text."""
    return (
        f"Points that differ in {' or '.join(f['axes'])} are scored on different text, so a difference between them is one of "
        "text as well."
    )


def say_pruned(f: Figures) -> str:
    """Trials that pruning ended."""
    return f"{f['count']} of {f['of']} trials were ended early, worse than the median of earlier ones; they have no last loss."


def say_failed(f: Figures) -> str:
    """A trial that has no figures, and why."""
    return f"{f['point']}, seed {f['seed']} did not finish: {f['reason']}."


def say_one_seed(f: Figures) -> str:
    """Nothing is told apart."""
    return "One seed gives no band, so chance cannot be told from a real difference: ask for 3 seeds or more."
