"""`picolab sweep`: a study of many runs, resumable, in parallel, with what it will take said before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from picolab.cli import console
from picolab.cli.compare import fresh_folder
from picolab.cli.flags import COMMON, Gpt2Dir, Json, Out, use_gpt2_dir


def sweep(
    study: Annotated[
        str, Parameter(help="A YAML file, a shipped study (`picolab ls studies`), or a folder to go on with.")
    ],
    /,
    *,
    tiny: Annotated[bool, Parameter(help="The small version: a few minutes instead of hours.")] = False,
    workers: Annotated[int, Parameter(help="Processes at once; each takes its share of the cores.")] = 1,
    dry_run: Annotated[bool, Parameter(help="Say how many runs, how long, how much disk; run nothing.")] = False,
    yes: Annotated[bool, Parameter(help="More than 10,000 runs are meant.")] = False,
    storage: Annotated[
        str | None,
        Parameter(help="Database for machines that share no folder: sqlite:///x.db, postgresql://.. [default: none]"),
    ] = None,
    seeds: Annotated[str | None, Parameter(help="Other seeds than the study's: how many, or 0,4,7.")] = None,
    gpt2_dir: Gpt2Dir = None,
    seed: Annotated[int | None, Parameter(group=COMMON, help="Decides which points a search draws.")] = None,
    out: Annotated[Out, Parameter(help="The study's folder. [default: runs/<date>_sweep_<name>]")] = None,
    as_json: Json = False,
) -> int:
    """Ask one question of many runs: a grid or a search over any settings.

    Each point runs with several seeds, as ordinary runs. Killed or interrupted, the
    same command with the same --out goes on; several processes may share one --out.
    What was found is told in words, with pictures, data and a page.
    """
    from picolab.cli.sweep_asked import asked_study
    from picolab.cli.sweep_display import SweepDisplay
    from picolab.cli.sweep_show import tell
    from picolab.studies.points import check_size

    use_gpt2_dir(gpt2_dir)
    asked, folder = asked_study(study, tiny=tiny, seeds=seeds, seed=seed)
    check_size(asked, meant=yes)
    if dry_run:
        return _forecast(asked, workers, as_json=as_json)
    from picolab.report.study import study_report
    from picolab.studies.sweep import sweep as run_study

    folder = out or folder or fresh_folder(Path("runs"), f"sweep_{asked.name}{'-tiny' if tiny else ''}")
    with SweepDisplay(console.progress(), asked, folder) as display:
        result = run_study(asked, out=folder, workers=workers, storage=storage, meant=yes, report=display)
    page = study_report(result, folder)
    if as_json:
        console.emit({**result.as_json(), "folder": folder, "report": page})
    else:
        tell(result, folder, page)
    if not result.complete:
        console.progress().print(f"interrupted; {_goes_on(folder, storage)} goes on", soft_wrap=True)
        return 130
    return 0 if result.finished else 1


def _forecast(study: Any, workers: int, *, as_json: bool) -> int:
    from picolab.studies.forecast import forecast

    found = forecast(study, workers=workers)
    if as_json:
        console.emit(found)
        return 0
    span = f"{console.duration(found.seconds_low)} to {console.duration(found.seconds_high)}"
    each = f"{len(study.seeds)} seeds" if len(study.seeds) > 1 else "1 seed"
    print(f"{found.runs:,} runs: {found.points:,} points, {each} each")
    print(f"about {console.duration(found.seconds)} ({span}) with {workers} worker{'s' * (workers > 1)}")
    print(
        f"{console.size(found.disk_bytes)} of disk for checkpoints, {console.size(found.memory_bytes)} of "
        f"memory at most for a worker"
    )
    print(
        f"measured on {found.measured} of {found.shapes} shapes of model and batch, {found.measured_steps} "
        f"steps each; nothing was run"
    )
    return 0


def _goes_on(folder: Path, storage: str | None) -> str:
    """The command that continues; a password stays with whoever knows it."""
    from picolab.runs.machine import without_password

    return f"picolab sweep {folder}" + ("" if storage is None else f" --storage {without_password(storage)}")
