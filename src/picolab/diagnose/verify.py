"""Is a model run here the same function as the same model run by another engine? Asked with texts that nobody could foresee.

    random tokens -> there, at once -> the reference
                  -> here, at once / one by one / in pieces / after another text        the same logits at every position?
                  -> both, greedily                                                     the same tokens?
    texts of every script -> both tokenizers                                            the same ids, the same text?

What is expected is computed by the other engine and stands in no prompt, so an engine that echoes, forgets or makes things up is
found. The reference is always read at once, without a cache: whoever reads on with one is held against the whole.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from picolab.diagnose.verify_greedy import Choice, Greedy, write_greedily
from picolab.diagnose.verify_read import (
    Pieces,
    Tally,
    Text,
    at_once,
    draw,
    draw_lengths,
    in_pieces,
    longest_text,
    one_by_one,
    read_text,
)
from picolab.diagnose.verify_result import Asides, Ask, Check, Verification, summary
from picolab.diagnose.verify_words import Words, compare_words, corpus
from picolab.errors import BadInput
from picolab.trace.engines.engine import Engine

OPENING = 4
"""Random tokens before a greedy text."""


def verify(
    here: Engine,
    there: Engine,
    ask: Ask,
    asides: Asides | None = None,
    *,
    told: Callable[[str], None] = lambda what: None,
) -> Verification:
    """Compare `here` with `there`; `told` hears what is being compared."""
    started, rng = time.monotonic(), random.Random(ask.seed)
    asides = asides or Asides()
    vocab_size = min(here.vocab_size, there.vocab_size)
    longest = longest_text(here, there, ask.longest)
    texts = [draw(rng, length, vocab_size) for length in draw_lengths(rng, ask.prompts, longest)]
    checks = _sizes(here, there)
    checks += _logits(here, there, texts, ask, rng, told)
    checks.append(_second_text(here, there, texts[-1], draw(rng, max(1, longest // 2), vocab_size), ask, rng, told))
    measured = max((check.worst or 0.0 for check in checks if check.status == "pass"), default=0.0)
    opening = draw(rng, min(OPENING, longest), vocab_size)
    checks.append(_greedy(here, there, opening, measured, ask, told))
    checks.append(_words(here, there, asides, rng, vocab_size, told))
    failed = any(check.status == "fail" for check in checks)
    return Verification(
        here=here.name,
        there=there.name,
        verdict="different" if failed else "equal",
        says=summary(here.name, there.name, checks),
        seed=ask.seed,
        checks=tuple(checks),
        notes=_limits(here, there, longest),
        seconds=time.monotonic() - started,
    )


def _limits(here: Engine, there: Engine, longest: int) -> tuple[str, ...]:
    """What no text was long enough to show."""
    context = min((e.context_length for e in (here, there) if e.context_length is not None), default=longest)
    if context <= longest:
        return ()
    return (f"texts had {longest:,} tokens at most, and the context is {context:,}: `longest` reads further",)


def _sizes(here: Engine, there: Engine) -> list[Check]:
    """A check only where it fails: a vocabulary of another size."""
    if here.vocab_size == there.vocab_size:
        return []
    says = f"{here.vocab_size} logits a position here, {there.vocab_size} there; those that both have are compared"
    return [Check(name="vocabulary", compared="logits a position", status="fail", says=says)]


def _logits(
    here: Engine, there: Engine, texts: Sequence[Text], ask: Ask, rng: random.Random, told: Callable[[str], None]
) -> list[Check]:
    """Every text, from short to long, read here in three ways; the reference reads it at once."""
    ways: dict[str, tuple[str, Callable[[Text], Pieces]]] = {
        "prefill": ("at once", at_once),
        "decode": ("one by one", one_by_one),
        "chunks": ("in pieces", lambda text: in_pieces(text, rng)),
    }
    tallies = {name: Tally(ask.tolerance) for name in ways}
    for number, text in enumerate(texts):
        told(f"logits of prompt {number + 1} of {len(texts)}, {_tokens(len(text))}")
        expected = read_text(there, at_once(text))
        for name, (_, cut) in ways.items():
            tallies[name].add(number, read_text(here, cut(text)), expected)
    lengths = f"{len(texts)} prompts, {len(texts[0])} to {_tokens(len(texts[-1]))}"
    return [_judged(name, f"{lengths}, {how}", tallies[name]) for name, (how, _) in ways.items()]


def _second_text(
    here: Engine, there: Engine, first: Text, second: Text, ask: Ask, rng: random.Random, told: Callable[[str], None]
) -> Check:
    """A shorter text after a longer one: nothing of the first may be left."""
    told("a second text")
    expected, tally = read_text(there, at_once(second)), Tally(ask.tolerance)
    for number, cut in enumerate((at_once, lambda text: in_pieces(text, rng))):
        read_text(here, at_once(first))
        tally.add(number, read_text(here, cut(second)), expected)
    return _judged("second text", f"{_tokens(len(second))} after {_tokens(len(first))}", tally)


def _judged(name: str, compared: str, tally: Tally) -> Check:
    return Check(
        name=name,
        compared=compared,
        status="pass" if tally.passed else "fail",
        worst=tally.worst,
        where=tally.place,
        tolerance=tally.tolerance,
        says=_about(tally),
    )


def _about(tally: Tally) -> str:
    if tally.not_finite is not None:
        place, side = tally.not_finite
        return f"a logit {side} is not a finite number at {place}"
    if tally.worst == 0:
        return "the same, bit for bit"
    if tally.passed:
        return f"at most {tally.worst:.1e} apart, at {tally.place}"
    return f"{tally.worst:.2g} apart at {tally.place}; {tally.beyond} of {tally.positions} positions differ"


def _greedy(
    here: Engine, there: Engine, opening: Text, measured: float, ask: Ask, told: Callable[[str], None]
) -> Check:
    limits = [engine.context_length for engine in (here, there) if engine.context_length is not None]
    count = min([ask.greedy, *(limit - len(opening) + 1 for limit in limits)])
    if count < 1:
        return Check(name="greedy", compared="nothing", status="skip", says="no tokens were asked for")
    told(f"{count} greedy tokens")
    written = write_greedily(here, there, opening, count, measured=measured, tolerance=ask.tolerance)
    failed = bool(written.wrong) or not written.tally.passed
    return Check(
        name="greedy",
        compared=f"{_tokens(count)}, the most likely each time",
        status="fail" if failed else "pass",
        worst=written.tally.worst,
        where=written.tally.place,
        tolerance=ask.tolerance,
        says=_about_greedy(written),
    )


def _about_greedy(written: Greedy) -> str:
    if written.tally.not_finite is not None:
        return _about(written.tally)
    alike = written.count - len(written.differing)
    says = f"{alike} of {written.count} tokens alike"
    if written.wrong:
        first: Choice = written.wrong[0]
        return (
            f"{says}; at step {first.step} token {first.ours} here and {first.theirs} there, which prefers it by "
            f"{first.margin:.1e} where the noise is {written.noise:.1e}"
        )
    if written.excused:
        widest = max(choice.margin for choice in written.excused)
        says += (
            f"; the rest is excused: preferred there by {widest:.1e} at most, where the noise is {written.noise:.1e}"
        )
    return says if written.tally.passed else f"{says}, yet {_about(written.tally)}"


def _words(
    here: Engine, there: Engine, asides: Asides, rng: random.Random, vocab_size: int, told: Callable[[str], None]
) -> Check:
    missing = asides.no_words or _no_words(here) or _no_words(there)
    if missing is not None:
        return Check(name="tokenizer", compared="nothing", status="skip", says=missing)
    told("tokenizers")
    texts = corpus(rng, asides.special, composed=asides.composed)
    found = compare_words(here, there, texts, rng, asides.readable or range(vocab_size), tidied=asides.tidied)
    return Check(
        name="tokenizer",
        compared=f"{found.texts} texts, {found.lists} lists of ids",
        status="fail" if found.disputes else "pass",
        says=_about_words(found),
    )


def _no_words(engine: Engine) -> str | None:
    """Why an engine has no tokenizer, if it has none."""
    try:
        engine.encode("")
    except BadInput as error:
        return str(error) if engine.name in str(error) else f"{engine.name}: {error}"
    return None


def _about_words(found: Words) -> str:
    refused = f"; {found.refused} texts are refused by both" if found.refused else ""
    refused += f"; {found.broken} lists are no text to either" if found.broken else ""
    if not found.disputes:
        return f"the same ids and the same text{refused}"
    first = found.disputes[0]
    return f"{len(found.disputes)} differ, first {first.about}: {first.ours} here, {first.theirs} there{refused}"


def _tokens(count: int) -> str:
    return f"{count:,} token{'' if count == 1 else 's'}"
