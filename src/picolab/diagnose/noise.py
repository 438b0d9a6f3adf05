"""How far apart may two correct engines be? As far as rounding takes them, measured place by place on the reference itself.

    reference in float64 -> its values, given to the reference in the target's type -> what each line's rounding adds

Never a cosine, never one tolerance for all: a line that sums 50,000 products may be further off than one that adds two numbers.
"""

from __future__ import annotations

import copy

import torch

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.levels import LEVELS, Level, shows
from picolab.diagnose.walk import Schedule, difference, local, walk

ALLOWED = 24.0
"""Times the measured rounding of a line that another order of summation, or a fused kernel, may add."""

ULPS = 6.0
"""Units in the last place that are always allowed."""


class Floor:
    """The rounding of a reference: from each compared place to the next, at every level of looking, and through to the end."""

    def __init__(self, anatomy: Anatomy, schedule: Schedule, dtype: torch.dtype = torch.float32) -> None:
        exact = Anatomy(copy.deepcopy(anatomy.model).double())
        rounded = Anatomy(copy.deepcopy(anatomy.model).to(dtype))
        values = walk(exact, schedule)
        self.dtype, self.epsilon = dtype, torch.finfo(dtype).eps
        self._added: dict[tuple[Level, str], float] = {}
        for level in LEVELS:
            given = {key: value for key, value in values.items() if shows(level, key.site)}
            for key, made in walk(rounded, schedule, given=given).items():
                if key in given:
                    at = (level, local(key.site))
                    self._added[at] = max(self._added.get(at, 0.0), difference(values[key], made, key.site))
        whole = walk(rounded, schedule)
        self.end_to_end = max(difference(values[k], v, k.site) for k, v in whole.items() if k.site == "logits")

    def allows(self, site: str, level: Level = None) -> float:
        """How much the lines from the place compared before up to this one may add."""
        return max(ALLOWED * self._added.get((level, local(site)), 0.0), ULPS * self.epsilon)

    @property
    def allows_at_the_end(self) -> float:
        """How far the logits of two correct engines may be apart."""
        return max(ALLOWED * self.end_to_end, ULPS * self.epsilon)
