"""The course of a run, alone and over seeds, in as few points as the eye needs and with no spike lost.

metrics rows -> Series: step, tokens, seconds, loss          one run
Series of several seeds -> Track: mean, low, high            at the steps that all of them measured
10,000 points -> buckets in step and in log step -> the lowest and the highest of each -> about 300 points
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from picolab.compare.bands import band
from picolab.errors import BadSetting


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """A loss as it was measured on the way: four columns of equal length."""

    step: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()
    loss: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Both losses of one run, in nats a token: on what it trained, and on the validation split."""

    model: str
    seed: int
    train: Series
    validation: Series


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """A loss over seeds: columns of equal length, `low` and `high` the smallest and largest seed."""

    step: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    seeds: int = 0

    def __len__(self) -> int:
        return len(self.step)


def series_of(rows: Iterable[Mapping[str, Any]], key: str) -> Series:
    """The column `key` (`train/loss`, `val/loss`) of the rows of a metrics.jsonl that have it and where it is finite."""
    kept = [row for row in rows if isinstance(row.get(key), int | float) and math.isfinite(row[key])]
    return Series(
        step=tuple(int(row["step"]) for row in kept),
        tokens=tuple(int(row["tokens"]) for row in kept),
        seconds=tuple(round(float(row["seconds"]), 3) for row in kept),
        loss=tuple(float(row[key]) for row in kept),
    )


def over_seeds(series: Sequence[Series]) -> Track:
    """Mean and spread at the steps that every series has."""
    filled = [one for one in series if len(one)]
    if not filled:
        return Track()
    places = [{step: i for i, step in enumerate(one.step)} for one in filled]
    steps = sorted(set.intersection(*(set(place) for place in places)))
    points = [[(one, place[step]) for one, place in zip(filled, places, strict=True)] for step in steps]
    losses = [band([one.loss[i] for one, i in point]) for point in points]
    return Track(
        step=tuple(steps),
        tokens=tuple(round(math.fsum(one.tokens[i] for one, i in point) / len(point)) for point in points),
        seconds=tuple(math.fsum(one.seconds[i] for one, i in point) / len(point) for point in points),
        mean=tuple(loss.mean for loss in losses),
        low=tuple(loss.low for loss in losses),
        high=tuple(loss.high for loss in losses),
        seeds=len(filled),
    )


def thin(track: Track, points: int) -> Track:
    """At most `points` of the track: the ends, and the lowest and highest of every bucket, so that spikes stay."""
    if points < 8:
        raise BadSetting(f"{points} points cannot draw a curve", hint="8 at least, about 300 for a page")
    n = len(track)
    if n <= points:
        return track
    buckets = (points - 2) // 4  # two points each, half of the buckets even in step, half even in log step
    edges = {round(i * n / buckets) for i in range(buckets + 1)} | {
        round(n ** (i / buckets)) - 1 for i in range(buckets + 1)
    }
    ordered = sorted(edges)
    kept = {0, n - 1}
    for start, end in pairwise(ordered):
        kept |= {min(range(start, end), key=track.low.__getitem__), max(range(start, end), key=track.high.__getitem__)}
    chosen = sorted(kept)
    return Track(
        step=tuple(track.step[i] for i in chosen),
        tokens=tuple(track.tokens[i] for i in chosen),
        seconds=tuple(track.seconds[i] for i in chosen),
        mean=tuple(track.mean[i] for i in chosen),
        low=tuple(track.low[i] for i in chosen),
        high=tuple(track.high[i] for i in chosen),
        seeds=track.seeds,
    )
