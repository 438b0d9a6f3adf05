"""Is a model right, and if not, which line of mathematics is wrong?

    picolab.diagnose(model) -> list[Finding]       laws that hold of every correct language model, asked of this one

The package is called like a function; `diagnose` in picolab/api.py says what it takes, gives and Raises. What is inside: laws that
need no reference (laws/), the comparison with one (diff.py) and its causes (causes/).
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from picolab.diagnose.laws.law import Finding


class _Diagnose(ModuleType):
    """A package that can be called: its name is also that of its most used function."""

    def __call__(self, model: Any, *, trained: bool | None = None, seed: int = 0) -> list[Finding]:
        from picolab.api import diagnose

        return diagnose(model, trained=trained, seed=seed)


sys.modules[__name__].__class__ = _Diagnose
