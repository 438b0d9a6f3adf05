"""`picolab ls`: what there is to choose from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from picolab.cli import console
from picolab.cli.flags import Json, Out, Seed
from picolab.errors import UnknownName

ELSEWHERE = {
    "tinystories": "two million short stories from the hub; needs picolab[hub] and a network",
    "PATH": "a text file, or a folder of *.txt, documents divided as their text suggests",
    "input": "the folder given with --input-dir",
}
"""Corpora that are not shipped."""

Listing = tuple[str, Sequence[str], list[dict[str, Any]]]


def ls(
    what: Annotated[
        str, Parameter(help="presets, data, tokenizers, settings, studies, laws, causes or runs.")
    ] = "presets",
    /,
    *,
    runs: Annotated[Path, Parameter(help="The folder whose runs are listed.")] = Path("runs"),
    seed: Seed = 0,
    out: Annotated[Out, Parameter(help="Write the JSON document there as well.")] = None,
    as_json: Json = False,
) -> int:
    """List presets, data, tokenizers, settings, studies, laws, causes or runs."""
    if what not in LISTINGS:
        raise UnknownName("list", what, LISTINGS)
    title, columns, rows = LISTINGS[what](runs)
    if out is not None:
        console.save_json(out, rows)
    if as_json:
        console.emit(rows)
        return 0
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    numbers = [column for column in columns if rows and isinstance(rows[0][column], int | float)]
    console.show(console.table(title, columns, cells, right=numbers))
    return 0


def _presets(runs: Path) -> Listing:
    from picolab.zoo import PRESETS

    rows = [{"name": name, "architecture": p.architecture, "says": p.says} for name, p in PRESETS.items()]
    return "presets: --model NAME", ("name", "architecture", "says"), rows


def _data(runs: Path) -> Listing:
    from picolab.data.corpus import NAMED

    rows = []
    for name, make in NAMED.items():
        spec = f"{name}:5000" if name == "stories-generated" else name
        corpus = make(spec, spec.partition(":")[2], 0)
        rows.append({"name": spec, "tokenizer": corpus.tokenizer, "says": corpus.says})
    rows += [{"name": name, "tokenizer": "bpe-2048", "says": says} for name, says in ELSEWHERE.items()]
    return "data: --data NAME, or a blend NAME=0.75,OTHER=0.25", ("name", "tokenizer", "says"), rows


def _tokenizers(runs: Path) -> Listing:
    from picolab.text.build import SPECS

    rows = [{"name": name, "says": says} for name, says in SPECS.items()]
    return "tokenizers: --tokenizer NAME, or a tokenizer.json", ("name", "says"), rows


def _settings(runs: Path) -> Listing:
    from picolab.runs.settings import Settings, known_settings

    defaults = Settings().model_dump(mode="json")
    rows = []
    for name, says in known_settings().items():
        section, _, leaf = name.rpartition(".")
        rows.append({"name": name, "default": defaults[section][leaf] if section else defaults[leaf], "says": says})
    return "settings: --NAME VALUE, or its last word alone", ("name", "default", "says"), rows


def _studies(runs: Path) -> Listing:
    from picolab.recipes.studies import SHIPPED, shipped
    from picolab.studies.points import count_of

    rows = []
    for name in SHIPPED:
        full, tiny = shipped(name), shipped(name, tiny=True)
        rows.append({"name": name, "runs": count_of(full), "tiny": count_of(tiny), "asks": full.question})
    return (
        "studies: picolab sweep NAME, or NAME --tiny; how many runs each has at most",
        ("name", "runs", "tiny", "asks"),
        rows,
    )


def _laws(runs: Path) -> Listing:
    from picolab.diagnose.laws.catalogue import LAWS
    from picolab.diagnose.pages import FOLDER, page_of

    rows = [
        {"name": law.name, "id": law.id, "says": law.says, "look_for": law.hint, "page": page_of(law.name)}
        for law in LAWS
    ]
    return f"laws: what picolab doctor asks; {FOLDER}/NAME.md tells more", ("name", "id", "says"), rows


def _causes(runs: Path) -> Listing:
    from picolab.diagnose.causes.catalogue import CATALOGUE
    from picolab.diagnose.pages import FOLDER, page_of

    rows = [
        {"name": cause.name, "says": cause.says, "look_for": cause.look_for, "page": page_of(cause.name)}
        for cause in CATALOGUE
    ]
    return f"causes: what picolab diff can name; {FOLDER}/NAME.md tells more", ("name", "says"), rows


def _runs(runs: Path) -> Listing:
    from picolab.runs.folder import list_runs

    rows = []
    for run in list_runs(runs):
        meta = run.meta
        best = min((r["val/loss"] for r in run.metrics() if r.get("val/loss") is not None), default=None)
        rows.append(
            {
                "run": run.path.name,
                "status": run.status,
                "step": meta.get("step"),
                "steps": meta.get("steps"),
                "best val/loss": best,
                "created": str(meta.get("created", ""))[:16].replace("T", " "),
                "path": str(run.path),
            }
        )
    return f"runs in {runs}, newest last", ("run", "status", "step", "steps", "best val/loss", "created"), rows


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) >= 0.01 else f"{value:g}"
    return "-" if value is None else str(value)


LISTINGS: dict[str, Callable[[Path], Listing]] = {
    "presets": _presets,
    "data": _data,
    "tokenizers": _tokenizers,
    "settings": _settings,
    "studies": _studies,
    "laws": _laws,
    "causes": _causes,
    "runs": _runs,
}
