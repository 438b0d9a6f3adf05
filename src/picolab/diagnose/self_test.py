"""Is the tool itself to be trusted? Faults are put into tiny models, and it is asked what it finds.

one fault     put in at random        -> detected?  born at the right place?  named first?
two faults    put in together         -> both named?
no fault      another way to the same function      -> an alarm?
strange       nothing the catalogue describes       -> called by a name, with confidence?

For laws there is no place and no name: a model that has learned something is injured, and some law must break.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.catalogue import CATALOGUE
from picolab.diagnose.causes.cause import Bend
from picolab.diagnose.diff import diff
from picolab.diagnose.harmless import healthy_targets
from picolab.diagnose.injured import injured, injured_recording
from picolab.diagnose.laws.catalogue import LAWS
from picolab.diagnose.laws.law import Patient, examine
from picolab.diagnose.strange import STRANGE
from picolab.diagnose.tiny import CONTEXT, sharp, some_schedule, trained
from picolab.diagnose.verdict import Born, Verdict
from picolab.diagnose.visible import why_hidden
from picolab.diagnose.walk import Fault, Key, Schedule, difference, walk
from picolab.models.contract import LanguageModel
from picolab.trace.recording import Recording

Kind = Literal["fault", "pair", "healthy", "strange"]

SUBJECTS = ("llama", "gpt2", "qwen2", "nanochat", "qwen3")
LAW_SUBJECTS = ("llama", "gpt2")
"""Models that are trained first: a few seconds each."""

EXACT = 1e-10
"""In float64, logits apart by more than this are another function."""

PAIRS = 10

HEAVY = frozenset({"overfit", "loss-accounting", "document-isolation", "two-seeds", "device"})
SLOW = tuple(law for law in LAWS if law.name in HEAVY)
QUICK = tuple(law for law in LAWS if law.name not in HEAVY)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One question to the tool and its answer. `place` is where the fault shows first; `told` what was said with confidence.

    `located` and `named` are None where nothing is to be located or named.
    """

    kind: Kind
    host: str
    fault: str
    says: str
    detected: bool
    place: str = ""
    found_at: str = ""
    located: bool | None = None
    named: bool | None = None
    told: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the answer is the right one."""
        if self.kind == "healthy":
            return not self.detected
        named = not self.told if self.kind == "strange" else self.named is not False
        return self.detected and self.located is not False and named


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """How often something came out as it should, and how often it must."""

    name: str
    reached: int
    of: int
    least: float

    @property
    def met(self) -> bool:
        return self.of > 0 and self.reached >= self.least * self.of - 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfTest:
    """What came out: goals, and every trial."""

    of: Literal["diff", "doctor"]
    seed: int
    goals: tuple[Goal, ...]
    trials: tuple[Trial, ...]
    seconds: float

    @property
    def good(self) -> bool:
        return all(goal.met for goal in self.goals)


Told = Callable[[str], None]


def examine_diff(seed: int = 0, *, faults: int = 70, say: Told = lambda line: None) -> SelfTest:
    """Examine `diff` with this many faults of the catalogue, every cause among them, with pairs, and with what is none."""
    started = time.monotonic()
    dice = random.Random(seed)
    trials: list[Trial] = []
    chosen = _sample(dice, faults)
    for number, (host, bend) in enumerate(chosen, start=1):
        say(f"fault {number} of {len(chosen)}: {bend.cause} in {host}")
        trials.append(try_faults(host, [bend]))
    for number, (host, pair) in enumerate(pairs(dice, PAIRS), start=1):
        say(f"pair {number} of {PAIRS}: {' and '.join(bend.cause for bend in pair)} in {host}")
        trials.append(try_faults(host, pair))
    for host in SUBJECTS[:3]:
        say(f"healthy variants of {host}")
        trials += [try_healthy(host, name, make) for name, make in healthy_targets(sharp(host), some_schedule())]
    for fault in dice.sample(STRANGE, 8):
        say(f"strange: {fault.name}")
        trials.append(try_strange("llama", fault))
    return SelfTest(
        of="diff", seed=seed, goals=goals_of_diff(trials), trials=tuple(trials), seconds=time.monotonic() - started
    )


def goals_of_diff(trials: Sequence[Trial]) -> tuple[Goal, ...]:
    """Counted over trials, against what is promised."""

    def share(name: str, kind: Kind, good: Callable[[Trial], bool | None], least: float) -> Goal:
        asked = [bool(answer) for t in trials if t.kind == kind and (answer := good(t)) is not None]
        return Goal(name=name, reached=sum(asked), of=len(asked), least=least)

    return (
        share("faults detected", "fault", lambda t: t.detected, 1.0),
        share("born at the right place", "fault", lambda t: t.located, 0.97),
        share("named first", "fault", lambda t: t.named, 0.95),
        share("of two faults both named", "pair", lambda t: t.named, 0.85),
        share("healthy variants without an alarm", "healthy", lambda t: not t.detected, 1.0),
        share("strange faults not called by a name", "strange", lambda t: not t.told, 1.0),
    )


def examine_doctor(seed: int = 0, *, faults: int = 40, say: Told = lambda line: None) -> SelfTest:
    """Examine the laws: healthy models, and models that have learned something with faults that laws can see."""
    started = time.monotonic()
    dice = random.Random(seed)
    trials: list[Trial] = []
    for host in LAW_SUBJECTS:
        say(f"training a tiny {host}")
        model, text = trained(host)
        trials.append(_examined("healthy", host, model, text, []))
        visible = [b for b in examples(host) if not why_hidden(b) and matters_trained(host, b)]
        chosen = visible if len(visible) <= faults // 2 else dice.sample(visible, faults // 2)
        for number, bend in enumerate(chosen, start=1):
            say(f"fault {number} of {len(chosen)}: {bend.cause} in {host}")
            trials.append(_examined("fault", host, model, text, [bend]))
    for host in SUBJECTS:
        say(f"healthy {host}")
        trials.append(_examined("healthy", host, sharp(host), None, []))
    goals = (
        Goal(name="faults detected that laws can see", reached=sum(t.detected for t in trials if t.kind == "fault"),
             of=sum(t.kind == "fault" for t in trials), least=0.9),
        Goal(name="healthy models without an alarm", reached=sum(not t.detected for t in trials if t.kind == "healthy"),
             of=sum(t.kind == "healthy" for t in trials), least=1.0),
    )  # fmt: skip
    return SelfTest(of="doctor", seed=seed, goals=goals, trials=tuple(trials), seconds=time.monotonic() - started)


def _examined(kind: Kind, host: str, model: LanguageModel, text: Tensor | None, bends: Sequence[Bend]) -> Trial:
    """Whether a law breaks; an untrained model is asked no question about what it has learned."""
    patient = Patient.of(model, name=host, text=text, trained=None if text is None else True)
    started = time.monotonic()
    broken: tuple[str, ...] = ()
    with injured(model, bends):
        for laws in QUICK, SLOW:  # the slow ones need not be asked once a quick one is broken
            broken = broken or tuple(finding.law for finding in examine(patient, laws) if finding.status == "fail")
    return Trial(
        kind=kind,
        host=host,
        fault=" + ".join(bend.cause for bend in bends) or "none",
        says="; ".join(bend.says() for bend in bends),
        detected=bool(broken),
        told=broken,
        seconds=time.monotonic() - started,
    )


@cache
def anatomy_of(host: str) -> Anatomy:
    return Anatomy(sharp(host))


@cache
def examples(host: str) -> tuple[Bend, ...]:
    """Every example of every cause that this model can have."""
    return tuple(bend for cause in CATALOGUE for bend in cause.examples(anatomy_of(host)))


@cache
def _exact(host: str) -> tuple[Anatomy, dict[Key, Tensor]]:
    import copy

    exact = Anatomy(copy.deepcopy(sharp(host)).double())
    return exact, walk(exact, some_schedule())


def matters(host: str, *bends: Bend, beside: Sequence[Bend] = ()) -> bool:
    """Whether the logits differ in float64, where rounding hides nothing: from the right ones, or from those with `beside`."""
    exact, right = _exact(host)
    schedule = some_schedule()
    if beside:
        right = walk(exact, schedule, faults=beside)
    return _apart(right, walk(exact, schedule, faults=[*beside, *bends]), EXACT)


@cache
def matters_trained(host: str, bend: Bend) -> bool:
    """Whether it moves a logit of the trained model by more than rounding."""
    anatomy = Anatomy(trained(host)[0])
    schedule = some_schedule(time=CONTEXT - 1)
    return _apart(walk(anatomy, schedule), walk(anatomy, schedule, faults=[bend]), 1e-4)


def _apart(right: dict[Key, Tensor], wrong: dict[Key, Tensor], by: float) -> bool:
    return any(difference(right[key], wrong[key], key.site) > by for key in right if key.site == "logits")


def _sample(dice: random.Random, count: int) -> list[tuple[str, Bend]]:
    """Faults that change the function: one of every cause, then others."""
    every = [(host, bend) for host in SUBJECTS for bend in examples(host)]
    dice.shuffle(every)
    first: dict[str, tuple[str, Bend]] = {}
    for host, bend in every:
        if bend.cause not in first and matters(host, bend):
            first[bend.cause] = (host, bend)
    chosen = list(first.values())
    rest = (pick for pick in every if pick not in chosen and matters(*pick))
    while len(chosen) < count and (pick := next(rest, None)) is not None:
        chosen.append(pick)
    return chosen


def pairs(dice: random.Random, count: int) -> Iterator[tuple[str, tuple[Bend, Bend]]]:
    """Two faults of different causes, at different places, each of which still changes something beside the other."""
    found = 0
    while found < count:
        host = dice.choice(SUBJECTS)
        one, two = dice.sample(examples(host), 2)
        if one.cause == two.cause or one.kinds & two.kinds:
            continue
        if matters(host, one, beside=[two]) and matters(host, two, beside=[one]):
            found += 1
            yield host, (one, two)


def first_place(right: dict[Key, Tensor], wrong: dict[Key, Tensor]) -> Key | None:
    """Where two walks part: the first place, in the order of computation, that differs by more than rounding."""
    return next((key for key in right if key in wrong and difference(right[key], wrong[key], key.site) > 1e-5), None)


def try_faults(
    host: str, bends: Sequence[Bend], sites: frozenset[str] | None = None, schedule: Schedule | None = None
) -> Trial:
    """Put faults of the catalogue into a model, and ask `diff`."""
    schedule = schedule or some_schedule()
    anatomy = anatomy_of(host)
    place = first_place(walk(anatomy, schedule), walk(anatomy, schedule, faults=bends))
    verdict = diff(sharp(host), injured_recording(anatomy, schedule, bends, sites))
    trial = judged("fault" if len(bends) == 1 else "pair", host, verdict, place, [bend.cause for bend in bends])
    return replace(trial, says="; ".join(bend.says() for bend in bends))


def try_strange(host: str, fault: Fault, sites: frozenset[str] | None = None) -> Trial:
    """Put something into a model that the catalogue does not know, and ask `diff`."""
    schedule, anatomy = some_schedule(), anatomy_of(host)
    place = first_place(walk(anatomy, schedule), walk(anatomy, schedule, faults=[fault]))
    verdict = diff(sharp(host), injured_recording(anatomy, schedule, [fault], sites))
    return judged("strange", host, verdict, place, [getattr(fault, "name", fault.cause)])


def try_healthy(host: str, name: str, make: Callable[[], Recording | LanguageModel]) -> Trial:
    """Another way to the same function."""
    schedule = some_schedule()
    verdict = diff(sharp(host), make(), tokens=schedule.tokens, prefill=schedule.prefill)
    return judged("healthy", host, verdict, None, [name])


def judged(kind: Kind, host: str, verdict: Verdict, place: Key | None, faults: Sequence[str]) -> Trial:
    """What a verdict is worth, knowing what was done.

    The place is right where it is the first one that differs, or, where that is not shown, where it lies among the lines named.
    """
    detected = verdict.verdict == "diverged"
    certain = tuple(dict.fromkeys(born.cause for born in verdict.born if born.explanations[0].certain))
    first = verdict.born[0] if verdict.born else None
    located = named = None
    if kind in ("fault", "strange") and place is not None:
        located = first is not None and _at(first, place)
    if kind == "fault":
        named = first is not None and first.cause == faults[0]
    elif kind == "pair":
        named = set(faults) <= set(certain)
    return Trial(
        kind=kind,
        host=host,
        fault=" + ".join(faults),
        says="",
        detected=detected,
        place=place.site if place else "",
        found_at=first.site if first else "",
        located=located,
        named=named,
        told=certain,
        seconds=verdict.seconds,
    )


def _at(born: Born, place: Key) -> bool:
    return (born.phase, born.step) == (place.phase, place.step) and place.site in born.lines
