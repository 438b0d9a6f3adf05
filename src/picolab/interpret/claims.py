"""When is a picture of a head confirmed? When taking the head out hurts, and more than taking out any head not so called.

    called induction, 0.83 of its attention    without it +1.20 ± 0.05 nats on what is said a second time; others at most +0.10
                                                                                                    -> confirmed

Where several heads do one thing, each alone can be spared: they are taken out together, too (`together.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from picolab.interpret.ablate import Head
from picolab.interpret.chance import Band
from picolab.interpret.heads import HeadScores

COPYING = ("induction", "previous token", "same token")
"""Patterns that copying is made of."""

NOTHING = 0.05
"""Nats of copying below which there is none to lose."""

SECOND, OWN = "what is said a second time", "its own texts"
"""What is read: random tokens where they come again, or texts of the model's data."""

FEW = 2
"""Heads of one name up to which each has its own sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """What taking a head out adds to the loss, in nats a token: of the second half, the first half, and texts of the data."""

    layer: int
    head: int
    second_mean: Band
    second_zero: Band
    first_mean: Band
    data_mean: Band | None
    data_zero: Band | None

    @property
    def place(self) -> Head:
        return self.layer, self.head

    @property
    def name(self) -> str:
        return f"{self.layer}.{self.head}"

    def on(self, measure: str) -> Band | None:
        """The effect, with the head's mean in its place, on what is read."""
        return self.second_mean if measure == SECOND else self.data_mean


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A head called by a pattern, and whether taking it out hurts, more than any head not so called (`others` is the most)."""

    pattern: str
    layer: int
    head: int
    score: Band
    measure: str
    effect: Band
    others: float
    matters: bool
    is_confirmed: bool

    @property
    def name(self) -> str:
        return f"{self.layer}.{self.head}"

    @property
    def says(self) -> str:
        how = (
            "and taking it out confirms that it matters"
            if self.is_confirmed
            else "and it matters, but a head not so called matters more"
            if self.matters
            else "but taking it out does not confirm that it matters"
        )
        return (
            f"Head {self.name} is called {self.pattern} ({self.score}), {how}: {signed(self.effect)} nats on {self.measure}, at "
            f"most {self.others:+.3f} for a head not so called."
        )


def measures_of(pattern: str, *, copies: bool, has_data: bool) -> list[str]:
    """What a pattern is asked on: copying where the model copies; looking at the token before serves other ends, too."""
    second = [SECOND] if copies or not has_data else []
    return [*second, OWN] if has_data and (pattern == "previous token" or not copies) else second


def claims_of(scores: HeadScores, effects: Sequence[Effect], *, copies: bool) -> list[Claim]:
    """Each named head's claims."""
    named = {head.place for pattern in COPYING for head in scores.named(pattern)}
    by_place = {effect.place: effect for effect in effects}
    has_data = all(effect.data_mean is not None for effect in effects)
    claims = []
    for pattern in COPYING:
        for measure in measures_of(pattern, copies=copies, has_data=has_data):
            lost = {place: effect.on(measure) for place, effect in by_place.items()}
            largest = max((band.mean for place, band in lost.items() if band and place not in named), default=0.0)
            for head in scores.named(pattern):
                effect = lost[head.place]
                assert effect is not None
                matters = effect.low > 0 and (copies or measure == OWN)
                claims.append(
                    Claim(
                        pattern=pattern,
                        layer=head.layer,
                        head=head.head,
                        score=head.shares[pattern],
                        measure=measure,
                        effect=effect,
                        others=largest,
                        matters=matters,
                        is_confirmed=matters and effect.mean > largest,
                    )
                )
    return claims


def says(claims: Sequence[Claim]) -> list[str]:
    """The claims in sentences: one each where few heads have a name, else one for the name."""
    sentences = []
    for pattern, measure in dict.fromkeys((claim.pattern, claim.measure) for claim in claims):
        mine = [claim for claim in claims if (claim.pattern, claim.measure) == (pattern, measure)]
        if len(mine) <= FEW:
            sentences += [claim.says for claim in mine]
            continue
        most = max(mine, key=lambda claim: claim.effect.mean)
        hurt, confirmed = sum(claim.matters for claim in mine), sum(claim.is_confirmed for claim in mine)
        sentences.append(
            f"Of {len(mine)} heads called {pattern}, taking out one alone hurts for {hurt}, and more than any head not so called "
            f"for {confirmed}: at most {signed(most.effect)} nats on "
            f"{measure} (head {most.name}), against {most.others:+.3f}."
        )
    return sentences


def signed(effect: Band) -> str:
    """An effect with its sign."""
    return f"{effect.mean:+.3f} ± {effect.half:.3f}" if effect.count > 1 else f"{effect.mean:+.3f}"
