"""Did both engines read the same tokens? If not, nothing else can be compared, and how the ids differ is the finding.

    reference   1  15043  29892  3186
    target         15043  29892  3186        the first token is missing: BOS
    target   1  1  15043  29892  3186        BOS twice
    target      72 101 108 108 111 44        the same text, every byte a token: merges were not applied

Ids are compared before any number is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from picolab.diagnose.verdict import Born, Told, Verdict
from picolab.text.tokenizer import Tokenizer

CAUSE = "token-ids"

LOOK_FOR = (
    "who adds BOS: the template, the tokenizer's post-processor, the engine, or two of them; the pre-tokenizer's pattern; a space "
    "put before the text; special tokens read as text"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Departure:
    """How two sequences of ids differ: from which position on, in what way, and that in words."""

    position: int
    kind: str
    says: str


def departure(reference: Sequence[int], target: Sequence[int], words: Tokenizer | None = None) -> Departure | None:
    """The first difference of two sequences of ids and what kind it is; None where they are the same."""
    a, b = list(reference), list(target)
    if a == b:
        return None
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    kind, says = _kind(a, b, at, words)
    return Departure(position=at, kind=kind, says=says)


def _kind(a: list[int], b: list[int], at: int, words: Tokenizer | None) -> tuple[str, str]:
    """The simplest description that is exactly true."""
    opens = None if words is None else words.bos
    first = "BOS" if opens is not None and a[:1] == [opens] else "the first token"
    if b == a[1:]:
        return ("bos-missing" if first == "BOS" else "first-missing"), f"{first} is missing"
    if b[1:] == a:
        if b[:1] == a[:1]:
            return ("bos-doubled" if first == "BOS" else "first-doubled"), f"{first} is read twice"
        extra = "BOS" if opens is not None and b[:1] == [opens] else f"token {b[0]}"
        return ("bos-extra" if extra == "BOS" else "first-extra"), f"{extra} is put in front"
    if b[:-1] == a:
        return "end-extra", f"token {b[-1]} is added at the end"
    if a[:-1] == b:
        return "end-missing", "the last token is missing"
    if len(a) == len(b):
        if a[1:] == b[:-1]:
            return "shifted", "every token stands one position earlier"
        if a[:-1] == b[1:]:
            return "shifted", "every token stands one position later"
        if len({y - x for x, y in zip(a, b, strict=True)}) == 1 and len(a) > 1:
            return (
                "numbering",
                f"every id is {abs(b[0] - a[0])} {'higher' if b[0] > a[0] else 'lower'}: another numbering",
            )
        if b == a[::-1]:
            return "reversed", "the tokens are in reverse order"
    return _of_text(a, b, words) or _of_list(a, b, at)


def _of_text(a: list[int], b: list[int], words: Tokenizer | None) -> tuple[str, str] | None:
    """Whether both spell the same text, where somebody can spell."""
    if words is None or not all(0 <= token < words.vocab_size for token in (*a, *b)):
        return None
    ours, theirs = (b"".join(words.token_bytes(token) for token in ids) for ids in (a, b))
    if ours == theirs:
        if len(b) == len(theirs) and len(b) > len(a):
            return "bytes", "the text is the same and every byte a token of its own: merges were not applied"
        return "cut", f"the text is the same and cut otherwise: {len(b)} tokens in place of {len(a)}"
    if theirs.lstrip(b" ") == ours.lstrip(b" "):
        return "space", f"a space before the text is {'missing' if len(theirs) < len(ours) else 'put there'}"
    return None


def _of_list(a: list[int], b: list[int], at: int) -> tuple[str, str]:
    if b[:at] + b[at + 1 :] == a:
        return "extra", "one token more"
    if a[:at] + a[at + 1 :] == b:
        return "missing", "one token is missing"
    if len(a) == len(b):
        wrong = sum(x != y for x, y in zip(a, b, strict=True))
        return ("one" if wrong == 1 else "other"), f"{wrong} of {len(a)} ids differ"
    return "other", f"{len(b)} tokens in place of {len(a)}, and no simple rule makes one of the other"


def incomparable(
    reference: Sequence[int], target: Sequence[int], words: Tokenizer | None = None, *, seconds: float = 0.0
) -> Verdict | None:
    """The verdict of two engines that did not read the same tokens; None where they did."""
    found = departure(reference, target, words)
    if found is None:
        return None
    at = found.position
    ids = [row[at] if at < len(row) else None for row in (reference, target)]
    pieces = [_piece(words, token) for token in ids]
    here, there = (_told(token, piece) for token, piece in zip(ids, pieces, strict=True))
    says = f"{found.says}; from position {at} on: {here} in the reference, {there} in the target"
    evidence: dict[str, Any] = {
        "kind": found.kind,
        "position": at,
        "reference": ids[0],
        "target": ids[1],
        "reference piece": pieces[0],
        "target piece": pieces[1],
        "reference length": len(reference),
        "target length": len(target),
    }
    told = Told(cause=CAUSE, says=says, explained=1.0, residual=0.0, certain=True, evidence=evidence, look_for=LOOK_FOR)
    return Verdict(
        verdict="incomparable",
        says=f"both did not read the same tokens: {says}",
        noise_floor=0.0,
        before=float("nan"),
        remaining=float("nan"),
        first_divergence="tokens",
        born=(
            Born(
                site="tokens",
                lines=("tokens",),
                phase="prefill",
                step=0,
                inherited=0.0,
                added=1.0,
                explanations=(told,),
            ),
        ),
        seconds=seconds,
    )


def _piece(words: Tokenizer | None, token: int | None) -> str | None:
    return None if words is None or token is None or not 0 <= token < words.vocab_size else words.token_name(token)


def _told(token: int | None, piece: str | None) -> str:
    return "nothing" if token is None else f"{token}" if piece is None else f"{token} ({piece})"
