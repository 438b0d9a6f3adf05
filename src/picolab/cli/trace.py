"""`picolab trace`: every number of one pass, told in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from picolab.cli import console
from picolab.cli.flags import Gpt2Dir, Json, Out, Seed, use_gpt2_dir
from picolab.errors import BadInput, PicolabError, UnknownName
from picolab.runs.machine import command_line

if TYPE_CHECKING:
    from torch import Tensor

    from picolab.report.narration.passes import Watched
    from picolab.report.narration.step import Narration
    from picolab.runs.reference import Opened
    from picolab.trace.recording import Recording
    from picolab.trace.step import StepTrace

FORMATS = ("terminal", "markdown")


def trace(
    *,
    model: Annotated[
        str | None, Parameter(help="A run, a checkpoint folder or file, or a preset. [default: newest trained run]")
    ] = None,
    prompt: Annotated[str | None, Parameter(help="The text. [default: from the model's own data]")] = None,
    tokens: Annotated[str | None, Parameter(help="Token ids in place of a text: 5,17,200 or FILE.json.")] = None,
    detail: Annotated[str, Parameter(help="brief, normal or full.")] = "normal",
    layers: Annotated[
        str | None, Parameter(help="Blocks told step by step: 0,1,-1. [default: the first three and the last]")
    ] = None,
    token: Annotated[int | None, Parameter(help="Position that is followed. [default: the last]")] = None,
    sites: Annotated[list[str] | None, Parameter(help="Record these only: 'blocks.*.attention.*'.")] = None,
    iterations: Annotated[int, Parameter(help="Optimizer steps on the text; 0: forward only.")] = 1,
    lr: Annotated[float, Parameter(help="Learning rate of these steps.")] = 1e-3,
    engine: Annotated[str, Parameter(help="Who computes: picolab, transformers or llama.cpp.")] = "picolab",
    html: Annotated[Path | None, Parameter(help="Write the page there.")] = None,
    markdown: Annotated[Path | None, Parameter(help="Write the narration as Markdown there.")] = None,
    form: Annotated[str, Parameter(name="--format", help="terminal or markdown.")] = "terminal",
    tokenizer: Annotated[str | None, Parameter(help="Tokenizer where the model has none.")] = None,
    gpt2_dir: Gpt2Dir = None,
    seed: Seed = 0,
    out: Annotated[Out, Parameter(help="Folder for every tensor: a trace bundle.")] = None,
    as_json: Json = False,
) -> int:
    """Watch every number of one pass, told in words.

    Forward, loss, backward and one optimizer step on a text; the model stays as
    it was. With no model named it takes the newest trained run, and where there is
    none it trains the demo's transformer first.
    """
    from picolab.cli import trace_asked

    use_gpt2_dir(gpt2_dir)
    _check(detail, form, iterations, lr, out)
    trace_asked.check_engine(engine)
    chosen_layers = trace_asked.layers_asked(layers)
    notes: list[str] = []
    if model is None:
        model, why = trace_asked.model_to_trace(seed=seed)
        notes.append(why)
    opened = _opened(model, tokenizer, seed, elsewhere=engine != "picolab")
    if opened is not None:
        notes += opened.notes
    taken: StepTrace | None = None
    rows: dict[str, Tensor] = {}
    globs = [glob.removeprefix("grad/") for glob in sites or ["*"]]  # gradients come with their sites
    if engine == "picolab":
        assert opened is not None
        ids = trace_asked.text_to_read(opened, None, prompt, tokens)
        watched = _watched(opened, ids, globs, token, iterations, lr, notes)
        recording, taken, rows = watched.recording, watched.taken, watched.rows
    else:
        recording = _elsewhere(engine, opened, model, prompt, tokens, globs)
        notes.append(f"{recording.engine} computed this pass; a backward pass is traced with --engine picolab.")
    from picolab.report.narration.narrate import narrate

    told = narrate(
        None if opened is None else opened.model,
        recording,
        taken=taken,
        tokenizer=None if opened is None else opened.tokenizer,
        name=_name(model),
        followed=token,
        layers=chosen_layers,
        notes=notes,
        rows=rows,
    )
    wrote = _write(told, recording, taken, opened, out=out, html=html, markdown=markdown, detail=detail)
    _show(told, wrote, detail=detail, form=form, as_json=as_json)
    return 0


def _check(detail: str, form: str, iterations: int, lr: float, out: Path | None) -> None:
    """Refuse what makes no sense before anything is computed."""
    from picolab.trace.bundle import TRACE

    levels = ("brief", "normal", "full")
    if detail not in levels:
        raise UnknownName("detail", detail, levels)
    if form not in FORMATS:
        raise UnknownName("format", form, FORMATS)
    if iterations < 0:
        raise BadInput(f"{iterations} iterations are fewer than none", hint="0 traces the forward pass only")
    if lr <= 0:
        raise BadInput(f"a learning rate of {lr:g} is not positive", hint="0.001 is usual")
    if out is not None and out.exists() and not (out / TRACE).exists() and (out.is_file() or any(out.iterdir())):
        raise BadInput(f"`{out}` exists and is no trace bundle", hint="choose a new or empty folder with --out")


def _opened(model: str, tokenizer: str | None, seed: int, *, elsewhere: bool) -> Opened | None:
    """The model opened here; None where only another engine may be able to."""
    from picolab.runs.reference import open_reference

    try:
        return open_reference(model, tokenizer=tokenizer, seed=seed)
    except PicolabError:
        if elsewhere and ((Path(model) / "config.json").exists() or Path(model).is_file()):
            return None
        raise


def _watched(
    opened: Opened, ids: list[int], globs: list[str], token: int | None, iterations: int, lr: float, notes: list[str]
) -> Watched:
    """The pass through a model of ours."""
    from picolab.cli.trace_asked import check_sites
    from picolab.report.narration.narrate import position_of
    from picolab.report.narration.passes import watch
    from picolab.runs.settings import OptimizerSettings
    from picolab.trace.engines.here import Here
    from picolab.trace.engines.limits import check_tokens
    from picolab.trace.sites import sites_of
    from picolab.train.optimizers import adamw

    check_sites(globs, sites_of(opened.model))
    here = Here(opened.model)
    check_tokens(ids, before=0, vocab_size=here.vocab_size, context_length=here.context_length)
    settings = OptimizerSettings(lr=lr)
    if len(ids) < 2 and iterations:
        notes.append("A single token has none after it: there is no loss, and no way back.")
    watched = watch(
        opened.model,
        ids,
        followed=position_of(token, len(ids)),
        sites=globs,
        make_optimizer=(lambda net: adamw(net, settings)) if iterations else None,
        clip=settings.clip,
        iterations=max(iterations, 1),
    )
    by_statistics = sum(entry.kept is None for entry in watched.recording.entries)
    if by_statistics:
        notes.append(f"The text is long: of {by_statistics} places only statistics were kept.")
    return watched


def _elsewhere(
    name: str, opened: Opened | None, reference: str, prompt: str | None, tokens: str | None, globs: list[str]
) -> Recording:
    """The pass through another engine."""
    from picolab.cli.trace_asked import engine_with, text_to_read
    from picolab.trace.elsewhere import record_engine

    ids = None if opened is None else text_to_read(opened, None, prompt, tokens)
    with engine_with(name, opened, reference) as engine:
        return record_engine(engine, ids or text_to_read(None, engine, prompt, tokens), globs)


def _name(model: str) -> str:
    path = Path(model)
    return path.name or model


def _write(
    told: Narration,
    recording: Recording,
    taken: StepTrace | None,
    opened: Opened | None,
    *,
    out: Path | None,
    html: Path | None,
    markdown: Path | None,
    detail: str,
) -> dict[str, Any]:
    """Everything that was asked for on disk."""
    from picolab.trace.bundle import write_bundle
    from picolab.trace.recording import Recording

    wrote: dict[str, Any] = {}
    whole = [entry for entry in recording.entries if entry.kept is not None]
    kept = Recording(recording.engine, recording.dtype, recording.config, recording.tokens, whole)
    if out is not None:
        if not whole:
            raise BadInput(
                "only statistics were kept of this text, and a bundle holds tensors", hint="shorten the text"
            )
        wrote["bundle"] = write_bundle(kept, out)
    if markdown is not None:
        from picolab.report.narration.markdown import as_markdown
        from picolab.runs.atomic import reported, write_text

        with reported(markdown):
            markdown.parent.mkdir(parents=True, exist_ok=True)
        write_text(markdown, as_markdown(told, detail))
        wrote["markdown"] = markdown
    if html is not None:
        from picolab.report.trace_page import write_trace_page

        if opened is not None:
            opened.model.tokenizer = opened.tokenizer  # type: ignore[assignment]
        losses = None if taken is None else taken.losses[:, : len(told.words) - 1].detach()
        wrote["html"] = write_trace_page(
            told, kept, html, model=None if opened is None else opened.model, losses=losses, command=command_line()
        )
    return wrote


def _show(told: Narration, wrote: dict[str, Any], *, detail: str, form: str, as_json: bool) -> None:
    """The narration on stdout, and where the rest lies."""
    if as_json:
        console.emit({"narration": told, **wrote})
    elif form == "markdown":
        from picolab.report.narration.markdown import as_markdown

        print(as_markdown(told, detail), end="")
    else:
        from picolab.report.narration.terminal import on_terminal

        console.show(on_terminal(told, detail))
    for what, path in wrote.items():
        console.progress().print(f"{what}  {path}", soft_wrap=True)
