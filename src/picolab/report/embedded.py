"""A picture that a page holds whole: no file beside it, no request.

figure -> SVG -> its bytes in the address
"""

from __future__ import annotations

import base64
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A picture in the page: its address holds the whole of it, `says` is its caption."""

    title: str = ""
    says: str
    address: str


def address_of(svg: str | bytes) -> str:
    """An SVG file as an address."""
    content = svg.encode() if isinstance(svg, str) else svg
    return "data:image/svg+xml;base64," + base64.b64encode(content).decode("ascii")
