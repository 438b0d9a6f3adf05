"""Which bytes does a token stand for? Vocabularies write them in three ways.

    byte-level    Ġthe    -> b" the"     every byte has a printable stand-in        Radford et al. 2019 (GPT-2), encoder.py
    metaspace     ▁the    -> b" the"     a space is ▁, a lone byte <0x0A>           Kudo and Richardson 2018, arXiv:1808.06226
    plain         the     -> b"the"      as it is

Text is the bytes of its tokens, joined, read as UTF-8. A token may end inside a character: its bytes alone need not be text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from picolab.errors import BadData

METASPACE = "▁"


def byte_alphabet() -> dict[int, str]:
    """Byte -> the character that stands for it in a byte-level vocabulary.

    Latin-1's visible characters stand for themselves. The 68 other bytes (controls, the spaces, the soft hyphen) take U+0100
    upwards in order, so that no vocabulary entry holds white space: space, 0x20, becomes U+0120, `Ġ`.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(0x100 + n) for n, byte in enumerate(hidden)}


BYTE_TO_CHARACTER = byte_alphabet()
CHARACTER_TO_BYTE = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Spelling:
    """How tokens become text: the bytes of one, what stands between two, whether the first loses its leading space."""

    bytes_of: Callable[[str], bytes]
    between: bytes = b""
    drops_first_space: bool = False


def spelling_of(description: dict[str, Any]) -> Spelling:
    """The spelling a tokenizer.json declares by its model and its decoder."""
    model, decoders = description["model"], list(_steps(description.get("decoder")))
    kinds = {step["type"] for step in decoders}
    if model["type"] == "WordLevel":
        return Spelling(bytes_of=str.encode, between=b" ")
    if model["type"] != "BPE":
        raise BadData(
            f"the tokenizer is a `{model['type']}` model, which is not read here",
            hint="byte-pair encoding is, byte-level (GPT-2, Llama 3, Qwen) or with ▁ for a space (Llama 2)",
        )
    if "ByteLevel" in kinds:
        return Spelling(bytes_of=_byte_level)
    if "Metaspace" in kinds or any(
        s["type"] == "Replace" and s["pattern"].get("String") == METASPACE for s in decoders
    ):
        strips = any(s["type"] == "Strip" and s["content"] == " " and s["start"] == 1 for s in decoders)
        prepended = any(s["type"] == "Metaspace" and s.get("prepend_scheme", "always") != "never" for s in decoders)
        return Spelling(bytes_of=_metaspace, drops_first_space=strips or prepended)
    if kinds <= {"Fuse"} and kinds:
        return Spelling(bytes_of=str.encode)
    raise BadData(
        f"the tokenizer's decoder is {', '.join(f'`{kind}`' for kind in sorted(kinds)) or 'missing'}, which is not read here",
        hint="a `ByteLevel` decoder is, or one that turns ▁ into a space",
    )


def printable(raw: bytes) -> str:
    """Bytes as a name one can see: a space is ␣, a control character its escape, bytes that are no text <0xE2>."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in raw)
    return "".join("␣" if c == " " else c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _byte_level(token: str) -> bytes:
    try:
        return bytes(CHARACTER_TO_BYTE[character] for character in token)
    except KeyError:  # an entry that was never made of bytes, such as a control token's name, is itself
        return token.encode()


_LONE_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _metaspace(token: str) -> bytes:
    lone = _LONE_BYTE.fullmatch(token)
    return bytes([int(lone[1], 16)]) if lone else token.replace(METASPACE, " ").encode()


def _steps(decoder: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The decoder's steps, whether it is one, several in a sequence, or none."""
    if decoder is not None and decoder["type"] == "Sequence":
        for step in decoder["decoders"]:
            yield from _steps(step)
    elif decoder is not None:
        yield decoder
