"""Which figures has a trial? Each with its unit and whether small is good, so that tables, plots and sentences agree."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """What a number says, in which unit; `lower` where small is good, None where neither end is."""

    says: str
    unit: str
    lower: bool | None = True
    digits: int = 3


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
