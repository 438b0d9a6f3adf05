"""Which model learns this data best? Every model on the same data, order and budget, several times, then one table.

    plan -> for each seed, each model: a run on disk -> outcome -> Comparison, saved after every run -> plots

A run that diverges is a row with its reason. Interrupted, what is finished stays; the same call goes on from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from picolab import __version__
from picolab.compare.bands import band_or_none
from picolab.compare.curves import Curve, series_of
from picolab.compare.lengths import growth
from picolab.compare.outcome import Held, Outcome, load_outcome, make_outcome
from picolab.compare.plan import RUNS, Plan, is_baseline, plan_for, run_name, take_up
from picolab.compare.plots import draw_plots
from picolab.compare.ranking import in_words, rank
from picolab.compare.result import Comparison, Lengths, Row, SeedRun, Setup
from picolab.compare.sequences import by_family
from picolab.compare.sequences_plots import draw_sequence_plots
from picolab.compare.sequences_words import sequences_in_words
from picolab.data.store import Mixture
from picolab.runs import machine
from picolab.runs.folder import Run
from picolab.train.events import Event, Reading
from picolab.train.setup import dataset_of, opening
from picolab.zoo import PRESETS

PLOTS = "plots"
SPLIT = "validation"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunBegins:
    """The next run of the comparison: number `number` of `of`."""

    model: str
    seed: int
    number: int
    of: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEnds:
    """A run has its figures; `kept` if they were on disk already."""

    model: str
    run: SeedRun
    number: int
    of: int
    kept: bool


Report = Callable[[RunBegins | RunEnds | Event], None]


def compare(
    models: Sequence[str],
    *,
    data: str = "stories",
    tokens: int = 200_000,
    seeds: int | Sequence[int] = 2,
    out: Path,
    overrides: Mapping[str, Any] | None = None,
    prompt: str | None = None,
    new_tokens: int = 60,
    report: Report | None = None,
) -> Comparison:
    """Train every model with every seed on `tokens` tokens and set the results side by side in the folder `out`.

    `seeds` is how many (0, 1, ..) or which. `overrides` are settings as for a run; an architecture's field reaches the models
    that have it. `prompt` opens the samples; without one they begin as the first held-out document does. Interrupted, the
    comparison comes back with `complete` False, and the same call goes on with it.
    """
    plan = plan_for(
        models, data=data, tokens=tokens, seeds=seeds, overrides=overrides or {}, prompt=prompt, new_tokens=new_tokens
    )
    plan = take_up(plan, out)
    tell = report or _ignore
    held = _held(plan, out, tell)
    pairs = [(model, seed) for seed in plan.seeds for model in plan.models]
    outcomes: list[Outcome] = []
    complete = True
    try:
        for number, (model, seed) in enumerate(pairs, start=1):
            outcome = kept = load_outcome(out, model, seed)
            if outcome is None:
                tell(RunBegins(model=model, seed=seed, number=number, of=len(pairs)))
                outcome = make_outcome(plan, out, model, seed, held, report=tell)
            if outcome is None:
                complete = False
                break
            outcomes.append(outcome)
            tell(RunEnds(model=model, run=outcome.run, number=number, of=len(pairs), kept=kept is not None))
            if kept is None and number < len(pairs):
                gather(plan, out, outcomes, held, complete=False).save(out)
    except KeyboardInterrupt:
        complete = False
    comparison = gather(plan, out, outcomes, held, complete=complete)
    comparison.save(out)
    draw_plots(comparison, out / PLOTS)
    draw_sequence_plots(comparison, out / PLOTS)
    return comparison


def gather(plan: Plan, folder: Path, outcomes: Sequence[Outcome], held: Held, *, complete: bool) -> Comparison:
    """The comparison of the outcomes there are."""
    setup = _setup(plan, folder, outcomes, held)
    rows = rank(
        [_row(plan, model, outcomes, setup) for model in plan.models if any(o.model == model for o in outcomes)]
    )
    order = [row.model for row in rows]
    studies = tuple(
        sorted((o.sequences for o in outcomes if o.sequences is not None), key=lambda one: order.index(one.model))
    )
    families = by_family(studies)
    return Comparison(
        complete=complete,
        setup=setup,
        rows=rows,
        ranking=(
            *in_words(rows, setup),
            # The baseline counts: what it fails says something about the data, and stands in the table.
            *sequences_in_words([row for row in families if not is_baseline(row.model)], studies),
        ),
        families=families,
        lengths=tuple(
            sorted((_lengths(o) for o in outcomes if len(o.costs) > 1), key=lambda one: order.index(one.model))
        ),
        sequences=studies,
        curves=tuple(_curve(folder, outcome) for outcome in outcomes),
        attention=tuple(
            sorted((o.attention for o in outcomes if o.attention is not None), key=lambda one: order.index(one.model))
        ),
    )


def _lengths(outcome: Outcome) -> Lengths:
    lengths = [cost.length for cost in outcome.costs]
    return Lengths(
        model=outcome.model,
        costs=outcome.costs,
        time_growth=growth(lengths, [cost.seconds for cost in outcome.costs]),
        memory_growth=growth(lengths, [cost.memory for cost in outcome.costs]),
    )


def _held(plan: Plan, folder: Path, tell: Report) -> Held:
    settings = plan.settings(plan.models[0], plan.seeds[0], folder)
    dataset = dataset_of(settings, progress=lambda done, total: tell(Reading(done=done, total=total)))
    store = dataset.validation
    first = (store.stores[0] if isinstance(store, Mixture) else store).document(0)
    return Held(
        dataset=dataset,
        prompt=plan.prompt or settings.training.sample_prompt or opening(dataset),
        text=dataset.tokenizer.decode(first.tolist()),
    )


def _setup(plan: Plan, folder: Path, outcomes: Sequence[Outcome], held: Held) -> Setup:
    settings = plan.settings(plan.models[0], plan.seeds[0], folder)
    place = machine.place()
    vocab_size = held.dataset.tokenizer.vocab_size
    return Setup(
        data=plan.data,
        tokenizer=settings.data.tokenizer if settings.data.tokenizer != "auto" else held.dataset.tokenizer.kind,
        vocab_size=vocab_size,
        context_length=settings.data.context_length or 0,
        batch_size=settings.training.batch_size,
        tokens=plan.tokens,
        seeds=plan.seeds,
        scored_split=SPLIT,
        scored_tokens=max((outcome.scored_tokens for outcome in outcomes), default=0),
        scored_bytes=held.dataset.validation.n_bytes or None,
        held_out=held.dataset.held_out,
        uniform=math.log(vocab_size),
        floor=held.dataset.floor(SPLIT),
        prompt=held.prompt,
        overrides=plan.overrides,
        arms=plan.arms,
        device=outcomes[0].device if outcomes else settings.training.device,
        machine=f"{place['processor']}, {place['cpus']} cores",
        created=f"{datetime.now(UTC):%Y-%m-%d}",
        picolab=__version__,
    )


def _row(plan: Plan, model: str, outcomes: Sequence[Outcome], setup: Setup) -> Row:
    mine = [outcome for outcome in outcomes if outcome.model == model]
    runs = tuple(outcome.run for outcome in mine)
    floor, preset = setup.floor, plan.arm(model).preset
    return Row(
        model=model,
        family=PRESETS[preset].architecture,
        says=plan.arms.get(model, PRESETS[preset].says),
        baseline=is_baseline(model),
        runs=runs,
        loss=band_or_none([run.loss for run in runs]),
        bits_per_byte=band_or_none([run.bits_per_byte for run in runs]),
        excess=None
        if floor is None
        else band_or_none([None if run.loss is None else run.loss - floor for run in runs]),
        tokens_per_second=band_or_none([run.tokens_per_second for run in runs]),
        peak_memory=max((run.peak_memory for run in runs if run.peak_memory is not None), default=None),
        size=next((outcome.size for outcome in mine if outcome.size is not None), None),
        samples=next((outcome.samples for outcome in mine if outcome.samples), ()),
    )


def _curve(folder: Path, outcome: Outcome) -> Curve:
    rows = Run(folder / RUNS / run_name(outcome.model, outcome.run.seed)).metrics()
    return Curve(
        model=outcome.model,
        seed=outcome.run.seed,
        train=series_of(rows, "train/loss"),
        validation=series_of(rows, "val/loss"),
    )


def _ignore(event: object) -> None:
    """Nobody listens."""
