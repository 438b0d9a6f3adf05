"""`picolab report`: the page of a comparison, a study or a run, built again from what is on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from picolab.cli import console
from picolab.cli.flags import Json, Out, Seed


def report(
    what: Annotated[
        str, Parameter(help="Folder of a comparison or study, a run's folder or name, or `last`.")
    ] = "last",
    /,
    *,
    seed: Seed = 0,
    out: Annotated[Out, Parameter(help="Write the page there instead of into the folder.")] = None,
    as_json: Json = False,
) -> int:
    """Build the HTML page of a comparison, a study or a run again.

    The page is one file: no network, no other files, it can be sent to anyone.
    """
    from picolab.runs.atomic import write_text

    page = _page_of(what)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, page.read_text(encoding="utf-8"))
        page = out
    if as_json:
        console.emit({"of": what, "report": page})
    else:
        print(page)
    return 0


def _page_of(what: str) -> Path:
    """Build the page; returns its path."""
    from picolab.compare.result import SUMMARY, Comparison

    folder = Path(what)
    if (folder / SUMMARY).exists():
        from picolab.recipes.counted_attention import is_recipe, read_off
        from picolab.report.comparison import comparison_report

        comparison = Comparison.load(folder)
        return read_off(comparison, folder).report if is_recipe(comparison) else comparison_report(comparison, folder)
    from picolab.studies import result as studies

    if (folder / studies.SUMMARY).exists():
        from picolab.report.study import study_report

        return study_report(studies.StudyResult.load(folder), folder)
    from picolab.report.run import run_report
    from picolab.runs.folder import find_run

    return run_report(find_run(what))
