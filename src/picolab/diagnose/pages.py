"""Where is more told of a law or a cause? Each has a page of its name in docs/findings/, made by docs/generate.py."""

from __future__ import annotations

from functools import cache

FOLDER = "docs/findings"


def page_of(name: str) -> str | None:
    """The page of a law or cause of the catalogues; None for a name that is in neither."""
    return f"{FOLDER}/{name}.md" if name in _names() else None


@cache
def _names() -> frozenset[str]:
    from picolab.diagnose.causes.catalogue import CATALOGUE  # late: the catalogues import half of the package
    from picolab.diagnose.laws.catalogue import LAWS

    return frozenset([*(cause.name for cause in CATALOGUE), *(law.name for law in LAWS), "dtype-noise"])
