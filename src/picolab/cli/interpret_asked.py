"""What is to be interpreted? A model, the texts it is looked at with, and the one that is shown.

--model    a reference; without one the newest trained run
--data     a corpus; without one the run's own, else the shipped stories or integer sequences, whichever the tokenizer spells
--prompt   the text that is shown; without it the longest of those read
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from picolab.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from picolab.interpret.texts import Texts
    from picolab.runs.folder import Run
    from picolab.runs.reference import Opened

ANALYSES = {
    "embeddings": "components of the embedding: order of numbers, likeness of words",
    "attention": "where each head looks: maps of a text, habits over many",
    "neurons": "which answer to a kind of text, which are dead",
    "heads": "induction and its kin, confirmed or not by taking heads out",
    "lens": "what the model would say at every depth",
}
"""What can be asked, and what it is."""

OF_ONE_TEXT = ("attention", "lens")
WITHOUT_TEXTS = ("heads",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The texts of an analysis (None where it can do without), the tokens of the one that is shown, what was chosen unasked."""

    texts: Texts | None
    shown: tuple[int, ...]
    longest: int | None
    notes: tuple[str, ...]


def check(what: str, prompt: str | None, tokens: str | None, out: Path | None, html: Path | None) -> None:
    """Refuse what makes no sense before a model is opened."""
    if what not in ANALYSES:
        raise UnknownName("analysis", what, ANALYSES)
    given = "--prompt" if prompt is not None else "--tokens" if tokens is not None else None
    if given and what not in OF_ONE_TEXT:
        raise BadInput(f"`{given}` is one text, and `{what}` looks at many", hint="name a corpus with --data")
    for path, folder in ((out, out), (html, None if html is None else html.parent)):
        if path is None or folder is None:
            continue
        near = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not near.is_dir() or not os.access(near, os.W_OK):
            raise BadInput(f"`{path}` cannot be written", hint=f"`{near}` is no folder that one may write in")
        if path is html and path.is_dir():
            raise BadInput(f"`{path}` is a folder", hint="name a file: page.html")


def run_of(opened: Opened) -> Run | None:
    """The run a model came from."""
    from picolab.runs.folder import SETTINGS, Run

    place = Path(opened.source)
    return next((Run(folder) for folder in (place, *place.parents[:2]) if (folder / SETTINGS).exists()), None)


def ask(what: str, opened: Opened, *, data: str | None, prompt: str | None, tokens: str | None, seed: int) -> Asked:
    """The texts and the text of an analysis."""
    from picolab.interpret.texts import Texts, check_tokens, texts_of

    chosen = _chosen(opened, prompt, tokens)
    if chosen is not None:
        check_tokens(chosen, opened.model)
    if opened.tokenizer is None:
        if what in WITHOUT_TEXTS:
            return Asked(texts=None, shown=(), longest=None, notes=("It has no tokenizer: only random ids were read.",))
        if chosen is None or what not in OF_ONE_TEXT:
            opened.reading()
        assert chosen is not None
        texts = Texts(ids=(chosen,), group=(0,), names=("given",), source="the given tokens")
        return Asked(texts=texts, shown=chosen, longest=None, notes=())
    spec, input_dir, notes = _corpus(what, opened, data)
    texts = texts_of(spec, opened.model, opened.tokenizer, input_dir=input_dir, seed=seed)
    return Asked(texts=texts, shown=chosen or max(texts.ids, key=len), longest=texts.longest, notes=notes)


def _chosen(opened: Opened, prompt: str | None, tokens: str | None) -> tuple[int, ...] | None:
    from picolab.cli.trace_asked import text_to_read

    return None if prompt is None and tokens is None else tuple(text_to_read(opened, None, prompt, tokens))


def _corpus(what: str, opened: Opened, data: str | None) -> tuple[str, str | None, tuple[str, ...]]:
    """The corpus, the folder `input` stands for in it, and what should be said about the choice."""
    if data is not None:
        return data, None, ()
    run = run_of(opened)
    numbers = opened.tokenizer is not None and opened.tokenizer.kind == "integers"
    if run is not None:
        settings = run.settings.data
        if what != "neurons" or numbers or "," in settings.spec:
            return settings.spec, settings.input_dir, ()
    if what == "neurons" and not numbers:
        return _kinds(), None, ("No data was named: the kinds of text are the five shipped collections of stories.",)
    spec = "numeric" if numbers else "stories"
    return spec, None, (f"No data was named and the model's own is not known: it was looked at with `{spec}`.",)


def _kinds() -> str:
    from picolab.data.stories import SHIPPED

    return ",".join(f"{name}={1 / len(SHIPPED):g}" for name in SHIPPED)


def names_of(opened: Opened, ids: Sequence[int]) -> list[str]:
    """Tokens as they are printed."""
    reads = opened.tokenizer
    return [reads.token_name(i) if reads is not None and i < reads.vocab_size else str(i) for i in ids]
