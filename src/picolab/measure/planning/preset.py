"""The shape of a preset with settings of one's own, without building the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from picolab.errors import UnknownName
from picolab.measure.planning.shape import Shape, shape_of
from picolab.zoo import ARCHITECTURES, PRESETS, check_settings


def preset_shape(preset: str, settings: Mapping[str, Any]) -> Shape:
    """The shape; every setting must be one of its architecture."""
    if preset not in PRESETS:
        raise UnknownName("preset", preset, PRESETS)
    chosen = PRESETS[preset]
    config = ARCHITECTURES[chosen.architecture].config(
        **check_settings(chosen.architecture, {**chosen.settings, **settings})
    )
    return shape_of(chosen.architecture, asdict(config))
