"""What was found: a sentence, and the numbers that it was made from. The sentence says nothing that the numbers do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """`kind` names the analysis; `figures` are all numbers and names in `says`, so that a program can check it."""

    kind: str
    says: str
    figures: Mapping[str, Any]
