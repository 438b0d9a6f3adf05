"""Every sentence of a study read as a person reads it, and counted again from the rows of study.json, by other means.

    says -> which claim, with which names and numbers -> the same from the trials, with numpy and scipy -> equal to the last digit

Nothing of picolab.studies is called here, and no figure of a finding is read: only `says`, `trials` and the study's own settings.
A sentence that no reader here understands is an error.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

NAMES = {
    "validation loss": "loss", "lowest validation loss on the way": "best_loss", "training speed": "tokens_per_second",
    "distance of the samples' loss from the held-out text's": "sample_gap", "loss of the samples under the model": "sample_nats",
    "share of the samples' 4-grams that are different ones": "distinct",
    "share of sampled 4-grams that have stood earlier in the same text": "repetition",
}  # fmt: skip
HIGHER = {"tokens_per_second"}
PAID = {"training compute": "flops", "time": "seconds"}
PM = r"(?P<d>[\d,.]+) ± (?P<m>[\d,.]+)"


@dataclass
class Trials:
    """The finished trials of a study, and those of one condition."""

    rows: list[dict[str, Any]]
    goal: str
    ask: Sequence[str]

    def under(self, given: str | None) -> Trials:
        """Those for which `model lstm` holds."""
        conditions = dict(part.split(" ", 1) for part in given.split(", ")) if given else {}
        kept = [
            row for row in self.rows if all(said(row["point"][name]) == value for name, value in conditions.items())
        ]
        kept = [{**row, "point": {k: v for k, v in row["point"].items() if k not in conditions}} for row in kept]
        assert kept, given
        return Trials(kept, self.goal, self.ask)

    def axes(self) -> list[str]:
        return [a for a in self.rows[0]["point"] if len({row["point"][a] for row in self.rows} - {None}) > 1]

    def points(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of each point, by the words for it."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows:
            found.setdefault(worded(row["point"]), []).append(row)
        return found


def trials_of(content: Mapping[str, Any]) -> Trials:
    """The rows of a study.json, under the names that sentences use."""
    short = {"model.preset": "model", "data.spec": "data"}
    rows = [
        {**t, "point": {short.get(k, k.rpartition(".")[2]): v for k, v in t["point"].items()}}
        for t in content["trials"]
        if t["status"] == "finished"
    ]
    return Trials(rows, content["study"]["goal"], content["study"]["ask"])


def check(content: Mapping[str, Any]) -> set[str]:
    """Count every sentence again; the names of the readers that understood one."""
    trials, understood = trials_of(content), set()
    for says in [*(finding["says"] for finding in content["findings"]), *_advice(content["recommendation"]["says"])]:
        readers = [(reader, found) for reader in READERS if (found := re.fullmatch(reader.pattern, says))]  # type: ignore[attr-defined]
        assert len(readers) == 1, (says, [reader.__name__ for reader, _ in readers])
        reader, found = readers[0]
        reader(trials, found)
        understood.add(reader.__name__)
    return understood


def _advice(says: str) -> list[str]:
    """The recommendations of several conditions, each by itself."""
    return re.split(r"(?<=\.) (?=With )", says)


def said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def worded(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {said(value)}" for name, value in point.items() if value is not None)


def same(shown: str, value: float) -> None:
    """A number as shown is the value, to its last digit."""
    digits = shown.replace(",", "").rstrip("%")
    half = 0.5001 * 10.0 ** -len(digits.partition(".")[2])
    value = value * 100 if shown.endswith("%") else value
    assert abs(float(digits) - value) <= half, (shown, value)


def reader(pattern: str) -> Callable[[Any], Any]:
    """Gives a reader the sentences it understands; each may begin with a condition."""

    def give(function: Any) -> Any:
        function.pattern = rf"(?:[Ww]ith (?P<given>(?:model|data) [\w-]+), )?{pattern}"
        READERS.append(function)
        return function

    return give


READERS: list[Any] = []


def _levels(trials: Trials, axis: str, figure: str) -> tuple[dict[str, np.ndarray], int]:
    """The mean of each value, seed by seed, over combinations that all values and seeds have; and how many those are."""
    cells: dict[tuple[str, tuple[Any, ...], int], float] = {
        (said(r["point"][axis]), tuple(v for k, v in r["point"].items() if k != axis), r["seed"]): r["figures"][figure]
        for r in trials.rows
        if r["point"][axis] is not None
    }
    values, rest, seeds = (sorted({key[i] for key in cells}, key=str) for i in range(3))
    whole = [c for c in rest if all((v, c, s) in cells for v in values for s in seeds)]
    return {v: np.array([np.mean([cells[v, c, s] for c in whole]) for s in seeds]) for v in values}, len(whole)


def _margin(levels: Mapping[str, np.ndarray]) -> float:
    """By least squares: a mean for each value and for each seed; 95 % for all pairs together."""
    table = np.array(list(levels.values()))
    n, s = table.shape
    design = [[*np.eye(n)[i], *np.eye(s)[j][1:]] for i in range(n) for j in range(s)]
    matrix, y = np.array(design), table.flatten()
    left = y - matrix @ np.linalg.lstsq(matrix, y)[0]
    free = n * s - n - s + 1
    contrast = np.array([1, -1, *[0] * (n + s - 3)])
    variance = contrast @ np.linalg.inv(matrix.T @ matrix) @ contrast * (left @ left) / free
    return float(stats.t.ppf(1 - 0.025 / (n * (n - 1) / 2), free) * np.sqrt(variance))


def _size(levels: Mapping[str, np.ndarray]) -> float:
    means = [one.mean() for one in levels.values()]
    return float(max(means) - min(means))


@reader(
    rf"(?P<axis>\w+) (?P<verdict>matters most|matters as well|matters|makes no difference[^:]*): from (?P<a>\S+) to (?P<b>\S+) "
    rf"the (?P<what>.+?) (?P<way>rises|falls) by {PM}(?: nats a token| tokens/s)?(?P<mean> on average over the other settings)?\."
)
def effect(all_trials: Trials, f: re.Match[str]) -> None:
    trials, figure = all_trials.under(f["given"]), NAMES[f["what"]]
    levels, contexts = _levels(trials, f["axis"], figure)
    best, worst = (pick(levels, key=lambda v: levels[v].mean()) for pick in (min, max))
    if figure in HIGHER:
        best, worst = worst, best
    assert (f["a"], f["b"]) == (best, worst)
    size, margin = _size(levels), _margin(levels)
    same(f["d"], size)
    same(f["m"], margin)
    assert f["way"] == ("falls" if figure in HIGHER else "rises")
    assert (f["mean"] is not None) == (contexts > 1)
    assert f["verdict"].startswith("makes no") == (size <= margin)
    others = [_levels(trials, axis, figure)[0] for axis in trials.axes()]
    sure = [_size(one) for one in others if len(one) > 1 and _size(one) > _margin(one)]
    if not f["verdict"].startswith("makes no"):
        assert (f["verdict"] != "matters as well") == (size == max(sure))
        assert (f["verdict"] == "matters most") == _is_largest(levels, others)


def _is_largest(levels: Mapping[str, np.ndarray], all_levels: Sequence[Mapping[str, np.ndarray]]) -> bool:
    """Whether an effect is larger than the largest of the others by more than chance, seed by seed."""
    mine, *rest = (
        np.abs(pick(one.values(), key=np.mean) - other(one.values(), key=np.mean))
        for one in (levels, *(one for one in all_levels if len(one) > 1 and one.keys() != levels.keys()))
        for pick, other in ((max, min),)
    )
    if not rest:
        return False
    runner_up = max(rest, key=np.mean)
    return bool(stats.ttest_rel(mine, runner_up).confidence_interval(0.95).low > 0)


@reader(
    rf"(?:[Tt]he effect of (?P<a>\w+) is larger than that of (?P<b>\w+) by"
    rf"|[Ww]hether (?P<a2>\w+) or (?P<b2>\w+) matters more cannot be told with \d+ seeds: their effects differ by) "
    rf"{PM} nats a token\."
)
def rival(all_trials: Trials, f: re.Match[str]) -> None:
    trials = all_trials.under(f["given"])
    sizes = []
    for axis in (f["a"] or f["a2"], f["b"] or f["b2"]):
        levels, _ = _levels(trials, axis, trials.goal)
        low, high = (pick(levels.values(), key=np.mean) for pick in (min, max))
        sizes.append(np.abs(high - low))
    gap = stats.ttest_rel(*sizes)
    interval = gap.confidence_interval(0.95)
    same(f["d"], abs(float(np.mean(sizes[0] - sizes[1]))))
    same(f["m"], float(interval.high - interval.low) / 2)
    assert (f["a"] is not None) == (interval.low * interval.high > 0)


@reader(
    r"[Vv]alues of (?P<axis>\w+) not told apart(?: by the (?P<what>.+))? with (?P<n>\d+) seeds: (?P<pairs>.+?)"
    r"(?:, and (?P<more>\d+) more pairs?)?\."
)
def not_told_apart(all_trials: Trials, f: re.Match[str]) -> None:
    trials = all_trials.under(f["given"])
    levels, _ = _levels(trials, f["axis"], NAMES[f["what"]] if f["what"] else trials.goal)
    margin = _margin(levels)
    near = {
        frozenset((a, b)): abs(levels[a].mean() - levels[b].mean())
        for a, b in itertools.combinations(levels, 2)
        if abs(levels[a].mean() - levels[b].mean()) <= margin
    }
    shown = re.findall(r"(\S+) and (\S+) \(([\d,.]+) ± ([\d,.]+)\)", f["pairs"])
    assert len(shown) + int(f["more"] or 0) == len(near)
    for a, b, d, m in shown:
        same(d, near[frozenset((a, b))])
        same(m, margin)


@reader(
    r"(?P<n>\d+) of (?P<of>\d+) points (?:is|are) worth the (?P<cost>[\w ]+), nothing that takes less is better: (?P<list>.+?)"
    r"(?:; and (?P<more>\d+) more)?\."
)
def front(all_trials: Trials, f: re.Match[str]) -> None:
    trials, cost = all_trials.under(f["given"]), PAID[f["cost"]]
    means = {
        name: (np.mean([r["figures"][cost] for r in rows]), np.mean([r["figures"][trials.goal] for r in rows]))
        for name, rows in trials.points().items()
    }
    kept = [
        name for name, (c, g) in means.items()
        if not any(c2 <= c and g2 <= g and (c2, g2) != (c, g) for c2, g2 in means.values())
    ]  # fmt: skip
    kept.sort(key=lambda name: means[name])
    assert (int(f["n"]), int(f["of"])) == (len(kept), len(means))
    shown = re.findall(r"(.+?) \(([\d.]+) for ([\d.]+) ?([kMGT]?) ?(?:FLOP|s)\)(?:; |$)", f["list"])
    assert len(shown) + int(f["more"] or 0) == len(kept)
    for name, (text, goal, paid, unit) in zip(kept, shown, strict=False):
        assert text == name
        same(goal, means[name][1])
        assert f"{means[name][0] / {'': 1, 'k': 1e3, 'M': 1e6, 'G': 1e9, 'T': 1e12}[unit]:.3g}" == paid


def turns(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Which evaluation of each run has the lowest held-out loss, the untrained model left out."""
    return [1 + int(np.argmin(row["course"]["loss"][1:])) for row in rows]


