"""Do the parts of a study go together? What only shows when they stand side by side, asked before anything is computed.

settings x axes         a setting fixed and varied; one that no model of the study has; no length
method x points         a range in a grid, a search of no points
eval_batches x axes     losses on other text at every point
processes x judges      what looks on inside a run cannot see into other processes
"""

from __future__ import annotations

from picolab.errors import BadSetting, UnknownName
from picolab.studies.study import PRESET, Study, fields_of
from picolab.zoo import PRESETS


def check_study(study: Study) -> None:
    """Refuse a study whose parts contradict each other."""
    _check_names(study)
    _check_method(study)
    _check_same_text(study)
    _check_processes(study)
    if not {"training.steps", "training.tokens"} & {*study.settings, *(axis.name for axis in study.axes)}:
        raise BadSetting("the study does not say how long its runs are", hint="`settings: {steps: 200}`")


def _check_names(study: Study) -> None:
    """Every preset is known, every setting is set once and concerns a model of the study."""
    for preset in study.presets:
        if preset not in PRESETS:
            raise UnknownName("preset", preset, PRESETS)
    seen: set[str] = set()
    for axis in study.axes:
        if axis.name in seen or axis.name in study.settings:
            raise BadSetting(f"`{axis.name}` is set twice", hint="a setting is fixed, or one axis")
        seen.add(axis.name)
        for preset in axis.only:
            if preset not in study.presets:
                raise UnknownName("preset of this study", preset, study.presets)
        if not any(axis.concerns(preset) for preset in study.presets):
            _refuse_field(axis.name, study.presets)
    for name in study.settings:
        if name.startswith("model.") and name != PRESET and not any(name[6:] in fields_of(p) for p in study.presets):
            _refuse_field(name, study.presets)


def _check_method(study: Study) -> None:
    """A grid has values and all its points; a search says how many it draws."""
    for axis in study.axes:
        if axis.is_range and study.method == "grid":
            raise BadSetting(
                f"axis `{axis.name}` is a range, and a grid needs values",
                hint=f"`{axis.short}: [..]`, or `method: random` with `points: 20`",
            )
    if study.method == "grid" and study.n_points is not None:
        raise BadSetting(
            f"`points` is {study.n_points}, and a grid has all its points", hint="leave it out, or `method: random`"
        )
    if study.method != "grid" and study.n_points is None:
        raise BadSetting(f"`method: {study.method}` does not say how many `points`", hint="`points: 20`")


def _check_same_text(study: Study) -> None:
    """Losses can be set side by side only if they are measured on the same text."""
    if study.settings.get("training.eval_batches") in (None, "none"):
        return
    for axis in study.axes:
        if axis.name in ("training.batch_size", "data.context_length"):
            raise BadSetting(
                f"`eval_batches` {study.settings['training.eval_batches']} with axis `{axis.short}` scores "
                f"every point on other text",
                hint="leave `eval_batches` out: then each loss is on the whole validation split",
            )


def _check_processes(study: Study) -> None:
    """What looks on at every evaluation sits in this process, and a run of several processes is elsewhere."""
    if study.processes == 1:
        return
    if study.pruning != "none":
        raise BadSetting(
            f"`pruning: {study.pruning}` does not reach into runs of {study.processes} processes",
            hint="`pruning: none`",
        )
    if inside := [judge for judge in study.judges if judge != "sampling"]:
        raise BadSetting(
            f"judge `{inside[0]}` does not reach into runs of {study.processes} processes",
            hint="leave it out, or `processes: 1`",
        )
    sizes = [("batch_size", study.settings.get("training.batch_size"))]
    sizes += [("batch_size", v) for axis in study.axes if axis.name == "training.batch_size" for v in axis.values]
    for name, size in sizes:
        if isinstance(size, int) and size % study.processes:
            raise BadSetting(
                f"`{name}` {size} cannot be shared by {study.processes} processes",
                hint="it counts the rows of a whole step: make it a multiple of `processes`",
            )


def _refuse_field(name: str, presets: tuple[str, ...]) -> None:
    raise UnknownName("setting of these models", name[6:], {field for preset in presets for field in fields_of(preset)})
