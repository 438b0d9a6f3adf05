"""Where do preference pairs come from? From a corpus, whose texts are the better answers and whose spoiled texts the worse ones; or
from a file of pairs.

    stories, any text    prompt | what follows it          against    the same spoiled (`preferences_text.py`)
    numeric              2 4 6 | 8 10                       against    8 11 (`preferences_numeric.py`)
    FILE.jsonl           {"prompt": .., "chosen": .., "rejected": ..}        (`preferences_file.py`)

The split is the corpus's own: pairs made of held-out documents are held out, and their texts are the plain text on which it is
measured what the preference costs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from picolab.data.dataset import Dataset, Store
from picolab.data.pairs import TokenPair
from picolab.data.preferences_file import is_pairs_file, read_pairs
from picolab.data.preferences_numeric import numeric_pairs
from picolab.data.preferences_text import text_pairs
from picolab.data.preferences_words import Limits, Pair
from picolab.data.prepare import prepare
from picolab.data.split import Split
from picolab.data.store import Mixture
from picolab.errors import BadData
from picolab.text.tokenizer import Tokenizer

__all__ = ["Limits", "Pair", "Preferences", "corpus_of", "encode", "make_preferences"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Preferences:
    """Pairs to learn from, pairs held out, and the corpus they are made of."""

    train: tuple[TokenPair, ...]
    held_out: tuple[TokenPair, ...]
    shown: tuple[Pair, ...]
    dataset: Dataset
    notes: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """How rejected sides of the held-out pairs were made, in alphabetical order."""
        return tuple(sorted({pair.kind for pair in self.held_out}))


def corpus_of(spec: str) -> str:
    """The data spec of the plain texts behind the pairs: the corpus itself, or the chosen texts of a file of pairs."""
    return read_pairs(Path(spec)).corpus if is_pairs_file(spec) else spec


def make_preferences(
    spec: str,
    tokenizer: Tokenizer,
    *,
    context_length: int,
    limits: Limits,
    kinds: Sequence[str] = (),
    split: Split | None = None,
    seed: int = 0,
    limit_examples: int | None = None,
) -> Preferences:
    """The pairs of a spec as one tokenizer spells them; the same settings give the same pairs."""
    is_file = is_pairs_file(spec)
    if is_file and kinds:
        raise BadData(f"`{spec}` holds pairs, and `kinds` makes them", hint="leave kinds out")
    dataset = prepare(
        corpus_of(spec), tokenizer=tokenizer, split=split, seed=seed, limit_examples=None if is_file else limit_examples
    )
    if not dataset.validation.n_documents:
        raise BadData(f"`{spec}` leaves no document for held-out pairs", hint="give more text")
    if is_file:
        pairs = read_pairs(Path(spec)).pairs[:limit_examples]
        train, held_out = _sides(pairs, dataset, tokenizer)
    else:
        room = limits.within(context_length)
        make = numeric_pairs if spec.partition(":")[0] == "numeric" else text_pairs
        train = make(spec, texts_of(dataset.train, tokenizer), tokenizer, room, kinds, limits.pairs, (seed, 0))
        held_out = make(
            spec,
            texts_of(dataset.validation, tokenizer),
            tokenizer,
            room,
            kinds,
            limits.held_out,
            (seed, 1),
            even=True,
        )
    for name, found in (("to learn from", train), ("held out", held_out)):
        if not found:
            raise BadData(f"`{spec}` gives no pairs {name}", hint="its texts are too short or too few: give more text")
    return Preferences(
        train=tuple(encode(train, tokenizer, context_length)),
        held_out=tuple(encode(held_out, tokenizer, context_length)),
        shown=tuple(held_out),
        dataset=dataset,
        notes=() if dataset.held_out else ("nothing is held out: the held-out pairs are made of the training text",),
    )


def encode(pairs: Sequence[Pair], tokenizer: Tokenizer, context_length: int) -> list[TokenPair]:
    """Pairs as ids: the prompt opened as texts are, both responses closed where the text ended."""
    prompts = tokenizer.encode_batch([pair.prompt for pair in pairs])
    chosen = tokenizer.encode_batch([pair.chosen for pair in pairs])
    rejected = tokenizer.encode_batch([pair.rejected for pair in pairs])
    made = []
    for pair, prompt, better, worse in zip(pairs, prompts, chosen, rejected, strict=True):
        for side, ids in (("chosen", better), ("rejected", worse)):
            if not ids:
                raise BadData(f"{pair.source} has an empty `{side}`", hint="both sides need a text")
        if better == worse:
            raise BadData(
                f"{pair.source} has the same text on both sides", hint="a preference needs two different responses"
            )
        opened = (*tokenizer.opening, *prompt)
        if not opened:
            raise BadData(
                f"{pair.source} has an empty `prompt`", hint="this tokenizer opens no text, so a prompt is needed"
            )
        end = (tokenizer.eot,) if pair.ended else ()
        one = TokenPair(opened, (*better, *end), (*worse, *end), pair.kind)
        if one.positions > context_length:
            longest = max(map(len, one.sides))
            raise BadData(
                f"{pair.source} has a prompt of {len(opened)} tokens and a response of {longest}, more than the context of "
                f"{context_length}",
                hint="shorten it, or use a model with a longer context",
            )
        made.append(one)
    return made


def fingerprint(pairs: Sequence[TokenPair]) -> str:
    """A hash of every id of the pairs and where each side ends."""
    found = hashlib.blake2b(digest_size=16)
    for pair in pairs:
        found.update(repr((pair.prompt, pair.chosen, pair.rejected, pair.kind)).encode())
    return found.hexdigest()


def texts_of(store: Store, tokenizer: Tokenizer) -> list[str]:
    """The documents of one part of a corpus, as text."""
    stores = store.stores if isinstance(store, Mixture) else (store,)
    return [tokenizer.decode(one.document(i).tolist()) for one in stores for i in range(one.n_documents)]


def _sides(pairs: Sequence[Pair], dataset: Dataset, tokenizer: Tokenizer) -> tuple[list[Pair], list[Pair]]:
    """Pairs of a file on the side of the split where their chosen text is."""
    held = set(texts_of(dataset.validation, tokenizer))
    sides: tuple[list[Pair], list[Pair]] = ([], [])
    texts = tokenizer.encode_batch([(pair.prompt + pair.chosen).strip() for pair in pairs])
    for pair, ids in zip(pairs, texts, strict=True):
        sides[tokenizer.decode(ids) in held].append(pair)
    return sides
