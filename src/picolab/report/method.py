"""What do the numbers of a comparison mean, and what do they not? The words at the end of its page."""

from __future__ import annotations

from collections.abc import Sequence

from picolab.compare.result import Comparison

LOSS = (
    "The mean of −ln p(token | tokens before it) over all tokens of the split, in nats. Padding is left out, the end of every "
    "text is scored. Each run's last checkpoint is scored, on the whole split."
)
BITS = "The same, in bits and per byte of text, so that models with different vocabularies can be compared."
FLOOR = (
    "The data follows a known rule with known chances, so its entropy can be computed: the least loss that any model can have "
    "in the long run."
)
FAIRNESS = (
    "Every run had a budget of {budget:,} tokens and trained on {spent}, in rows of the same length; the budget is rounded to "
    "whole steps. A seed fixes the order of the data for all models alike, and what each model starts from."
)
TELLING_APART = (
    "Two models are compared seed by seed. A difference counts when it is larger than Student's t at 95 % times the standard "
    "error of the differences; with few seeds that is a wide margin, and rightly so."
)
BASELINE = (
    "An interpolated Kneser-Ney n-gram model: counting alone, on the same tokens. A network that does not beat it predicts this "
    "data, at this budget, no better than a table of counts."
)
SPEED = (
    "Training tokens a second as measured during the runs on {device}, and the highest memory of the process above where it "
    "stood before the run. Runs took place one after another; read both as rough."
)


def how_to_read(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """Pairs of a term and what it means here."""
    setup = comparison.setup
    spent = sorted({run.tokens for row in comparison.rows for run in row.runs if run.loss is not None and run.tokens})
    width = ""
    if setup.scored_bytes and setup.scored_tokens:
        width = f" A token is {setup.scored_bytes / setup.scored_tokens:.2f} bytes on average."
    floor = () if setup.floor is None else (("Floor", FLOOR),)
    return (
        ("Loss", LOSS),
        ("Bits a byte", BITS + width),
        *floor,
        ("Fairness", FAIRNESS.format(budget=setup.tokens, spent=_range(spent))),
        ("Telling apart", TELLING_APART),
        ("Baseline", BASELINE),
        ("Speed, memory", SPEED.format(device=setup.device)),
    )


def _range(values: Sequence[int]) -> str:
    if not values:
        return "none"
    return f"{values[0]:,}" if values[0] == values[-1] else f"{values[0]:,} to {values[-1]:,}"
