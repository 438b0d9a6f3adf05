"""How is somebody's tokenizer asked? By `encode` and `decode`; what more it has is found under the names people use.

picolab         Tokenizer                         transformers    PreTrainedTokenizer(Fast): nothing added, control strings split
tokenizers      Tokenizer                         tiktoken        Encoding
anyone          encode(text) -> ids, decode(ids) -> text; and if it has them
                vocab_size or n_vocab   special_ids {name: id}   bos_id eos_id   token_bytes(id)   stream(ids) -> pieces of text
                render(messages, add_generation_prompt=) -> ids
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from picolab.text.chat import render
from picolab.text.stream import TextStream
from picolab.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A tokenizer, however it is written; what it does not offer is None or empty."""

    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    size: int | None = None
    controls: Mapping[str, int] = field(default_factory=dict)
    opens: int | None = None
    ends: frozenset[int] = frozenset()
    token_bytes: Callable[[int], bytes] | None = None
    stream: Callable[[Sequence[int]], str] | None = None
    render: Callable[[list[dict[str, str]], bool], list[int]] | None = None
    fingerprint: str | None = None
    is_cut: bool = False
    """Whether it was cut to its corpus and need not spell any other text."""


def vocabulary_of(words: Any) -> Vocabulary:
    """The same questions for every tokenizer."""
    if isinstance(words, Tokenizer):
        return _own(words)
    if hasattr(words, "all_special_ids") and hasattr(words, "convert_ids_to_tokens"):
        return _of_transformers(words)
    if hasattr(words, "special_tokens_set") and hasattr(words, "n_vocab"):
        return _of_tiktoken(words)
    if hasattr(words, "get_added_tokens_decoder"):
        return _of_tokenizers(words)
    return _of_anyone(words)


def _own(words: Tokenizer) -> Vocabulary:
    def stream(ids: Sequence[int]) -> str:
        text = TextStream(words)
        return "".join([text.push(token) for token in ids]) + text.finish()

    controls = {words.token_name(i): i for i in range(words.vocab_size) if not words.token_bytes(i)}
    template = words.chat_template
    return Vocabulary(
        encode=words.encode,
        decode=words.decode,
        size=words.vocab_size,
        controls={name: i for name, i in controls.items() if not name.startswith("<|unused ")},
        opens=words.opening[0] if words.opening else None,
        ends=words.ends,
        token_bytes=words.token_bytes,
        stream=stream,
        render=None
        if template is None
        else lambda messages, prompt: render(words, messages, add_generation_prompt=prompt),
        fingerprint=words.fingerprint,
        is_cut=words.keep is not None or words.kind in ("characters", "integers"),
    )


def _of_transformers(words: Any) -> Vocabulary:
    def templated(messages: list[dict[str, str]], prompt: bool) -> list[int]:
        ids = words.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=True, return_dict=False)
        return [int(token) for token in ids]

    return Vocabulary(
        encode=lambda text: list(words.encode(text, add_special_tokens=False, split_special_tokens=True)),
        decode=lambda ids: str(words.decode(list(ids), clean_up_tokenization_spaces=False)),
        size=len(words),
        controls=dict(zip(words.all_special_tokens, words.all_special_ids, strict=True)),
        opens=words.bos_token_id,
        ends=frozenset() if words.eos_token_id is None else frozenset({words.eos_token_id}),
        render=templated if getattr(words, "chat_template", None) else None,
    )


def _of_tiktoken(words: Any) -> Vocabulary:
    return Vocabulary(
        encode=lambda text: list(words.encode(text, disallowed_special=())),
        decode=lambda ids: str(words.decode(list(ids))),
        size=words.n_vocab,
        controls={name: words.encode_single_token(name) for name in words.special_tokens_set},
    )


def _of_tokenizers(words: Any) -> Vocabulary:
    special = {added.content: i for i, added in words.get_added_tokens_decoder().items() if added.special}
    return Vocabulary(
        encode=lambda text: list(words.encode(text, add_special_tokens=False).ids),
        decode=lambda ids: str(words.decode(list(ids), skip_special_tokens=False)),
        size=words.get_vocab_size(),
        controls=special,
    )


def _of_anyone(words: Any) -> Vocabulary:
    streaming, rendering = getattr(words, "stream", None), getattr(words, "render", None)
    size = _first(words, "vocab_size", "n_vocab")
    special = _first(words, "special_ids", "special_tokens") or {}
    if not isinstance(special, Mapping):
        special = {f"<{token}>": token for token in special if isinstance(token, int)}
    opens, ends = _first(words, "bos_id", "bos_token_id", "bos"), _first(words, "eos_id", "eos_token_id", "eos", "eot")
    return Vocabulary(
        encode=lambda text: _ids(words.encode(text)),
        decode=lambda ids: str(words.decode(list(ids))),
        size=size() if callable(size) else size,
        controls={str(name): int(token) for name, token in special.items()},
        opens=opens if isinstance(opens, int) else None,
        ends=frozenset({ends} if isinstance(ends, int) else ()),
        token_bytes=getattr(words, "token_bytes", None),
        stream=None if streaming is None else lambda ids: "".join(streaming(list(ids))),
        render=None
        if rendering is None
        else lambda messages, prompt: _ids(rendering(messages, add_generation_prompt=prompt)),
    )


def _first(words: Any, *names: str) -> Any:
    return next((value for name in names if (value := getattr(words, name, None)) is not None), None)


def _ids(given: Any) -> list[int]:
    """Ids out of a list, an array, a tensor, or an object that has `ids`."""
    given = getattr(given, "ids", given)
    flat: Iterable[Any] = given.tolist() if hasattr(given, "tolist") else given
    ids = list(flat)
    return [int(token) for token in (ids[0] if len(ids) == 1 and isinstance(ids[0], list) else ids)]