@reader(
    r"(?P<point>[\w., -]+): overfitting begins at step (?P<step>\d+) \((?P<low>\d+) to (?P<high>\d+) over (?P<n>\d+) seeds\)\. "
    r"From there to step (?P<last>\d+) the validation loss rises by (?P<d>[\d.]+) ± (?P<m>[\d.]+) while the training loss falls by "
    r"(?P<d2>[\d.]+) ± (?P<m2>[\d.]+) nats a token\."
)
def turn(trials: Trials, f: re.Match[str]) -> None:
    rows = trials.points()[f["point"]]
    places = turns(rows)
    steps = [row["course"]["step"][place] for row, place in zip(rows, places, strict=True)]
    assert (int(f["low"]), int(f["high"]), int(f["n"])) == (min(steps), max(steps), len(rows))
    assert int(f["last"]) == rows[0]["course"]["step"][-1] > max(steps)
    same(f["step"], float(np.mean(steps)))
    for column, sign, d, m in (("loss", 1, "d", "m"), ("train_loss", -1, "d2", "m2")):
        moved = [
            sign * (row["course"][column][-1] - row["course"][column][p]) for row, p in zip(rows, places, strict=True)
        ]
        interval = stats.ttest_1samp(moved, 0).confidence_interval(0.95)
        same(f[d], float(np.mean(moved)))
        same(f[m], float(interval.high - interval.low) / 2)
        assert interval.low > 0, "both are told apart from nothing"


