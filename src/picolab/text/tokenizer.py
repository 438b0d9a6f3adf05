"""One tokenizer for every kind: text <-> ids, what each id stands for, three files on disk.

    text -> encode -> ids 0 .. vocab_size-1 -> token_bytes, joined -> text
                      eot is one of them: it opens and closes every document, and no text can spell it

Below is a `tokenizers.Tokenizer`, so every kind is saved as a Hugging Face tokenizer.json and transformers gives the same ids.

Control tokens are not text. A document that holds the letters `<|endoftext|>` has those letters encoded, as any other letters
are: an author must not be able to end a document by writing about it. Whoever means the control token uses `Tokenizer.eot`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from picolab.errors import BadData
from picolab.text import files
from picolab.text.pieces import cuts_at_spaces, groups, pieces
from picolab.text.spelling import Spelling, printable, spelling_of

EOT = files.EOT
PAD = "<|pad|>"


class Tokenizer:
    """Text to ids and back, whatever the kind.

    `kind` is `bytes`, `characters`, `integers`, `bpe` or `gpt2`. `eot` is the end-of-text id, `pad` the padding id where the
    vocabulary has one. `keep`, where the vocabulary is compact, holds for each id the id it had in the full vocabulary.
    `opening` is what a text begins with before its own tokens, and `ends` are the tokens that end one: both are `eot` in models
    trained here, while others open with another token than they end with, or with none. `bos` is the token that is called the
    opening one, whether or not texts begin with it: templates spell it. `chat_template` is the Jinja template of models that were
    taught to converse (`text/chat.py`).
    `inner` is the library's tokenizer; in a compact one it numbers the tokens not kept from `vocab_size` upwards.
    """

    def __init__(
        self,
        inner: tokenizers.Tokenizer,
        *,
        kind: str,
        eot: int,
        pad: int | None = None,
        keep: Sequence[int] | None = None,
        opening: Sequence[int] | None = None,
        ends: Collection[int] = (),
        chat_template: str | None = None,
        bos: int | None = None,
    ) -> None:
        inner.encode_special_tokens = True  # not part of tokenizer.json: to be said each time one is opened
        inner.no_truncation()  # a file may ask for either; both would change ids unseen
        inner.no_padding()
        self.inner = inner
        self.kind = kind
        self.eot = eot
        self.pad = pad
        self.keep = None if keep is None else np.asarray(keep, dtype=np.int64)
        self.opening = (eot,) if opening is None else tuple(opening)
        self.ends = frozenset({eot, *ends})
        self.chat_template = chat_template
        self.bos = bos if bos is not None or not self.opening else self.opening[0]
        self._description: dict[str, Any] = json.loads(inner.to_str())
        self.spelling: Spelling = spelling_of(self._description)
        self._sliceable = cuts_at_spaces(self._description)
        self._ids: dict[str, int] = inner.get_vocab(with_added_tokens=True)
        self.vocab_size: int = max(self._ids.values()) + 1 if self.keep is None else len(self.keep)
        others = [("opening", i) for i in (*self.opening, self.bos)] + [("ending", i) for i in self.ends]
        for name, token in [("end-of-text", eot), ("padding", pad), *others]:
            if token is not None and not 0 <= token < self.vocab_size:
                raise BadData(f"the {name} token {token} is outside the vocabulary of {self.vocab_size}")

    def __reduce__(self) -> tuple[Any, ...]:
        more = (self.opening, self.ends, self.chat_template, self.bos)
        return _rebuild, (self.inner.to_str(), self.kind, self.eot, self.pad, self.keep, *more)

    def __repr__(self) -> str:
        return f"Tokenizer(kind={self.kind!r}, vocab_size={self.vocab_size}, eot={self.eot}, pad={self.pad})"

    # Text to ids.

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without control tokens; BadData where the vocabulary cannot spell it."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text. Long texts go through in pieces, so what is held beside the ids does not grow with them."""
        rows: list[list[int]] = [[] for _ in texts]
        cut = pieces if self._sliceable else lambda text: iter([text])
        parts = ((row, part) for row, text in enumerate(texts) for part in cut(text))
        for group in groups(parts):
            for (row, _), ids in zip(group, self._encode([part for _, part in group]), strict=True):
                rows[row] += ids
        if self.keep is not None:
            for ids in rows:
                self._check_kept(ids)
        return rows

    def _encode(self, texts: list[str]) -> list[list[int]]:
        try:
            return [e.ids for e in self.inner.encode_batch_fast(texts, add_special_tokens=False)]
        except Exception as error:  # the library raises nothing more particular
            for text in texts:
                if not isinstance(text, str):
                    raise TypeError(f"a text is a string, not {type(text).__name__}") from error
                self._explain(text, error)
            raise BadData(f"the tokenizer cannot encode the text: {error}") from error

    def _explain(self, text: str, error: Exception) -> None:
        """Raise the error that says what in the text could not be encoded, if it is in this text."""
        half = next((c for c in text if "\ud800" <= c <= "\udfff"), None)
        if half is not None:
            raise BadData(
                f"the text holds U+{ord(half):04X}, half of a surrogate pair, which is no character",
                hint="it was read from bytes that are not UTF-8",
            ) from error
        units = [word for word, _ in self.inner.pre_tokenizer.pre_tokenize_str(text)] if self.spelling.between else text
        known = self._words
        unknown = next((unit for unit in units if unit not in known), None)
        if unknown is not None and self.spelling.between:
            raise BadData(
                f"`{_short(unknown)}` is not among the {len(known)} integers the tokenizer knows",
                hint="`integers` reads whole numbers divided by white space, those of its corpus or range; `bytes` reads any text",
            ) from error
        if unknown is not None and self.kind == "characters":
            raise BadData(
                f"the character `{printable(unknown.encode())}` (U+{ord(unknown):04X}) is not among the {len(known)} "
                "the tokenizer knows",
                hint="`characters` knows those of its corpus; `bytes` and `bpe-2048` read any text",
            ) from error

    def _check_kept(self, ids: list[int]) -> None:
        if ids and max(ids) >= self.vocab_size:
            token = next(i for i in ids if i >= self.vocab_size)
            raise BadData(
                f"the text needs the token `{self._name(token)}`, which the compact vocabulary of {self.vocab_size} does not keep",
                hint="a compact vocabulary spells its own corpus; `--compact-vocab` off keeps every token",
            )

    # Ids to text.

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids; control tokens are left out, bytes that are no character become U+FFFD."""
        spelled = (self.token_bytes(int(i)) for i in ids)
        raw = self.spelling.between.join(s for s in spelled if s)
        if self.spelling.drops_first_space:
            raw = raw.removeprefix(b" ")
        return raw.decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes of text a token stands for; none for a control token."""
        return self._spelled[self._checked(token)][0]

    def token_name(self, token: int) -> str:
        """A token as one can print it: `␣the`, `\\n`, `<0xE2>`, `<|endoftext|>`."""
        return self._name(self._checked(token))

    def _name(self, token: int) -> str:
        raw, written = self._spelled[token]
        return printable(raw) if raw else written

    def _checked(self, token: int) -> int:
        if not 0 <= token < self.vocab_size:
            raise BadData(
                f"token {token} is not in the vocabulary of {self.vocab_size}",
                hint=f"ids are 0 to {self.vocab_size - 1}: they were made with another tokenizer",
            )
        return token

    @cached_property
    def _spelled(self) -> list[tuple[bytes, str]]:
        """For each id of `inner`, its bytes and how the vocabulary writes it."""
        table = [(b"", f"<|unused {token}|>") for token in range(max(self._ids.values()) + 1)]
        for written, token in self._ids.items():
            table[token] = (self.spelling.bytes_of(written), written)
        for added in self._description["added_tokens"]:  # never made of bytes, so not spelled like the others
            table[added["id"]] = (b"" if added["special"] else added["content"].encode(), added["content"])
        return table

    @property
    def _words(self) -> set[str]:
        """The vocabulary without control tokens."""
        return self._ids.keys() - {added["content"] for added in self._description["added_tokens"]}

    # A compact vocabulary and the full one.

    def to_full(self, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Ids of this vocabulary as ids of the full one it was made from."""
        array = np.asarray(ids, dtype=np.int64)
        if array.size:
            self._checked(int(array.min()))
            self._checked(int(array.max()))
        return array.copy() if self.keep is None else self.keep[array]

    def to_compact(self, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Ids of the full vocabulary as ids of this one; BadData for one that is not kept."""
        array = np.asarray(ids, dtype=np.int64)
        if self.keep is None:
            return self.to_full(array)
        found = np.minimum(np.searchsorted(self.keep, array), self.vocab_size - 1)
        lost = array[self.keep[found] != array]
        if lost.size:
            raise BadData(
                f"token {lost.flat[0]} of the full vocabulary is not among the {self.vocab_size} kept",
                hint="a compact vocabulary spells its own corpus; `--compact-vocab` off keeps every token",
            )
        return found.astype(np.int64)

    # Identity and disk.

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that changes ids: two tokenizers with one fingerprint encode every text alike."""
        parts = {name: self._description[name] for name in ("added_tokens", "normalizer", "pre_tokenizer", "model")}
        content = {**parts, "eot": self.eot, "pad": self.pad, "keep": _listed(self.keep)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, which transformers opens, and picolab_tokenizer.json."""
        keep = _listed(self.keep)
        stored = files.Stored(
            inner=self.inner,
            kind=self.kind,
            eot=self.eot,
            pad=self.pad,
            keep=keep,
            opening=list(self.opening),
            ends=sorted(self.ends),
            chat_template=self.chat_template,
            bos=self.bos,
        )
        files.write(folder, stored)

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """The tokenizer of a folder (or of a tokenizer.json), saved here or by Hugging Face's libraries."""
        stored = files.read(Path(folder))
        return cls(
            stored.inner,
            kind=stored.kind,
            eot=stored.eot,
            pad=stored.pad,
            keep=stored.keep,
            opening=stored.opening,
            ends=stored.ends,
            chat_template=stored.chat_template,
            bos=stored.bos,
        )


def _rebuild(
    inner: str,
    kind: str,
    eot: int,
    pad: int | None,
    keep: Sequence[int] | None,
    opening: Sequence[int],
    ends: Collection[int],
    chat_template: str | None,
    bos: int | None,
) -> Tokenizer:
    more: dict[str, Any] = {"opening": opening, "ends": ends, "chat_template": chat_template, "bos": bos}
    return Tokenizer(tokenizers.Tokenizer.from_str(inner), kind=kind, eot=eot, pad=pad, keep=keep, **more)


def _listed(keep: npt.NDArray[np.int64] | None) -> list[int] | None:
    return None if keep is None else keep.tolist()


def _short(word: str, limit: int = 40) -> str:
    return word if len(word) <= limit else word[:limit] + "…"


def closed(inner: tokenizers.Tokenizer, *, kind: str, padded: bool = False) -> Tokenizer:
    """A new vocabulary with its control tokens: end-of-text after all others, padding (if it is to have it) last."""
    names = [EOT, PAD] if padded else [EOT]
    inner.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in names])
    ids = inner.get_vocab(with_added_tokens=True)
    return Tokenizer(inner, kind=kind, eot=ids[EOT], pad=ids[PAD] if padded else None)
