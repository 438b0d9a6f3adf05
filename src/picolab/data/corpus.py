"""What is learned? A spec names a corpus: documents that can be read again and again, and what is known about them.

    stories  stories-shipped  stories-generated:N  field_notes ...      original micro-stories, nothing to download
    numeric  numeric:counting+alternating  numeric:numbers=64:documents=5000      integer sequences, exact floor
    3seqs                                                               three long integer sequences
    tinystories                                                         from the hub
    PATH  lines:PATH  paragraphs:PATH  endoftext:PATH  whole:PATH       a text file or a folder of *.txt (`text_files.py`)
    input  lines:input ...                                              the folder given as `input_dir`
    stories=0.75,my_folder=0.25                                         a blend: shares of what is read, by rows

A name wins over a file of that name: `./stories` is a folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from picolab.data import stories, three_sequences
from picolab.data.hub import tinystories
from picolab.data.numeric import World, parse, rule_of, sample
from picolab.data.numeric_floor import document_floors
from picolab.data.text_files import SAYS, SEPARATORS, read_documents, seen_division, text_files
from picolab.errors import BadData, BadSetting, UnknownName

INPUT = "input"
NUMERIC_DOCUMENTS = 20_000
TEXT_TOKENIZER, INTEGER_TOKENIZER = "bpe-2048", "integers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """Documents and facts about them.

    `documents()` starts over at each call. `tokenizer` fits the text best. `held_out` is False where nothing can be kept back: then
    the validation text is the training text. `floors` gives the least nats any model can reach on each of some documents. Documents
    of one `group` stay on one side of a split; without it only equal documents do.
    """

    name: str
    says: str
    documents: Callable[[], Iterator[str]]
    tokenizer: str = TEXT_TOKENIZER
    held_out: bool = True
    floors: Callable[[Sequence[str]], NDArray[np.float64]] | None = None
    group: Callable[[str], str] | None = None

    def __iter__(self) -> Iterator[str]:
        return self.documents()


@dataclass(frozen=True, kw_only=True, slots=True)
class Blend:
    """Several corpora, and which share of the rows that are read comes from each; the weights sum to 1."""

    name: str
    sources: tuple[Corpus, ...]
    weights: tuple[float, ...]

    @property
    def tokenizer(self) -> str:
        wanted = {source.tokenizer for source in self.sources}
        return wanted.pop() if len(wanted) == 1 else TEXT_TOKENIZER

    def __iter__(self) -> Iterator[str]:
        for source in self.sources:
            yield from source


def open_corpus(
    spec: str, *, input_dir: str | Path | None = None, limit_examples: int | None = None, seed: int = 0
) -> Corpus | Blend:
    """The corpus that a spec names; `limit_examples` keeps the first documents of each source, `seed` is for generated text."""
    if limit_examples is not None and limit_examples < 1:
        raise BadSetting(f"limit_examples {limit_examples} leaves nothing", hint="leave it out to read everything")
    if not spec.strip():
        raise BadSetting("no data is named", hint="`stories` needs no file and no network")
    blend = _parts(spec)
    names = [spec.strip()] if blend is None else [name for name, _ in blend]
    if input_dir is not None and not any(name.rpartition(":")[2] == INPUT for name in names):
        raise BadSetting(
            f"the input folder `{input_dir}` is not part of the data `{spec}`",
            hint=f"`{INPUT}` stands for it: `{INPUT}`, or `{names[0]}=0.5,{INPUT}=0.5`",
        )
    sources = tuple(_open(name, input_dir, limit_examples, seed) for name in names)
    if blend is None:
        return sources[0]
    total = sum(weight for _, weight in blend)
    return Blend(name=spec.strip(), sources=sources, weights=tuple(weight / total for _, weight in blend))


def _parts(spec: str) -> list[tuple[str, float]] | None:
    """Name and weight of every part of a blend; None for a spec that is no blend."""
    if "," not in spec or _exists(spec):
        return None
    parts = []
    for part in spec.split(","):
        name, equals, weight = part.strip().rpartition("=")
        try:
            value = float(weight)
        except ValueError:
            value = math.nan
        if not name or not equals or not 0 < value < math.inf:
            raise BadSetting(
                f"`{part.strip()}` in the blend `{spec}` is not a name and a positive weight",
                hint="a blend is written as in `stories=0.75,my_folder=0.25`",
            )
        parts.append((name, value))
    names = [name for name, _ in parts]
    if len(set(names)) < len(names):
        raise BadSetting(f"the blend `{spec}` names a source twice", hint="add its weights up")
    return parts


def _open(spec: str, input_dir: str | Path | None, limit: int | None, seed: int) -> Corpus:
    kind, _, rest = spec.partition(":")
    if kind in SEPARATORS and rest:
        return _limited(_text(spec, rest, kind, input_dir), limit)
    if spec == "tinystories":
        corpus = Corpus(name=spec, says="two million short stories from the hub", documents=tinystories(limit))
    elif kind in NAMED and (not rest or kind in ("numeric", "stories-generated")):
        corpus = NAMED[kind](spec, rest, seed)
    elif spec == INPUT or _exists(spec):
        corpus = _text(spec, spec, None, input_dir)
    elif "/" in spec or "\\" in spec or Path(spec).suffix:
        raise BadData(f"there is no file or folder `{spec}`", hint="check the path; it is relative to where you are")
    else:
        raise UnknownName("file, folder or corpus", spec, [*NAMED, "tinystories"])
    return _limited(corpus, limit)


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long for a name, or one in a folder that may not be searched
        return False


def _limited(corpus: Corpus, limit: int | None) -> Corpus:
    if limit is None:
        return corpus
    return replace(
        corpus, documents=lambda: islice(corpus.documents(), limit), says=f"{corpus.says}; the first {limit}"
    )


def _text(name: str, path: str, division: str | None, input_dir: str | Path | None) -> Corpus:
    if path == INPUT and input_dir is None:
        raise BadData("`input` is the folder given with --input-dir, and none is given", hint="add --input-dir FOLDER")
    root = Path(path if path != INPUT or input_dir is None else input_dir).expanduser()
    divided = [(file, division or seen_division(file)) for file in text_files(root)]
    files = f"{len(divided)} files, " if root.is_dir() else ""
    said = " or ".join(sorted({SAYS[d] for _, d in divided}))

    def documents() -> Iterator[str]:
        for file, rule in divided:
            yield from read_documents(file, rule)

    return Corpus(name=name, says=f"{files}{said}", documents=documents)


def numeric_world(spec: str) -> tuple[World, int]:
    """The world that a spec `numeric..` names, and how many documents it asks for."""
    rest = spec.partition(":")[2]
    parts = rest.split(":") if rest else []
    families = parts.pop(0) if parts and "=" not in parts[0] else ""
    known = [f.name for f in fields(World) if f.name != "families"]
    wanted = {"documents": NUMERIC_DOCUMENTS}
    for option in parts:
        name, _, value = option.partition("=")
        if name not in (*known, "documents"):
            raise UnknownName("option of `numeric`", name, [*known, "documents"])
        if not value.isascii() or not value.isdecimal():
            raise BadSetting(
                f"`{option}` in `{spec}` is not a whole number", hint="as in `numeric:counting:numbers=64`"
            )
        wanted[name] = int(value)
    count = wanted.pop("documents")
    if count < 1:
        raise BadSetting(f"`{spec}` asks for no documents", hint="documents=20000 is what `numeric` makes")
    world = replace(World(), **wanted, **({"families": tuple(families.split("+"))} if families else {}))  # type: ignore[arg-type]
    return world, count


def _numeric(spec: str, rest: str, seed: int) -> Corpus:
    world, count = numeric_world(spec)

    def group(text: str) -> str:
        rule = rule_of(parse(text, world), world)
        return text if rule is None else str(rule)

    return Corpus(
        name=spec,
        says=f"{count:,} integer sequences of {' '.join(world.families)}",
        tokenizer=INTEGER_TOKENIZER,
        documents=lambda: (example.text for example in sample(world, count, seed=seed)),
        floors=partial(document_floors, world=world),
        group=group,
    )


def _generated(spec: str, rest: str, seed: int) -> Corpus:
    if not rest.isascii() or not rest.isdecimal() or not int(rest):
        raise BadSetting(f"`{spec}` does not say how many stories", hint="as in `stories-generated:5000`")
    return Corpus(
        name=spec, says=f"{int(rest):,} generated stories", documents=lambda: stories.generate_stories(int(rest), seed)
    )


def _three_sequences(spec: str, rest: str, seed: int) -> Corpus:
    return Corpus(
        name=spec,
        says="three integer sequences, 3,333 lines; the validation text is the training text",
        held_out=False,
        documents=lambda: iter(three_sequences.lines()),
        tokenizer=INTEGER_TOKENIZER,
        floors=three_sequences.document_floors,
    )


def _shipped(spec: str, rest: str, seed: int) -> Corpus:
    return Corpus(name=spec, says="original micro-stories, one a line", documents=lambda: stories.shipped(spec))


NAMED: dict[str, Callable[[str, str, int], Corpus]] = {
    "stories": lambda spec, rest, seed: Corpus(
        name=spec, says="original micro-stories, then generated ones", documents=lambda: stories.stories(seed)
    ),
    "stories-shipped": lambda spec, rest, seed: Corpus(
        name=spec, says="all original micro-stories", documents=stories.shipped_stories
    ),
    "stories-generated": _generated,
    **dict.fromkeys(stories.SHIPPED, _shipped),
    "numeric": _numeric,
    "3seqs": _three_sequences,
}
"""Corpora that have a name: (spec, what follows the first colon, seed) -> corpus."""
