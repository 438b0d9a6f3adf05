"""`picolab interpret`: what a model has learned, with pictures, numbers, and how sure they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.padding import Padding
from rich.text import Text

from picolab.cli import console
from picolab.cli.flags import Gpt2Dir, Json, Out, Seed, use_gpt2_dir
from picolab.errors import BadInput
from picolab.runs.machine import command_line

if TYPE_CHECKING:
    from picolab.cli.interpret_asked import Asked
    from picolab.report.interpretation.exhibit import Exhibit
    from picolab.runs.reference import Opened


def interpret(
    what: Annotated[str, Parameter(help="embeddings, attention, neurons, heads or lens.")],
    /,
    *,
    model: Annotated[
        str | None, Parameter(help="A run, a checkpoint folder or file, or a preset. [default: newest trained run]")
    ] = None,
    data: Annotated[str | None, Parameter(help="The corpus it reads: numeric:alternating. [default: its own]")] = None,
    prompt: Annotated[str | None, Parameter(help="The text that is shown, of attention and lens.")] = None,
    tokens: Annotated[str | None, Parameter(help="Token ids in place of a text: 5,17,200 or FILE.json.")] = None,
    html: Annotated[Path | None, Parameter(help="Write the page there.")] = None,
    tokenizer: Annotated[str | None, Parameter(help="Tokenizer where the model has none.")] = None,
    gpt2_dir: Gpt2Dir = None,
    seed: Seed = 0,
    out: Annotated[Out, Parameter(help="Folder for the pictures (PNG, SVG) and the numbers (JSON).")] = None,
    as_json: Json = False,
) -> int:
    """Show what a model has learned, and how sure that is.

    embeddings: do numbers lie in their order, are words alike that are used alike?
    attention: where does each head look? neurons: which answer to a kind of text?
    heads: which copy, and does taking them out confirm it? lens: at which depth is
    the answer found? Every find comes with what chance would give.
    """
    from picolab.cli import interpret_asked
    from picolab.runs.reference import open_reference

    use_gpt2_dir(gpt2_dir)
    interpret_asked.check(what, prompt, tokens, out, html)
    opened = open_reference(_reference(model), tokenizer=tokenizer, seed=seed)
    asked = interpret_asked.ask(what, opened, data=data, prompt=prompt, tokens=tokens, seed=seed)
    exhibit = _exhibit(what, opened, asked, seed)
    wrote = _write(exhibit, opened, out=out, html=html)
    notes = [*opened.notes, *asked.notes, *exhibit.notes]
    if as_json:
        console.emit({**exhibit.document, "notes": notes, "wrote": wrote})
    else:
        _show(exhibit)
    for note in notes:
        console.progress().print(note, soft_wrap=True)
    for path in () if as_json else wrote:
        console.progress().print(path, soft_wrap=True)
    return 0


def _reference(model: str | None) -> str:
    from picolab.cli.trace_asked import newest_trained

    if model is not None:
        return model
    run = newest_trained()
    if run is None:
        raise BadInput("no model is named and none was trained here", hint="--model RUN, or train one: picolab train")
    console.progress().print(f"No model was named: this is the newest trained run, `{run.path}`.", soft_wrap=True)
    return str(run.path)


def _exhibit(what: str, opened: Opened, asked: Asked, seed: int) -> Exhibit:
    from picolab.cli.interpret_asked import names_of
    from picolab.report.interpretation import attention, embeddings, heads, lens, neurons

    model, reads, texts, name = opened.model, opened.tokenizer, asked.texts, _name(opened)
    if what == "heads":
        return heads.heads_exhibit(model, reads, texts, name=name, longest=asked.longest, seed=seed)
    assert texts is not None
    if what == "attention":
        return attention.attention_exhibit(model, names_of(opened, asked.shown), asked.shown, texts, name=name)
    if what == "lens":
        return lens.lens_exhibit(model, reads, asked.shown, texts, name=name)
    assert reads is not None
    if what == "embeddings":
        return embeddings.embeddings_exhibit(model, reads, texts, name=name, seed=seed)
    return neurons.neurons_exhibit(model, reads, texts, name=name, seed=seed)


def _name(opened: Opened) -> str:
    from picolab.cli.interpret_asked import run_of

    run = run_of(opened)
    return run.path.name if run is not None else Path(opened.source).name


def _write(exhibit: Exhibit, opened: Opened, *, out: Path | None, html: Path | None) -> list[Path]:
    """Everything that was asked for on disk."""
    from picolab import __version__
    from picolab.report import figures
    from picolab.report.interpretation.exhibit import save_pictures
    from picolab.report.interpretation.page import write_interpret_page
    from picolab.report.page import Fact
    from picolab.runs import atomic

    wrote: list[Path] = []
    if out is not None:
        wrote += save_pictures(exhibit, out)
        path = out / f"{exhibit.what}.json"
        with atomic.reported(path):
            console.save_json(path, exhibit.document)
        wrote.append(path)
    if html is not None:
        count = sum(parameter.numel() for parameter in opened.model.parameters())
        facts = [
            Fact(label="Architecture", value=opened.model.architecture, note=f"{figures.short(count)} parameters"),
            Fact(label="Vocabulary", value=figures.whole(opened.model.config.vocab_size)),
        ]
        made = f"Made by picolab {__version__}."
        wrote.append(write_interpret_page(exhibit, html, facts=facts, command=command_line(), made=made))
    return wrote


def _show(exhibit: Exhibit) -> None:
    """The findings and the tables on stdout."""
    console.show(Text(exhibit.title, style="bold"))
    for sentence in exhibit.says:
        console.show(Padding(console.quoted(sentence), (0, 0, 0, 2)))
    for listing in exhibit.listings:
        rows: Any = [[console.quoted(cell).plain for cell in row] for row in listing.rows]
        console.show("")
        console.show(console.table(listing.title, listing.columns, rows, right=listing.right))
