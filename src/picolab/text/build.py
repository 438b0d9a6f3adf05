"""A word to a tokenizer: what `--tokenizer` may say.

    bytes  characters  integers  integers-0-99  bpe-2048  gpt2  path/to/tokenizer.json

A folder that has the name of a kind is meant with `./` before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from picolab.errors import BadSetting, UnknownName
from picolab.text.bpe import train_bpe
from picolab.text.bytes import byte_tokenizer
from picolab.text.characters import character_tokenizer
from picolab.text.gpt2 import gpt2_tokenizer
from picolab.text.integers import integer_tokenizer, range_tokenizer
from picolab.text.tokenizer import Tokenizer

SPECS = {
    "bytes": "256 bytes: any text, the longest sequences",
    "characters": "the characters of the corpus",
    "integers": "the whole numbers of the corpus, one token each",
    "integers-0-99": "the whole numbers of a range",
    "bpe-2048": "byte-pair encoding trained on the corpus, with a vocabulary of that size",
    "gpt2": "GPT-2's 50,257 tokens, from local files or the hub",
}

_BPE = re.compile(r"bpe-(\d+)")
_RANGE = re.compile(r"integers-(-?\d+)-(-?\d+)")


def build_tokenizer(
    spec: str,
    documents: Iterable[str] | Callable[[], Iterable[str]] | None = None,
    *,
    gpt2_dir: Path | None = None,
) -> Tokenizer:
    """The tokenizer a spec names. `characters`, `integers` and `bpe-N` read the documents, once and in a stream."""
    if spec == "bytes":
        return byte_tokenizer()
    if spec == "gpt2":
        return gpt2_tokenizer(gpt2_dir)
    if ends := _RANGE.fullmatch(spec):
        return range_tokenizer(int(ends[1]), int(ends[2]))
    if spec == "characters":
        return character_tokenizer(_read(spec, documents))
    if spec == "integers":
        return integer_tokenizer(_read(spec, documents))
    if size := _BPE.fullmatch(spec):
        return train_bpe(_read(spec, documents), vocab_size=int(size[1]))
    if is_path(spec):
        return Tokenizer.load(Path(spec))
    raise UnknownName("tokenizer", spec, SPECS)


def is_path(spec: str) -> bool:
    """Whether a spec means a file or folder rather than a name."""
    return "/" in spec or "\\" in spec or spec.endswith(".json") or Path(spec).exists()


def _read(spec: str, documents: Iterable[str] | Callable[[], Iterable[str]] | None) -> Iterable[str]:
    if documents is None:
        raise BadSetting(f"the tokenizer `{spec}` needs a corpus, and there is none", hint="`bytes` needs none")
    return documents() if callable(documents) else documents
