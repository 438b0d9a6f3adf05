"""A study as a page: what was found in words first, then pictures, then every point.

StudyResult -> head, words, pictures (inside the file), table of points, method -> report.html
"""

from __future__ import annotations

from pathlib import Path

from picolab.compare.ranking import NOT_HELD_OUT
from picolab.report import figures
from picolab.report.page import Fact, Page, write
from picolab.report.study_pictures import pictures_of
from picolab.report.study_table import table_of
from picolab.studies.figures import FIGURES
from picolab.studies.points import said
from picolab.studies.result import StudyResult
from picolab.studies.study import Axis

REPORT = "report.html"
EXPLAINED = ("gap", "memorised", "distinct", "repetition", "sample_nats", "sample_gap")
MARGIN = (
    "A difference is taken seed by seed, because a seed fixes the order of the data for all points; it counts "
    "when it is larger than "
    "Student's t at 95 %, widened for the number of pairs looked at (Bonferroni), times the standard error."
)
AVERAGES = (
    "In a grid the effect of a setting is the difference between its worst and best value, averaged over every "
    "combination of the other "
    "settings that all its values were tried with."
)
DRAWN = (
    "Points were drawn, so no two values met the same combinations. A setting is asked how much of the "
    "variation between points its "
    "values, or thirds of its range, explain, and how often shuffled points explain as much."
)
LOSS = (
    "The mean of −ln p(token | tokens before it) in nats, on the whole validation split unless the study sets "
    "eval_batches, after the "
    "last step of each run."
)


def study_report(result: StudyResult, folder: Path) -> Path:
    """Write `report.html` into the study's folder; returns its path."""
    return write(study_page(result), folder / REPORT)


def study_page(result: StudyResult) -> Page:
    """What the report of a study shows."""
    study = result.study
    words = result.words
    lead = result.recommendation.says if result.recommendation is not None else "No point finished with all its seeds."
    return Page(
        kind="study, tiny version" if study.tiny else "study",
        title=study.question or study.name,
        lead=lead,
        facts=_facts(result),
        words=tuple(sentence for sentence in words if sentence != lead),
        warnings=_warnings(result),
        pictures=pictures_of(result),
        table=table_of(result),
        method=_method(result),
        command=f"picolab sweep {study.name}{' --tiny' if study.tiny else ''}",
        made=f"Made by picolab {result.picolab} on {result.created}, {result.machine}.",
    )


def _facts(result: StudyResult) -> tuple[Fact, ...]:
    study = result.study
    finished, pruned, failed = (sum(t.status == s for t in result.trials) for s in ("finished", "pruned", "failed"))
    rest = ", ".join(f"{count} {what}" for count, what in ((pruned, "ended early"), (failed, "failed")) if count)
    facts = [
        Fact(label="Points", value=figures.whole(len(result.points)), note=study.method),
        Fact(label="Seeds", value=str(len(study.seeds)), note=", ".join(map(str, study.seeds))),
        Fact(label="Runs", value=figures.whole(finished), note=rest or "all finished"),
        *(_axis_fact(axis) for axis in study.axes),
        Fact(
            label="Computed",
            value=figures.seconds(sum(trial.seconds for trial in result.trials)),
            note="all runs, one after another",
        ),
    ]
    if result.uniform is not None:
        facts.append(Fact(label="Uniform guess", value=f"{result.uniform:.2f}", note="nats a token"))
    if result.floor is not None:
        facts.append(Fact(label="Exact floor", value=f"{result.floor:.3f}", note="nats a token, entropy of the rule"))
    return tuple(facts)


def _axis_fact(axis: Axis) -> Fact:
    """How many values an axis has and which; of one value the value itself."""
    if axis.is_range:
        ends = f"{axis.low:g} to {axis.high:g}" + (", in equal ratios" if axis.log else "")
        return Fact(label=axis.short, value="range", note=ends)
    if len(axis.values) == 1:
        return Fact(label=axis.short, value=said(axis.values[0]), note="its only value")
    return Fact(label=axis.short, value=f"{len(axis.values)} values", note=", ".join(map(said, axis.values)))


def _warnings(result: StudyResult) -> tuple[str, ...]:
    told = []
    if not result.complete:
        told.append("This study was interrupted: only what had finished is shown.")
    if result.study.tiny:
        told.append(
            "This is the tiny version: it shows how the study works, on models and budgets too small to conclude from."
        )
    if not result.study.has_bands:
        told.append("One seed: no bands are drawn, and no difference is told from chance.")
    if not result.held_out:
        told.append(_not_held_out(result))
    return tuple(told)


def _not_held_out(result: StudyResult) -> str:
    """Of which runs nothing was held out: of all, or of those with some values of an axis."""
    held, not_held = ([t.point for t in result.finished if t.data.get("held_out") is kind] for kind in (True, False))
    if not held:
        return NOT_HELD_OUT
    where = "in some runs"
    for axis in result.study.axes:
        values = dict.fromkeys(said(point[axis.name]) for point in not_held)
        if not values.keys() & {said(point[axis.name]) for point in held}:
            where = f"with {axis.short} {' or '.join(values)}"
    return f"Nothing was held out {where}: there models are scored on text they trained on, which rewards learning it by heart."


def _method(result: StudyResult) -> tuple[tuple[str, str], ...]:
    known = {name for point in result.points for name in point.figures}
    extra = [
        (name.replace("_", " ").capitalize(), f"{FIGURES[name].says[0].upper()}{FIGURES[name].says[1:]}.")
        for name in EXPLAINED
        if name in known
    ]
    effects = ("Effects", AVERAGES if result.study.method == "grid" else DRAWN)
    return (("Loss", LOSS), ("Telling apart", MARGIN), effects, *extra)
