"""The page of a comparison: which line of mathematics is wrong, where that shows, and the proof.

    Verdict + Exhibit -> one sentence | the error, place by place and position by position | every fault with its causes, its
                         numbers before and after | the reference making the mistakes | what is left | pairing

Everything shown was computed by `diagnose`; nothing is judged here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from picolab.diagnose.exhibit import Exhibit
from picolab.diagnose.pages import page_of
from picolab.diagnose.verdict import SEVERAL, UNKNOWN, Born, Pair, Told, Verdict
from picolab.report import figures
from picolab.report.diagnosis import heat
from picolab.report.diagnosis.error_picture import draw_errors
from picolab.report.diagnosis.evidence import Shown, shown_evidence
from picolab.report.page import Fact, render
from picolab.runs import atomic

STYLES = ("base.css", "diagnosis.css")
SCRIPTS = ("theme.js", "diagnosis.js")
MOST_GUESSES = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class CauseShown:
    """One explanation as the page shows it; `page` is where more is told of it."""

    name: str
    says: str
    certain: bool
    explained: float
    left: str
    look_for: str
    page: str
    evidence: tuple[Shown, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultShown:
    """One fault; `name` its cause, or those that explain it equally; `data` are the numbers behind its pictures."""

    number: int
    name: str
    several: str
    site: str
    when: str
    lines: tuple[str, ...]
    also: tuple[str, ...]
    inherited: str
    added: str
    share: float
    causes: tuple[CauseShown, ...]
    panels: tuple[tuple[str, str, Markup], ...]
    caption: str
    data: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class GuessShown:
    """The next token at one position, to each of the three."""

    position: int
    token: str
    cells: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """The errors of the logits on one scale of decades; places in percent of the width."""

    rows: tuple[tuple[str, str, str, float], ...]
    ticks: tuple[tuple[float, str], ...]
    says: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffPage:
    """What the page shows."""

    kind: str
    title: str
    lead: str
    facts: tuple[Fact, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    picture: Markup | None
    caption: str
    data: Mapping[str, Any] | None
    faults: tuple[FaultShown, ...]
    proof: Proof | None
    guesses: tuple[GuessShown, ...]
    guesses_say: str
    left: str
    pairs: tuple[Pair, ...]
    command: str
    made: str
    names: tuple[str, ...] = ()


Spell = Callable[[int], str]


def write_diff_page(
    verdict: Verdict, path: Path, *, reference: str, target: str, engine: str = "", spell: Spell = str, command: str = "",
    made: str = "",
) -> Path:  # fmt: skip
    """Write the page of a verdict that was asked to `show`; `spell` gives a token its text."""
    page = diff_page(
        verdict, reference=reference, target=target, engine=engine, spell=spell, command=command, made=made
    )
    with atomic.reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, render(page, "diff.html.j2", styles=STYLES, scripts=SCRIPTS))
    return path


def diff_page(
    verdict: Verdict, *, reference: str, target: str, engine: str = "", spell: Spell = str, command: str = "", made: str = ""
) -> DiffPage:  # fmt: skip
    """The page as data."""
    shown = verdict.exhibit if verdict.exhibit is not None and verdict.exhibit.places else None
    births: dict[str, int] = {}
    for number, born in enumerate(verdict.born, start=1):
        births.setdefault(born.site, number)
    return DiffPage(
        kind="comparison of two engines",
        title=f"{_short(target)} held against {_short(reference)}",
        lead=in_words(verdict),
        facts=_facts(verdict, shown, engine),
        warnings=(),
        notes=verdict.notes,
        picture=None if shown is None else draw_errors(shown, births, spell),
        caption="" if shown is None else _caption(shown),
        data=None if shown is None else _data(shown, spell),
        faults=tuple(_fault(n, born, verdict) for n, born in enumerate(verdict.born, start=1)),
        proof=_proof(verdict),
        guesses=() if shown is None else _guesses(shown, spell),
        guesses_say="" if shown is None else _guesses_say(shown),
        left=_left(verdict),
        pairs=verdict.pairs,
        command=command,
        made=made,
    )


def in_words(verdict: Verdict) -> str:
    """The verdict in a sentence or two."""
    if verdict.verdict != "diverged":
        said = verdict.says[:1].upper() + verdict.says[1:] + "."
        return said + ("" if verdict.verdict == "incomparable" else " No line is wrong.")
    named = [born for born in verdict.born if born.cause != UNKNOWN]
    if not named:
        first = verdict.born[0].site if verdict.born else verdict.first_divergence
        where = f"It is born at {first}, and no" if first else "No"
        return f"They are not the same function. {where} cause of the catalogue explains it."
    said = "They are not the same function: " + "; and ".join(born.explanations[0].says for born in named) + "."
    rest = len(verdict.born) - len(named)
    if rest:
        return f"{said} {_count(rest, 'fault')} more {'is' if rest == 1 else 'are'} located and not explained."
    if math.isnan(verdict.remaining):
        return said
    if verdict.remaining <= verdict.noise_floor:
        both = "this mistake" if len(named) == 1 else f"these {len(named)} mistakes"
        return f"{said} A reference that makes {both} gives the target's logits, but for rounding."
    return f"{said} Logits are then still {verdict.remaining:.1e} apart."


def _short(name: str) -> str:
    return Path(name).name or name


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def _error(value: float) -> str:
    """`0.83`, `3.1e-07`, `infinite`."""
    if math.isnan(value):
        return figures.NOTHING
    if math.isinf(value):
        return "infinite"
    return f"{value:.2g}" if value == 0 or value >= 1e-3 else f"{value:.1e}"


def _facts(verdict: Verdict, shown: Exhibit | None, engine: str) -> tuple[Fact, ...]:
    facts = [Fact(label="Verdict", value=verdict.verdict, note=engine)]
    if verdict.verdict != "incomparable":
        facts.append(Fact(label="Logits apart", value=_error(verdict.before), note="worst position, of its size"))
        if verdict.born:
            note = "with the mistakes found made"
            facts.append(Fact(label="Remaining", value=_error(verdict.remaining), note=note))
        facts.append(Fact(label="Rounding", value=_error(verdict.noise_floor), note="measured on the reference"))
    if verdict.born:
        certain = sum(born.cause != UNKNOWN for born in verdict.born)
        facts.append(Fact(label="Faults", value=str(len(verdict.born)), note=f"{certain} with a certain cause"))
    if shown is not None:
        note = f"{len(shown.tokens)} tokens, {shown.prefill} at once"
        facts.append(Fact(label="Places", value=str(len(shown.places)), note=note))
    facts.append(Fact(label="Time", value=figures.seconds(verdict.seconds)))
    return tuple(facts)


def _caption(shown: Exhibit) -> str:
    parts = [
        "Errors are relative to the usual size of a value at its place, on a scale of decades; the worst position counts."
    ]
    if any(place.added is not None for place in shown.places):
        parts.append("Bars are what a line itself adds, given the inputs the target had: all else is inherited.")
    if any(place.after is not None for place in shown.places):
        parts.append("The green line is the same target held against a reference that makes the mistakes found.")
    if len(shown.tokens) > 40:
        parts.append("Of the positions the first 40 are drawn.")
    return " ".join(parts)


def _data(shown: Exhibit, spell: Spell) -> dict[str, Any]:
    """What the script reads out under the picture."""
    return {
        "tokens": [figures.printable(spell(token)) for token in shown.tokens],
        "places": [
            {
                "site": place.site,
                **{name: _number(getattr(place, name)) for name in ("error", "allowed", "added", "may_add", "after")},
                "positions": [_number(error) for error in place.by_position],
            }
            for place in shown.places
        ],
    }


def _number(value: float | None) -> float | str | None:
    """Three digits; what JSON has no name for as a word."""
    if value is None or math.isnan(value):
        return None
    return float(f"{value:.3g}") if math.isfinite(value) else "infinite"


def _fault(number: int, born: Born, verdict: Verdict) -> FaultShown:
    shown = verdict.exhibit
    piece = shown.pieces[number - 1] if shown is not None and len(shown.pieces) >= number else None
    total = born.inherited**2 + born.added**2
    share = 1.0 if not math.isfinite(total) or not total else born.added**2 / total
    when = "while the text is read at once" if born.phase == "prefill" else f"in decode step {born.step}"
    allowed = {place.site: place.may_add for place in shown.places} if shown is not None else {}
    caption = "" if piece is None else (
        f"{piece.site}{', ' + piece.what if piece.what else ''}: positions {heat.spans(piece.rows)} downwards, "
        f"{piece.across}s {heat.spans(piece.columns)} across"
    )  # fmt: skip
    return FaultShown(
        number=number,
        name=" or ".join(born.causes or (UNKNOWN,)),
        several=SEVERAL if len(born.causes) > 1 else "",
        site=born.site,
        when=when,
        lines=born.lines,
        also=born.also,
        inherited=_error(born.inherited),
        added=_error(born.added),
        share=share,
        causes=tuple(_cause(told, allowed.get(born.site)) for told in born.explanations),
        panels=() if piece is None else tuple(heat.panels(piece)),
        caption=caption,
        data=None
        if piece is None
        else {
            "rows": piece.rows,
            "columns": piece.columns,
            "across": piece.across,
            "reference": piece.reference,
            "target": piece.target,
            "after": piece.after,
        },
    )


def _cause(told: Told, allowed: float | None) -> CauseShown:
    rounding = "" if allowed is None else f"; rounding may add {_error(allowed)}"
    return CauseShown(
        name=told.cause,
        says=told.says,
        certain=told.certain,
        explained=told.explained if math.isfinite(told.explained) else 0.0,
        left=f"{_error(told.residual)}{rounding}",
        look_for=told.look_for,
        page=page_of(told.cause) or "",
        evidence=shown_evidence(told.evidence),
    )


def _proof(verdict: Verdict) -> Proof | None:
    """Errors of the logits before and after, and what rounding explains, on one scale."""
    if verdict.verdict != "diverged" or math.isnan(verdict.before) or not any(b.cause != UNKNOWN for b in verdict.born):
        return None
    if verdict.remaining == verdict.before:
        return None
    errors = [("As they are", verdict.before, "before"), ("With the mistakes made", verdict.remaining, "after"),
              ("What rounding explains", verdict.noise_floor, "floor")]  # fmt: skip
    finite = [error for _, error, _ in errors if 0 < error < math.inf]
    low = math.floor(math.log10(min(finite))) - 1
    high = max(math.ceil(math.log10(max(finite)) + 0.01), low + 1)

    def at(error: float) -> float:
        if error <= 0:
            return 0.0
        power = high if math.isinf(error) else math.log10(error)
        return 100 * min(max((power - low) / (high - low), 0.0), 1.0)

    good = verdict.remaining <= verdict.noise_floor
    says = (
        "The reference was run again, making every mistake that is certain: its logits are now the target's, but for rounding. "
        "So these mistakes, and nothing else, make the difference."
        if good
        else "The reference was run again, making every mistake that is certain. That brings its logits nearer to the target's; "
        "what is left is more than rounding."
    )
    step = 1 if high - low <= 8 else 2
    return Proof(
        rows=tuple((label, _error(error), kind, at(error)) for label, error, kind in errors),
        ticks=tuple((at(10.0**power), f"1e{power}") for power in range(low, high + 1, step)),
        says=says,
    )


def _guesses(shown: Exhibit, spell: Spell) -> tuple[GuessShown, ...]:
    """The next tokens, of many positions the last."""

    def cell(guess: tuple[int, float] | None, same: bool) -> tuple[str, str, bool]:
        if guess is None:
            return ("", "", True)
        share = "" if math.isnan(guess[1]) else f"{100 * guess[1]:.3g} %"
        return (figures.printable(spell(guess[0])), share, same)

    return tuple(
        GuessShown(
            position=guess.position,
            token=figures.printable(spell(shown.tokens[guess.position])),
            cells=(
                cell(guess.reference, True),
                cell(guess.target, guess.target[0] == guess.reference[0]),
                *([cell(guess.after, guess.after[0] == guess.target[0])] if guess.after else []),
            ),
        )
        for guess in shown.guesses[-MOST_GUESSES:]
    )


def _guesses_say(shown: Exhibit) -> str:
    count = len(shown.guesses)
    same = sum(guess.target[0] == guess.reference[0] for guess in shown.guesses)
    says = f"At {same} of {_count(count, 'position')} both would go on with the same token."
    patched = [guess for guess in shown.guesses if guess.after is not None]
    if patched:
        agree = sum(guess.after is not None and guess.after[0] == guess.target[0] for guess in patched)
        says += f" A reference with the mistakes goes on like the target at {agree} of {len(patched)}."
    return says


def _left(verdict: Verdict) -> str:
    """What is not explained."""
    if verdict.verdict != "diverged":
        return ""
    unknown: Sequence[Born] = [born for born in verdict.born if born.cause == UNKNOWN]
    if unknown:
        where = ", ".join(born.site for born in unknown)
        return f"Nothing explains what is born at {where}; logits are {_error(verdict.remaining)} apart in the end."
    if not verdict.born:
        return "They differ, and no place that both show adds error by itself: more arrays would tell where it is born."
    if math.isnan(verdict.remaining):
        return ""
    if verdict.remaining <= verdict.noise_floor:
        return f"Nothing: {_error(verdict.remaining)} is left, and rounding explains {_error(verdict.noise_floor)}."
    return f"{_error(verdict.remaining)}, more than the {_error(verdict.noise_floor)} that rounding explains."
