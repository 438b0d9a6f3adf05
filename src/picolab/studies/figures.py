"""Which figures has a trial? Each with its unit and whether small is good, so that tables, plots and sentences agree.

loss               validation loss, nats a token, small is good
tokens_per_second  training speed, tokens/s, large is good
parameters         neither is
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """What a number says, in which unit; `lower` where small is good, None where neither end is."""

    says: str
    unit: str
    lower: bool | None = True
    digits: int = 3

    @property
    def wants_small(self) -> bool:
        """Whether the smallest comes first; it does as well where neither end is good."""
        return self.lower is not False

    @property
    def way(self) -> str:
        """Which end is good, to be added to a title or a label."""
        return {True: ", lower is better", False: ", higher is better", None: ""}[self.lower]

    def number(self, value: float) -> str:
        """A value in the digits that the figure carries, thousands apart."""
        return f"{value:,.{self.digits}f}"

    def brief(self, value: float) -> str:
        """A value where there is little room: counts in three digits."""
        return self.number(value) if self.digits else shortened(value)


FIGURES: dict[str, Figure] = {
    "loss": Figure("validation loss", "nats a token"),
    "best_loss": Figure("lowest validation loss on the way", "nats a token"),
    "train_loss": Figure("training loss", "nats a token"),
    "gap": Figure("validation loss above training loss", "nats a token"),
    "bits_per_byte": Figure("validation loss", "bits a byte"),
    "seconds": Figure("time of the run", "s", True, 1),
    "tokens_per_second": Figure("training speed", "tokens/s", False, 0),
    "tokens": Figure("tokens trained on", "tokens", None, 0),
    "parameters": Figure("parameters", "", None, 0),
    "flops": Figure("training compute, 6 x parameters x tokens", "FLOP", None, 0),
    "memorised": Figure("share of the samples' 4-grams that stand in the training text", "", None),
    "distinct": Figure("share of the samples' 4-grams that are different ones", "", None),
    "repetition": Figure("share of sampled 4-grams that have stood earlier in the same text", "", None),
    "sample_nats": Figure("loss of the samples under the model", "nats a token", None),
    "sample_gap": Figure("distance of the samples' loss from the held-out text's", "nats a token"),
}
"""`gap`, `memorised` and those below are there where a study's judges measure them."""

COSTS = {"flops": "training compute", "seconds": "time", "parameters": "parameters", "tokens": "training tokens"}
"""What a point is paid with, in a sentence."""


def shortened(value: float, unit: str = "") -> str:
    """Three digits of a number and its unit: 0.002, 950, 4.1 k, 65.5 MFLOP, 3.2 s."""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        # 999,950 would be "1e+03 k": what rounds up to the next prefix belongs to it.
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()
