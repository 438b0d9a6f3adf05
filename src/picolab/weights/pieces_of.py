"""A SentencePiece vocabulary out of a tokenizer again: what formats want that keep pieces with scores, where ours keeps pairs.

    pairs in their order    (▁, t) (h, e) (▁, a) ..  ->  ▁t 0  he -1  ▁a -2 ..  then the pieces that no pair makes, in theirs

The scores a vocabulary came with are gone. Only their order ever counted, and these numbers have it: they are the ones that
SentencePiece itself gives (sentencepiece, src/bpe_model_trainer.cc: minus the rank).
"""

from __future__ import annotations

import json
from typing import Any

from picolab.errors import BadInput
from picolab.text.spelling import METASPACE
from picolab.text.spm import Kind, Pieces
from picolab.text.tokenizer import Tokenizer

UNREACHABLE = -1e6
"""The score of a piece that fills a row and that no text is to be cut into."""

ALONE = "`--tokenizer none` writes the weights alone"


def pieces_of(tokenizer: Tokenizer, vocab_size: int, *, target: str) -> Pieces:
    """The pieces of a tokenizer by id, filled up to `vocab_size`; BadInput where it is no SentencePiece's, naming the `target`."""
    described = described_tokenizer(tokenizer, vocab_size, target=target)
    model, normalizer = described["model"], described["normalizer"] or {}
    steps = [step["type"] for step in normalizer.get("normalizers", [normalizer])] if normalizer else []
    if described["pre_tokenizer"] is not None or steps not in (["Prepend", "Replace"], ["Replace"]):
        why = ", which makes several spaces one" if steps.count("Replace") > 1 else ""
        raise BadInput(f"{target} has no words for a tokenizer of kind `{tokenizer.kind}`{why}", hint=ALONE)
    texts, kinds = texts_and_kinds(tokenizer, described, vocab_size)
    if not any(text.startswith(METASPACE) for text in texts):
        raise BadInput(f"the tokenizer of kind `{tokenizer.kind}` has no piece with a space, and {target}'s has")
    for i, text in enumerate(texts):
        if text == model["unk_token"]:
            kinds[i] = Kind.UNKNOWN
        elif model["byte_fallback"] and kinds[i] is Kind.NORMAL and _is_byte(text):
            kinds[i] = Kind.BYTE
    ids = {text: i for i, text in enumerate(texts)}
    made = dict.fromkeys(ids["".join(pair)] for pair in pairs_of(described))  # each once, at its best rank
    others = [i for i, kind in enumerate(kinds) if kind is Kind.NORMAL and i not in made]
    scores = [UNREACHABLE if kind is Kind.UNUSED else 0.0 for kind in kinds]
    for rank, i in enumerate([*made, *others]):
        scores[i] = -float(rank)
    return Pieces(texts=texts, scores=scores, kinds=kinds, space_first="Prepend" in steps)


def described_tokenizer(tokenizer: Tokenizer, vocab_size: int, *, target: str) -> dict[str, Any]:
    """A tokenizer.json as data, of a tokenizer that has a place in formats of one vocabulary and one opening token."""
    if tokenizer.keep is not None:
        raise BadInput(
            f"{target} has no place for a compact vocabulary",
            hint=f"a Hugging Face folder has one; {ALONE}",
        )
    if tokenizer.vocab_size > vocab_size:
        raise BadInput(f"the tokenizer has {tokenizer.vocab_size} tokens and the model {vocab_size}")
    if len(tokenizer.opening) > 1:
        raise BadInput(f"{len(tokenizer.opening)} tokens open a text, and {target} has a place for one")
    described: dict[str, Any] = json.loads(tokenizer.inner.to_str())
    if described["model"]["type"] != "BPE":
        raise BadInput(
            f"{target} has no words for a tokenizer of kind `{tokenizer.kind}`",
            hint=f"`bytes`, `gpt2`, `bpe-N` and SentencePiece's have a place in GGUF; {ALONE}",
        )
    return described


def texts_and_kinds(tokenizer: Tokenizer, described: dict[str, Any], vocab_size: int) -> tuple[list[str], list[Kind]]:
    """Every token as it is written, by id; ids that no token has are filled up as llama.cpp's converters do."""
    texts = [f"[PAD{i}]" for i in range(vocab_size)]
    kinds = [Kind.UNUSED] * vocab_size
    for text, i in tokenizer.inner.get_vocab(with_added_tokens=True).items():
        texts[i], kinds[i] = text, Kind.NORMAL
    for added in described["added_tokens"]:
        kinds[added["id"]] = Kind.CONTROL if added["special"] else Kind.USER_DEFINED
    return texts, kinds


def pairs_of(described: dict[str, Any]) -> list[tuple[str, ...]]:
    """The pairs in their order; a tokenizer.json writes them in one of two ways."""
    return [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in described["model"]["merges"]]


def _is_byte(text: str) -> bool:
    return len(text) == 6 and text.startswith("<0x") and text.endswith(">")
