"""A tokenizer in GGUF's words: which of the two kinds it is, the name of its rule for words, every token with its type.

Only what llama.cpp would encode alike is written. A tokenizer it has no words for (characters, integers, a compact vocabulary, a
rule without a name) is refused: a model with another tokenizer is another model.
"""

from __future__ import annotations

import json
from typing import Any

from picolab.errors import BadInput
from picolab.text.files import ENDS
from picolab.text.spm import Kind
from picolab.text.tokenizer import Tokenizer
from picolab.weights.gguf.read_vocabulary import BEFORE, PRE, Words
from picolab.weights.pieces_of import ALONE, described_tokenizer, pairs_of, pieces_of, texts_and_kinds

NO_PAIR = "! !"
"""llama.cpp wants one pair at least. This one makes no token there, and so changes nothing."""

OTHER_ENDS = ("eot", "eom")
"""What GGUF calls tokens that end a turn or a message."""


def vocabulary_fields(tokenizer: Tokenizer, vocab_size: int) -> dict[str, Any]:
    """The keys of a file that hold a tokenizer; rows of the model that no token has are filled up as llama.cpp's converters do."""
    described = described_tokenizer(tokenizer, vocab_size, target="GGUF")
    byte_level = (described["decoder"] or {}).get("type") == "ByteLevel"
    fields: dict[str, Any] = {
        **(_byte_level(tokenizer, described, vocab_size) if byte_level else _spm(tokenizer, vocab_size)),
        **_more_ends(tokenizer, described),
        f"{BEFORE}eos_token_id": tokenizer.eot,
        f"{BEFORE}bos_token_id": tokenizer.eot if tokenizer.bos is None else tokenizer.bos,
        f"{BEFORE}add_bos_token": bool(tokenizer.opening),
    }
    if tokenizer.pad is not None:
        fields[f"{BEFORE}padding_token_id"] = tokenizer.pad
    if tokenizer.chat_template is not None:
        fields["tokenizer.chat_template"] = tokenizer.chat_template
    return fields


def _byte_level(tokenizer: Tokenizer, described: dict[str, Any], vocab_size: int) -> dict[str, Any]:
    texts, kinds = texts_and_kinds(tokenizer, described, vocab_size)
    pairs = pairs_of(described)
    return {
        f"{BEFORE}model": "gpt2",
        f"{BEFORE}pre": _rule(described, bool(pairs)),
        f"{BEFORE}tokens": texts,
        f"{BEFORE}token_type": [int(kind) for kind in kinds],
        f"{BEFORE}merges": [f"{left} {right}" for left, right in pairs] or [NO_PAIR],
    }


def _rule(described: dict[str, Any], has_pairs: bool) -> str:
    """The name of the rule by which a tokenizer cuts words; bytes are bytes, however a text is cut."""
    name = next((name for name in PRE if _cuts_as(described, PRE[name])), None) if has_pairs else "gpt-2"
    if name is None:
        raise BadInput(
            "the rule by which the tokenizer cuts words has no name in GGUF", hint="known are: " + ", ".join(PRE)
        )
    return name


def cuts_as(tokenizer: Tokenizer, name: str) -> bool:
    """Whether a tokenizer cuts words by the rule that GGUF calls so."""
    return _cuts_as(json.loads(tokenizer.inner.to_str()), PRE[name])


def _cuts_as(described: dict[str, Any], words: Words) -> bool:
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
    return plain and (words.patterns, words.composed, words.whole_first) == (patterns, composed, whole_first)


def _more_ends(tokenizer: Tokenizer, described: dict[str, Any]) -> dict[str, int]:
    """Tokens that end a text beside the end of text: some are known by how they are written, two others can be named."""
    written = {added["id"]: added["content"] for added in described["added_tokens"] if added["special"]}
    unknown = sorted(i for i in tokenizer.ends - {tokenizer.eot} if written.get(i) not in ENDS)
    if len(unknown) > len(OTHER_ENDS):
        raise BadInput(f"the tokens {unknown} end a text, and GGUF has a place for {len(OTHER_ENDS)}", hint=ALONE)
    return {f"{BEFORE}{name}_token_id": i for name, i in zip(OTHER_ENDS, unknown, strict=False)}


def _spm(tokenizer: Tokenizer, vocab_size: int) -> dict[str, Any]:
    pieces = pieces_of(tokenizer, vocab_size, target="GGUF")
    fields: dict[str, Any] = {
        f"{BEFORE}model": "llama",
        f"{BEFORE}pre": "default",
        f"{BEFORE}tokens": list(pieces.texts),
        f"{BEFORE}scores": list(pieces.scores),
        f"{BEFORE}token_type": [int(kind) for kind in pieces.kinds],
        f"{BEFORE}add_space_prefix": pieces.space_first,
    }
    unknown = pieces.of_kind(Kind.UNKNOWN)
    if unknown:
        fields[f"{BEFORE}unknown_token_id"] = unknown[0]
    return fields
