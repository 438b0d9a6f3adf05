"""A tokenizer in GGUF's words: which of the two kinds it is, the name of its rule for words, every token with its type.

Only what llama.cpp would encode alike is written. A tokenizer it has no words for (characters, integers, a compact vocabulary, a
rule without a name) is refused: a model with another tokenizer is another model.
"""

from __future__ import annotations

import json
from typing import Any

from picolab.errors import BadInput
from picolab.text.spelling import METASPACE
from picolab.text.spm import Kind
from picolab.text.tokenizer import Tokenizer
from picolab.weights.gguf.read_vocabulary import BEFORE, PRE

NO_PAIR = "! !"
"""llama.cpp wants one pair at least. This one makes no token there, and so changes nothing."""

HAVE_A_PLACE = "`bytes`, `gpt2`, `bpe-N` and SentencePiece's have a place"

UNREACHABLE = -1e6
"""The score of a piece that no pair makes."""


def vocabulary_fields(tokenizer: Tokenizer, vocab_size: int) -> dict[str, Any]:
    """The keys of a file that hold a tokenizer; rows of the model that no token has are filled up as llama.cpp's converters do."""
    if tokenizer.keep is not None:
        raise BadInput(
            "GGUF has no place for a compact vocabulary", hint="train with the full one, or write without tokenizer"
        )
    if tokenizer.vocab_size > vocab_size:
        raise BadInput(f"the tokenizer has {tokenizer.vocab_size} tokens and the model {vocab_size}")
    if len(tokenizer.opening) > 1:
        raise BadInput(f"{len(tokenizer.opening)} tokens open a text, and GGUF has a place for one")
    described: dict[str, Any] = json.loads(tokenizer.inner.to_str())
    model = described["model"]
    if model["type"] != "BPE":
        raise BadInput(f"GGUF has no words for a tokenizer of kind `{tokenizer.kind}`", hint=HAVE_A_PLACE)
    ids = tokenizer.inner.get_vocab(with_added_tokens=True)
    texts = [f"[PAD{i}]" for i in range(vocab_size)]
    kinds = [Kind.UNUSED] * vocab_size
    for text, i in ids.items():
        texts[i], kinds[i] = text, Kind.NORMAL
    for added in described["added_tokens"]:
        kinds[added["id"]] = Kind.CONTROL if added["special"] else Kind.USER_DEFINED
    pairs = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"]]
    byte_level = (described["decoder"] or {}).get("type") == "ByteLevel"
    own = _byte_level(described, pairs) if byte_level else _spm(described, tokenizer, texts, kinds, pairs)
    fields = {
        f"{BEFORE}tokens": texts,
        f"{BEFORE}token_type": [int(kind) for kind in kinds],
        **own,
        f"{BEFORE}eos_token_id": tokenizer.eot,
        f"{BEFORE}bos_token_id": tokenizer.opening[0] if tokenizer.opening else tokenizer.eot,
        f"{BEFORE}add_bos_token": bool(tokenizer.opening),
    }
    if tokenizer.pad is not None:
        fields[f"{BEFORE}padding_token_id"] = tokenizer.pad
    if tokenizer.chat_template is not None:
        fields["tokenizer.chat_template"] = tokenizer.chat_template
    return fields


def _byte_level(described: dict[str, Any], pairs: list[tuple[str, ...]]) -> dict[str, Any]:
    merges = [f"{left} {right}" for left, right in pairs] or [NO_PAIR]
    return {f"{BEFORE}model": "gpt2", f"{BEFORE}pre": _rule(described, pairs), f"{BEFORE}merges": merges}


def _rule(described: dict[str, Any], pairs: list[tuple[str, ...]]) -> str:
    """The name of the rule by which a tokenizer cuts words."""
    if not pairs:  # bytes are bytes, however a text is cut
        return "gpt-2"
    pre = described["pre_tokenizer"] or {}
    steps = pre.get("pretokenizers", [pre])
    patterns = tuple(step["pattern"].get("Regex") for step in steps if step["type"] == "Split")
    last = steps[-1]
    plain = (
        last.get("type") == "ByteLevel"
        and not last["add_prefix_space"]
        and last["use_regex"] == (not patterns)
        and len(steps) == len(patterns) + 1
        and all(step["behavior"] == "Isolated" and not step["invert"] for step in steps[:-1])
    )
    composed = (described["normalizer"] or {}).get("type") == "NFC"
    whole_first = bool(described["model"].get("ignore_merges"))
    for name, words in PRE.items():
        if plain and (words.patterns, words.composed, words.whole_first) == (patterns, composed, whole_first):
            return name
    raise BadInput(
        "the rule by which the tokenizer cuts words has no name in GGUF", hint="known are: " + ", ".join(PRE)
    )


def _spm(
    described: dict[str, Any], tokenizer: Tokenizer, texts: list[str], kinds: list[Kind], pairs: list[tuple[str, ...]]
) -> dict[str, Any]:
    """Scores that put the pairs in their order: SentencePiece's own are gone, and only their order ever counted."""
    model, normalizer = described["model"], described["normalizer"] or {}
    steps = [step["type"] for step in normalizer.get("normalizers", [normalizer])] if normalizer else []
    if described["pre_tokenizer"] is not None or steps not in (["Prepend", "Replace"], ["Replace"]):
        raise BadInput(f"GGUF has no words for a tokenizer of kind `{tokenizer.kind}`", hint=HAVE_A_PLACE)
    if not any(text.startswith(METASPACE) for text in texts):
        raise BadInput(f"the tokenizer of kind `{tokenizer.kind}` has no piece with a space, and GGUF's has")
    scores = [UNREACHABLE] * len(texts)
    ids = {text: i for i, text in enumerate(texts)}
    for rank, pair in reversed(list(enumerate(pairs))):
        scores[ids["".join(pair)]] = float(-rank)
    for i, text in enumerate(texts):
        if model["byte_fallback"] and kinds[i] is Kind.NORMAL and _is_byte(text):
            kinds[i], scores[i] = Kind.BYTE, 0.0
        if text == model["unk_token"]:
            kinds[i] = Kind.UNKNOWN
    fields: dict[str, Any] = {
        f"{BEFORE}model": "llama",
        f"{BEFORE}pre": "default",
        f"{BEFORE}scores": scores,
        f"{BEFORE}token_type": [int(kind) for kind in kinds],
        f"{BEFORE}add_space_prefix": "Prepend" in steps,
    }
    if model["unk_token"] is not None:
        fields[f"{BEFORE}unknown_token_id"] = ids[model["unk_token"]]
    return fields


def _is_byte(text: str) -> bool:
    return len(text) == 6 and text.startswith("<0x") and text.endswith(">")
