"""A study as a page: what was found in words first, then pictures, then every point.

StudyResult -> head, words, pictures (inside the file), table of points, method -> report.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from picolab.compare.ranking import NOT_HELD_OUT
from picolab.report import figures
from picolab.report.embedded import Shown, address_of
from picolab.report.interpretation.exhibit import PICTURE, as_svg
from picolab.report.page import Cell, Fact, Line, Page, Table, write
from picolab.studies.figures import FIGURES
from picolab.studies.plots.pictures import PICTURES
from picolab.studies.points import point_said, said, without
from picolab.studies.result import PointResult, StudyResult, best_first

REPORT = "report.html"
SAYS = {
    "turning": (
        "Where the losses part",
        "Training and held-out loss along the steps; the band spans the seeds. A dotted line: overfitting begins.",
    ),
    "line": (
        "Along one setting",
        "Mean over seeds and over the settings without a line of their own; the band spans the seeds.",
    ),
    "by-heart": (
        "What samples repeat",
        "Texts are drawn at every evaluation and cut into runs of four tokens; the band spans the seeds.",
    ),
    "others": (
        "The same, for the other figures asked about",
        "Mean over seeds and over the settings without a line of their own; the band spans the seeds.",
    ),
    "heatmap": ("Two settings together", "Means over seeds, and over the other settings; dark is good."),
    "parallel": (
        "Every point through all settings",
        "A line is a point. Values of a setting stand in order, equally far apart; dark lines are good.",
    ),
    "front": (
        "What the cost buys",
        "Every point, the spread of its seeds, and the points that no cheaper one beats, numbered as in the words above.",
    ),
    "power-law": (
        "How the loss scales",
        "Straight lines through logarithms, with the exponent's margin at 95 %.",
    ),
}
COLUMNS = (
    "loss", "best_loss", "train_loss", "gap", "bits_per_byte", "memorised", "distinct", "repetition", "sample_gap", "parameters",
    "tokens", "tokens_per_second", "seconds",
)  # fmt: skip
EXPLAINED = ("gap", "memorised", "distinct", "repetition", "sample_nats", "sample_gap")
MOST_COLUMNS = 6
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
        pictures=tuple(_pictures(result)),
        table=_table(result),
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
        *(
            Fact(label=axis.short, value=str(len(axis.values)) if axis.values else "range", note=_values(axis))
            for axis in study.axes
        ),
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


def _values(axis: Any) -> str:
    if axis.is_range:
        return f"{axis.low:g} to {axis.high:g}" + (", in equal ratios" if axis.log else "")
    return ", ".join(said(value) for value in axis.values)


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
        told.append(NOT_HELD_OUT)
    return tuple(told)


def _pictures(result: StudyResult) -> list[Shown]:
    shown = []
    with rc_context(PICTURE | {"figure.constrained_layout.use": False}):
        for name, draw in PICTURES.items():
            figure: Figure | None = draw(result)
            if figure is not None:
                title, says = SAYS[name]
                if not result.study.has_bands:
                    says = says.replace("; the band spans the seeds", "; one seed, so no band")
                shown.append(Shown(title=title, says=says, address=address_of(as_svg(figure))))
    return shown


def _table(result: StudyResult) -> Table | None:
    known = {name for point in result.points for name in point.figures}
    asked = [result.study.goal, *result.study.also]
    names = [*asked, *(name for name in COLUMNS if name in known and name not in asked)][:MOST_COLUMNS]
    constant = [axis.name for axis in result.study.axes if len(axis.values) == 1]
    reasons = {t.number: t.reason or "" for t in result.trials if t.status != "finished"}
    return Table(
        columns=(("Point", ""), *((name.replace("_", " "), FIGURES[name].unit) for name in names)),
        lines=tuple(
            Line(
                colour="ink",
                name=point_said(without(point.point, constant)) or "the only point",
                says="" if point.status == "finished" else point.status,
                baseline=False,
                cells=tuple(_cell(point, name) for name in names) if result.study.goal in point.figures else (),
                reason=reasons.get(point.number, ""),
            )
            for point in best_first(result.points, result.study.goal)
        ),
        title="Every point",
        caption="Means over seeds; a range is the smallest to the largest seed.",
    )


def _cell(point: PointResult, name: str) -> Cell:
    band = point.figures.get(name)
    if band is None:
        return Cell(text=figures.NOTHING, key=None)
    digits = FIGURES[name].digits
    text = figures.short(band.mean) if digits == 0 else f"{band.mean:.{digits}f}"
    spread = (
        f"{band.low:.{digits}f} to {band.high:.{digits}f}"
        if band.seeds > 1 and digits and band.low != band.high
        else ""
    )
    return Cell(text=text, key=band.mean, note=spread)


def _method(result: StudyResult) -> tuple[tuple[str, str], ...]:
    known = {name for point in result.points for name in point.figures}
    extra = [
        (name.replace("_", " ").capitalize(), f"{FIGURES[name].says[0].upper()}{FIGURES[name].says[1:]}.")
        for name in EXPLAINED
        if name in known
    ]
    effects = ("Effects", AVERAGES if result.study.method == "grid" else DRAWN)
    return (("Loss", LOSS), ("Telling apart", MARGIN), effects, *extra)
