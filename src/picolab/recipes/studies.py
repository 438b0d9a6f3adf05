"""Questions that come with picolab: studies as YAML files, each with a tiny version that answers in about a minute.

picolab ls studies            picolab sweep overfitting --tiny
"""

from __future__ import annotations

from importlib.resources import as_file, files

from picolab.errors import UnknownName
from picolab.studies.read import read_study
from picolab.studies.study import Study

_FOLDER = files("picolab.recipes") / "shipped"
SHIPPED: tuple[str, ...] = tuple(
    sorted(entry.name.removesuffix(".yaml") for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml"))
)
"""Names of the shipped studies."""


def shipped(name: str, *, tiny: bool = False) -> Study:
    """A shipped study, or its tiny version."""
    if name not in SHIPPED:
        raise UnknownName("shipped study", name, SHIPPED)
    with as_file(_FOLDER / f"{name}.yaml") as path:
        return read_study(path, tiny=tiny)
