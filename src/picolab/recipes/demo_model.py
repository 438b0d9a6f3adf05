"""A model that has learned something, in a few seconds: what `picolab trace` looks at where nothing was ever trained.

The small transformer of the demo, on the shipped stories, with the demo's settings.
"""

from __future__ import annotations

from picolab.recipes.demo import PARTS
from picolab.runs.folder import Run
from picolab.runs.settings import Settings, resolve
from picolab.train.loop import train
from picolab.train.record import Report

PART = next(part for part in PARTS if part.name == "stories")
PRESET = PART.models[-1]
NAME = "demo-model"


def demo_settings(*, seed: int = 0) -> Settings:
    """What the demo's transformer is trained with."""
    given = {**PART.settings, "data": PART.data, "tokens": str(PART.tokens), "name": NAME, "seed": str(seed)}
    return resolve(preset=PRESET, overrides=given)


def train_demo_model(*, seed: int = 0, report: Report | None = None) -> Run:
    """Train it and leave the run in `runs/`, where it is then the newest one."""
    return train(demo_settings(seed=seed), report=report)
