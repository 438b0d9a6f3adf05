"""The tokenizer inside a GGUF file: `llama` is SentencePiece with scores, `gpt2` is byte-level pairs with a named rule for words.

    tokenizer.ggml.model   llama        tokens, scores, token_type
                           gpt2         tokens, merges, token_type, pre (the rule by which text is cut into words first)

The name `pre` stands for a regular expression that is not in the file. A wrong one gives other ids for a few texts in a hundred,
and a model slightly worse than it is: a name in no table is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from picolab.errors import BadCheckpoint, UnknownName
from picolab.text.files import ENDS
from picolab.text.spm import Kind, Pieces, check_pieces, opens_with, spm_tokenizer
from picolab.text.tokenizer import Tokenizer
from picolab.weights.gguf.header import Header

BEFORE = "tokenizer.ggml."
NO_ID = 0xFFFFFFFF

CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
GPT2_WORDS = CONTRACTIONS + r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
LATER_WORDS = (
    rf"(?i:{CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """A rule that cuts text into words: regular expressions one after another, each cutting what those before left whole.

    `whole_first` takes a word that is a token as it is, without looking at pairs; `opens` puts the opening token before every
    text unless the file says otherwise; `composed` reads e + ´ as é.
    """

    patterns: tuple[str, ...] = ()
    whole_first: bool = False
    opens: bool = False
    composed: bool = False


GPT2 = Words()
LLAMA3 = Words(patterns=(LATER_WORDS % "{1,3}",), whole_first=True, opens=True)
# The composition is the model's own (transformers does it); llama.cpp leaves text as it is.
QWEN2 = Words(patterns=(LATER_WORDS % "",), composed=True)
DEFAULT = Words(patterns=(r"[\p{P}\$\+<=>\^~\|]+", GPT2_WORDS, r"\p{N}+", "[0-9][0-9][0-9]"))

PRE: dict[str, Words] = {
    "gpt-2": GPT2,
    "llama-bpe": LLAMA3,
    "llama3": LLAMA3,
    "llama-v3": LLAMA3,
    "qwen2": QWEN2,
    "deepseek-r1-qwen": QWEN2,
    "default": DEFAULT,
}
"""`tokenizer.ggml.pre` -> the rule it names; none in the file is `default`."""


def tokenizer_of(header: Header) -> Tokenizer | None:
    """The tokenizer of a GGUF file; None where it has none."""
    model = header.text(BEFORE + "model", "none")
    if model in ("none", "no_vocab"):
        return None
    if model not in ("llama", "gpt2"):
        raise UnknownName("GGUF tokenizer read here", model, ("llama", "gpt2"))
    try:
        return _spm(header) if model == "llama" else _bpe(header)
    except BadCheckpoint as error:
        own = str(error).startswith(f"`{header.path}`")
        raise error if own else BadCheckpoint(f"`{header.path}`: {error}", hint=error.hint) from error


def _spm(header: Header) -> Tokenizer:
    texts = header.texts(BEFORE + "tokens")
    scores = header.numbers(BEFORE + "scores") or [0.0] * len(texts)
    pieces = Pieces(
        texts=texts,
        scores=scores,
        kinds=_kinds(header, len(texts)),
        space_first=header.flag(BEFORE + "add_space_prefix", True),
    )
    bos, eos = (_id(header, name, len(texts), default) for name, default in (("bos", 1), ("eos", 2)))
    if eos is None:
        header.refuse("no token ends a text", hint="the file names none as `tokenizer.ggml.eos_token_id`")
    return spm_tokenizer(
        pieces,
        eot=eos,
        bos=bos,
        opens=header.flag(BEFORE + "add_bos_token", True),
        pad=_pad(header, len(texts), eos),
        ends=_ends(header, texts, pieces.kinds),
        chat_template=_template(header),
    )


def _bpe(header: Header) -> Tokenizer:
    name = header.text(BEFORE + "pre", "default")
    if name not in PRE:
        raise UnknownName("GGUF pre-tokenizer read here", name, PRE)
    words, texts = PRE[name], header.texts(BEFORE + "tokens")
    check_pieces(texts)
    kinds = _kinds(header, len(texts))
    eos = _id(header, "eos", len(texts), texts.index("<|endoftext|>") if "<|endoftext|>" in texts else None)
    if eos is None:
        header.refuse("no token ends a text", hint="the file names none as `tokenizer.ggml.eos_token_id`")
    inner = byte_level(texts, _pairs(header, texts), words)
    add_controls(inner, texts, kinds)
    bos = _id(header, "bos", len(texts), eos)
    opens = header.flag(BEFORE + "add_bos_token", words.opens) and bos is not None
    if opens and bos is not None:
        opens_with(inner, bos)
    return Tokenizer(
        inner,
        kind="bpe",
        eot=eos,
        pad=_pad(header, len(texts), eos),
        opening=(bos,) if opens and bos is not None else (),
        ends=_ends(header, texts, kinds),
        chat_template=_template(header),
        bos=bos,
    )


def _pairs(header: Header, texts: Sequence[str]) -> list[tuple[str, str]]:
    """The merges of a file; one that makes no token is passed over, as llama.cpp takes such a token apart again."""
    known, pairs = set(texts), []
    for number, merge in enumerate(header.texts(BEFORE + "merges")):
        space = merge.find(" ", 1)
        left, right = (merge[:space], merge[space + 1 :]) if space > 0 else (merge, "")
        if left not in known or right not in known:
            header.refuse(f"merge {number} of the vocabulary is `{merge[:40]}`, not two tokens")
        if left + right in known:
            pairs.append((left, right))
    return pairs


def byte_level(texts: Sequence[str], pairs: Sequence[tuple[str, str]], words: Words) -> tokenizers.Tokenizer:
    """Byte-pair encoding over bytes with one of the rules for words."""
    vocabulary = {text: i for i, text in enumerate(texts)}
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=list(pairs), ignore_merges=words.whole_first))
    if words.composed:
        inner.normalizer = normalizers.NFC()
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in words.patterns]
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not cuts)
    inner.pre_tokenizer = pre_tokenizers.Sequence([*cuts, to_bytes]) if cuts else to_bytes
    inner.decoder = decoders.ByteLevel()
    return inner


def add_controls(inner: tokenizers.Tokenizer, texts: Sequence[str], kinds: Sequence[Kind]) -> None:
    """Tokens that are not made of bytes: control tokens, which no text can spell, and words that are found before all others."""
    control = [text for text, kind in zip(texts, kinds, strict=True) if kind in (Kind.CONTROL, Kind.UNKNOWN)]
    inner.add_special_tokens([tokenizers.AddedToken(text, special=True, normalized=False) for text in control])
    spelled = [text for text, kind in zip(texts, kinds, strict=True) if kind is Kind.USER_DEFINED]
    inner.add_tokens([tokenizers.AddedToken(text, special=False, normalized=False) for text in spelled])


def _kinds(header: Header, count: int) -> list[Kind]:
    given = header.numbers(BEFORE + "token_type") or [Kind.NORMAL] * count
    if len(given) != count:
        header.refuse(f"the vocabulary has {count} tokens and {len(given)} of them have a type")
    unknown = next((kind for kind in given if kind not in _KINDS), None)
    if unknown is not None:
        header.refuse(f"a token is of type {unknown}, which is unknown")
    return [_KINDS[kind] for kind in given]


def _id(header: Header, name: str, count: int, default: int | None) -> int | None:
    """A token's id under its name in the file; 2^32 - 1 says that there is none."""
    key = f"{BEFORE}{name}_token_id"
    if key not in header.fields:
        return default if default is not None and default < count else None
    token = header.integer(key)
    if token in (NO_ID, -1):
        return None
    if not 0 <= token < count:
        header.refuse(f"`{key}` is {token}, and the vocabulary has {count} tokens")
    return token


def _pad(header: Header, count: int, eos: int) -> int | None:
    pad = _id(header, "padding", count, None)
    return None if pad == eos else pad


def _ends(header: Header, texts: Sequence[str], kinds: Sequence[Kind]) -> list[int]:
    named = (_id(header, name, len(texts), None) for name in ("eot", "eom"))
    known = (
        i for i, (text, kind) in enumerate(zip(texts, kinds, strict=True)) if kind is Kind.CONTROL and text in ENDS
    )
    return sorted({i for i in (*named, *known) if i is not None})


def _template(header: Header) -> str | None:
    return header.text("tokenizer.chat_template") if "tokenizer.chat_template" in header.fields else None


_KINDS: Mapping[Any, Kind] = {int(kind): kind for kind in Kind}
