"""Where do stories come from without a network? Five small hand-written worlds, and a seeded generator behind them.

    corpora/*.txt  one story a line ─ shipped() ─ shipped_stories() ─┐
    grammar/       plots and words  ─ generate_stories(n, seed) ─────┴─ stories(seed)

Every text here was written for this project. The generator follows the idea of TinyStories (Eldan and Li 2023,
arXiv:2305.07759): words a young child knows, one small trouble a story, and an ending.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from random import Random

from picolab.data.grammar import tell
from picolab.errors import BadSetting, UnknownName

__all__ = ["GENERATED", "SHIPPED", "generate_stories", "shipped", "shipped_stories", "stories"]

SHIPPED: tuple[str, ...] = ("field_notes", "mini_stories", "observatory_journal", "city_archive", "harbour_diary")

GENERATED = 2400
"""How many generated stories follow the shipped ones in `stories`: about 2 MB of text together."""


def shipped(name: str) -> Iterator[str]:
    """The stories of one shipped corpus, in their order on the page; `UnknownName` for a name not in `SHIPPED`."""
    if name not in SHIPPED:
        raise UnknownName("shipped corpus", name, SHIPPED)
    text = files("picolab.data").joinpath("corpora", f"{name}.txt").read_text(encoding="utf-8")
    return iter(text.splitlines())


def shipped_stories() -> Iterator[str]:
    """All shipped stories, corpus after corpus in the order of `SHIPPED`."""
    for name in SHIPPED:
        yield from shipped(name)


def generate_stories(n: int, seed: int) -> Iterator[str]:
    """`n` generated stories of about 400 to 900 characters, each one paragraph without line breaks.

    The same seed gives the same stories, and a longer run begins with the shorter one: the first 10 of
    `generate_stories(1000, seed)` are those of `generate_stories(10, seed)`.
    """
    if n < 0:
        raise BadSetting(f"cannot generate {n} stories", hint="ask for 0 or more")
    rng = Random(seed)
    return (tell(rng) for _ in range(n))


def stories(seed: int = 0) -> Iterator[str]:
    """What the data spec `stories` means: everything shipped, then `GENERATED` generated stories."""
    yield from shipped_stories()
    yield from generate_stories(GENERATED, seed)
