"""Can attention be written down instead of learned? Models that differ in attention alone learn the same data, over seeds.

    zero          no attention at all: the lower end          trainable       learned from a random start: the upper end
    random        random and frozen                           counted         places from counts, frozen
    uniform       its values, everywhere alike                counted-start   the same, then trained on
    offsets       its places, random values                   published       an earlier recipe, as it was and corrected

All have the same embedding, the same first feed-forward layers and, for a seed, the same batches; n-gram counts stand beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picolab.compare.compare import RunBegins, RunEnds, compare
from picolab.compare.gain import Gain, gain_of
from picolab.compare.result import Comparison
from picolab.errors import BadInput, UnknownName
from picolab.models.counted import CORRECTIONS, Config
from picolab.recipes.counted_words import BEST, COUNTED, NONE, PUBLISHED, START, findings
from picolab.report.counted import counted_report
from picolab.runs import names
from picolab.runs.settings import known_settings
from picolab.train.events import Event

NAME = "counted-attention"
PRESET = "counted-pico"


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the comparison is; settings are those of a run."""

    data: str
    tokens: int
    settings: Mapping[str, str]


# Rotary positions alone: learned ones hand every arm a little of what attention would have to find.
COMMON = {"model.learned_positions": "false", "training.dtype": "float32", "batch_size": "8", "lr": "0.001"}
TINY = Scale(
    "stories-shipped",
    8 * 64 * 150,
    COMMON | {"tokenizer": "characters", "context_length": "64", "eval_every": "15", "eval_batches": "6"},
)
FULL = Scale(
    "stories",
    8 * 128 * 500,
    COMMON | {"tokenizer": "characters", "context_length": "128", "eval_every": "25", "eval_batches": "40"},
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CountedAttention:
    """What the recipe found, and the page that shows it."""

    comparison: Comparison
    gain: Gain
    findings: tuple[str, ...]
    report: Path


def counted_attention(
    out: Path,
    *,
    tiny: bool = False,
    arms: Sequence[str] = (),
    data: str | None = None,
    tokens: int | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    overrides: Mapping[str, Any] | None = None,
    report: Callable[[RunBegins | RunEnds | Event], None] | None = None,
) -> CountedAttention:
    """Train all arms, or those named, in the folder `out`; the same call goes on where an interrupted one stopped."""
    scale = TINY if tiny else FULL
    named = {**ARMS, **COUNTS}
    for arm in arms:
        if arm not in named:
            raise UnknownName("arm of this recipe", arm, named)
    wanted = [*dict.fromkeys((NONE, BEST, *arms))] if arms else list(named)
    comparison = compare(
        [f"{name}={named[name]}" for name in wanted],
        data=data or scale.data,
        tokens=scale.tokens if tokens is None else tokens,
        seeds=seeds,
        out=out,
        overrides=_settings(scale, overrides or {}),
        report=report,
    )
    return read_off(comparison, out)


def is_recipe(comparison: Comparison) -> bool:
    """Whether this recipe made a comparison: it has both ends of the scale, as they are here."""
    return all(comparison.setup.arms.get(end) == ARMS[end] for end in (NONE, BEST))


def read_off(comparison: Comparison, out: Path) -> CountedAttention:
    """What a comparison of these arms says, and its page, written into the folder `out`."""
    gain = gain_of(comparison, none=NONE, best=BEST)
    words = (*findings(gain, comparison), *_what_counts_gave(comparison))
    shown = [name for name in (COUNTED, START, BEST) if name in comparison.setup.arms]
    page = counted_report(comparison, gain, words, out, side_by_side=shown, command=_command(comparison))
    return CountedAttention(comparison=comparison, gain=gain, findings=words, report=page)


def _what_counts_gave(comparison: Comparison) -> tuple[str, ...]:
    """What of it the counts decided: with few words less than it may seem."""
    words, room = comparison.setup.vocab_size, int(comparison.setup.overrides.get("model.d_model", Config().d_model))
    if COUNTED not in {row.model for row in comparison.rows}:
        return ()
    if words <= room:
        return (
            f"With {words} tokens in {room} dimensions the counts choose only the places; "
            "values and embedding are orthogonal at random.",
        )
    return (
        f"With {words:,} tokens in {room} dimensions places, the width of windows, what the last window adds and the embedding "
        "of every arm come from the counts; copies are orthogonal at random.",
    )


def _settings(scale: Scale, given: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's settings, changed by those given; what arms differ in is not for changing."""
    known = known_settings()
    settings = {names.full(name, known): value for name, value in scale.settings.items()}
    for name, value in given.items():
        full = names.full(name, known)
        if full in ("model.attention", "model.frozen", "model.corrected"):
            raise BadInput(
                f"`{name}` is what the arms of this recipe differ in", hint=f"name the arms: {' '.join(ARMS)}"
            )
        settings[full] = value
    return settings


def _command(comparison: Comparison) -> str:
    """The comparison again: at the scale that leaves the fewest settings to be named."""
    setup, every = comparison.setup, {*ARMS, *COUNTS}
    arms = [] if every <= set(setup.arms) else [arm for arm in setup.arms if arm not in (NONE, BEST)]
    changed = {
        flag: [f"--{name} {value}" for name, value in setup.overrides.items() if usual.get(name) != value]
        for flag, usual in (((), _settings(FULL, {})), (("--tiny",), _settings(TINY, {})))
    }
    flag = min(changed, key=lambda one: len(changed[one]))
    words = ["picolab compare", *arms, f"--recipe {NAME}", *flag]
    words += [f"--data {setup.data} --tokens {setup.tokens} --seeds {','.join(map(str, setup.seeds))}"]
    return " ".join([*words, *changed[flag]])


ARMS = {
    NONE: f"{PRESET}:attention=zero",
    "random": f"{PRESET}:attention=random",
    "uniform": f"{PRESET}:attention=uniform",
    "offsets": f"{PRESET}:attention=offsets",
    PUBLISHED: f"{PRESET}:attention=published",
    **{f"{PUBLISHED}+{one}": f"{PRESET}:attention=published,corrected={one}" for one in CORRECTIONS},
    f"{PUBLISHED}+all": f"{PRESET}:attention=published,corrected={'+'.join(CORRECTIONS)}",
    COUNTED: PRESET,
    BEST: f"{PRESET}:attention=usual,frozen=false",
    START: f"{PRESET}:frozen=false",
}
COUNTS = {"kneser-ney-2": "ngram:order=2", "kneser-ney-3": "ngram:order=3"}
"""Shorter counts beside the baseline, which has order 5."""