@reader(
    r"(?P<point>[\w., -]+): of the 4-grams in samples, (?P<a>\d+%) stand in the training text at first, (?P<b>\d+%) at the lowest "
    r"validation loss and (?P<c>\d+%) at the end; different ones among them are (?P<x>\d+%), (?P<y>\d+%) and (?P<z>\d+%)\."
)
def by_heart(trials: Trials, f: re.Match[str]) -> None:
    rows = trials.points()[f["point"]]
    places = turns(rows)
    for column, names in (("memorised", "abc"), ("distinct", "xyz")):
        for name, at in zip(names, ([0] * len(rows), places, [-1] * len(rows)), strict=True):
            same(f[name], float(np.mean([row["course"][column][p] for row, p in zip(rows, at, strict=True)])))


@reader(
    r"(?P<x>parameters|training tokens|training compute): (?:validation loss above the floor of [\d.]+ (?P<way>falls|rises) "
    r"with )?exponent (?P<e>-?[\d.]+) ± (?P<m>[\d.]+) (?P<rest>.+)"
)
def power_law(trials: Trials, f: re.Match[str]) -> None:
    name = {"parameters": "parameters", "training tokens": "tokens", "training compute": "flops"}[f["x"]]
    floor = re.search(r"floor of (\d+\.\d+)", f[0])
    assert floor is not None
    points = [
        {k: np.mean([r["figures"][k] for r in rows]) for k in ("parameters", "tokens", "flops", "loss")}
        for rows in trials.points().values()
    ]
    if name == "flops":
        chosen = [p for p in points if not any(q["flops"] <= p["flops"] and q["loss"] < p["loss"] for q in points)]
    else:
        other = "tokens" if name == "parameters" else "parameters"
        chosen = [p for p in points if p[other] > 0.9 * max(q[other] for q in points)]
    floors = {row["data"]["floor"] for row in trials.rows}
    assert len(floors) == 1
    exact = floors.pop()
    same(floor[1], exact)
    fit = stats.linregress(np.log([p[name] for p in chosen]), np.log([p["loss"] - exact for p in chosen]))
    margin = stats.t.ppf(0.975, len(chosen) - 2) * fit.stderr
    same(f["e"].lstrip("-"), abs(fit.slope))
    same(f["m"], margin)
    assert (f["way"] is not None) == (abs(fit.slope) > margin)
    if f["way"]:
        assert f["way"] == ("falls" if fit.slope < 0 else "rises")
        times = re.search(r"multiplies it by ([\d.]+)\.$", f["rest"])
        assert times is not None
        same(times[1], 10**fit.slope)
    assert f"{len(chosen)} points from" in f[0]


