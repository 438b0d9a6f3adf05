"""Which pictures stand on the page of a study, and what is said below each? The same as in its folder, inside the file.

PICTURES -> figure -> SVG -> title, picture, what is seen on it: bands only where seeds make some
"""

from __future__ import annotations

from matplotlib import rc_context

from picolab.report.embedded import Shown, address_of
from picolab.report.interpretation.exhibit import PICTURE, as_svg
from picolab.studies.plots.along import axis_along
from picolab.studies.plots.pictures import PICTURES
from picolab.studies.result import StudyResult

ALONG = "Mean over seeds and over the settings without a line of their own{band}."
ALONG_NAMES = (
    "A small mark is a seed, a bar the mean over seeds; settings without a mark of their own are averaged over."
)
SAYS = {
    "turning": (
        "Where the losses part",
        "Training and held-out loss along the steps{band}. A dotted line: overfitting begins.",
    ),
    "by-heart": (
        "What samples repeat",
        "Texts are drawn at every evaluation and cut into runs of four tokens{band}.",
    ),
    "line": ("Along one setting", ALONG),
    "others": ("The same, for the other figures asked about", ALONG),
    "heatmap": ("Two settings together", "Means over seeds, and over the other settings; dark is good{own}."),
    "parallel": (
        "Every point through all settings",
        "A line is a point. Values of a setting stand in order, equally far apart; dark lines are good{own}.",
    ),
    "front": (
        "What the cost buys",
        "Every point{spread}, and the points that no cheaper one beats, numbered as in the words above.",
    ),
    "power-law": (
        "How the loss scales",
        "Straight lines through logarithms, with the exponent's margin at 95 %. Hollow points were left out, because a want of "
        "something else holds their loss up.",
    ),
}


def pictures_of(result: StudyResult) -> tuple[Shown, ...]:
    """The pictures whose data are there."""
    shown = []
    with rc_context(PICTURE | {"figure.constrained_layout.use": False}):
        for name, draw in PICTURES.items():
            figure = draw(result)
            if figure is not None:
                title, _ = SAYS[name]
                shown.append(Shown(title=title, says=caption_of(name, result), address=address_of(as_svg(figure))))
    return tuple(shown)


def caption_of(name: str, result: StudyResult) -> str:
    """What is seen on a picture of this study."""
    axis, bands = axis_along(result), result.study.has_bands
    names = name in ("line", "others") and axis is not None and not axis.is_numeric
    says = ALONG_NAMES if names else SAYS[name][1]
    return says.format(
        band="; the band spans the seeds" if bands else "; one seed, so no band",
        spread=", the spread of its seeds" if bands else "",
        own="; each condition has colours of its own" if result.study.conditions else "",
    )