@reader(r"Points that differ in (?P<axis>[\w ]+) are scored on different text, so .+")
def other_text(trials: Trials, f: re.Match[str]) -> None:
    assert f["axis"] in trials.rows[0]["point"]


@reader(r"Stop (?P<list>.+?)(?:; no turn .+)?\.")
def when_to_stop(trials: Trials, f: re.Match[str]) -> None:
    for step, point in re.findall(r"at step (\d+) with (\w+ \w+)", f["list"]):
        rows = trials.points()[point]
        same(step, float(np.mean([r["course"]["step"][p] for r, p in zip(rows, turns(rows), strict=True)])))


@reader(
    r"[Tt]ake (?P<point>.+?): the (?P<what>[\w' -]+?) is (?P<mean>[\d.]+) nats a token \((?P<low>[\d.]+) to (?P<high>[\d.]+) "
    r"over \d+ seeds\)"
    r"(?:, the best mean(?:; (?P<near>\d+) other points? (?:is|are) within the noise of seeds)?"
    r"|\. The best, (?P<best>.+?) \((?P<its>[\d.]+)\), is ahead by no more than the noise of seeds, and this takes "
    r"(?P<share>\d+)% of its (?P<cost>[\w ]+))\."
)
def advice(all_trials: Trials, f: re.Match[str]) -> None:
    trials, goal = all_trials.under(f["given"]), all_trials.goal
    assert NAMES[f["what"]] == goal
    points = trials.points()
    values = {name: [row["figures"][goal] for row in rows] for name, rows in points.items()}
    ranked = sorted(values, key=lambda name: np.mean(values[name]))
    half = np.array([values[name] for name in ranked[: max(2, -(-len(ranked) // 2))]])
    n, s = half.shape
    left = half - half.mean(1)[:, None] - half.mean(0) + half.mean()
    noise = stats.t.ppf(0.975, (n - 1) * (s - 1)) * np.sqrt((left**2).sum() / (n - 1) / (s - 1) * 2 / s)
    near = [name for name in ranked[1:] if np.mean(values[name]) - np.mean(values[ranked[0]]) <= noise]
    mine = values[f["point"]]
    same(f["mean"], float(np.mean(mine)))
    same(f["low"], min(mine))
    same(f["high"], max(mine))
    if f["best"] is None:
        assert f["point"] == ranked[0] and int(f["near"] or 0) == len(near)
        return
    assert f["best"] == ranked[0] and f["point"] in near
    same(f["its"], float(np.mean(values[ranked[0]])))
    paid = {name: np.mean([r["figures"][PAID[f["cost"]]] for r in points[name]]) for name in (*near, ranked[0])}
    assert paid[f["point"]] == min(paid.values())
    same(f["share"], 100 * paid[f["point"]] / paid[ranked[0]])
