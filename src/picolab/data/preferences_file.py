"""Pairs in a file: one JSON object a line, with `prompt`, `chosen` and `rejected`, as TRL reads them.

    {"prompt": "Once upon a time", "chosen": " there was a cat.", "rejected": " cat was a there."}

`kind` may say how the rejected side was made, and names the line of the result. Responses continue the prompt as they are: the
space between belongs to the response. Every line is read before anything is trained; one that cannot be used is named by its
number.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from picolab.data.cache import cached, home
from picolab.data.preferences_words import Pair
from picolab.data.text_files import END
from picolab.errors import BadData, nearest

KEYS = ("prompt", "chosen", "rejected")
KIND = "as given"


@dataclass(frozen=True, slots=True)
class PairsFile:
    """The pairs of a file, and the data spec of their prompts with the chosen responses."""

    pairs: tuple[Pair, ...]
    corpus: str


def is_pairs_file(spec: str) -> bool:
    return Path(spec).suffix in (".jsonl", ".json")


def read_pairs(path: Path) -> PairsFile:
    """Every pair of a file; `BadData` names the first line that is none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise BadData(f"there is no file `{path}`", hint="check the path; it is relative to where you are") from error
    except OSError as error:
        raise BadData(f"`{path}` cannot be read: {(error.strerror or str(error)).lower()}") from error
    return _parsed(path, content)


@lru_cache(maxsize=4)
def _parsed(path: Path, content: bytes) -> PairsFile:
    pairs = tuple(
        _pair(line, f"line {number} of `{path}`")
        for number, line in enumerate(content.splitlines(), start=1)
        if line.strip()
    )
    if not pairs:
        raise BadData(f"`{path}` has no pair in it", hint='a line is {"prompt": .., "chosen": .., "rejected": ..}')
    return PairsFile(pairs, _corpus(pairs, content, str(path)))


def _pair(line: bytes, source: str) -> Pair:
    try:
        row: Any = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadData(f"{source} is not UTF-8", hint="save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise BadData(f"{source} is not JSON: {error}", hint="it is torn, or not one object a line") from error
    if not isinstance(row, dict):
        raise BadData(f"{source} holds a {type(row).__name__}, not an object", hint=f"with {', '.join(KEYS)}")
    for key in KEYS:
        if key not in row:
            raise BadData(f"{source} has no `{key}`", hint=nearest(key, row) if row else f"it has {', '.join(KEYS)}")
        if not isinstance(row[key], str):
            raise BadData(f"{source} has a {type(row[key]).__name__} as `{key}`, not a text", hint="plain strings only")
    for key in KEYS[1:]:
        if not row[key].strip():
            raise BadData(f"{source} has an empty `{key}`", hint="both sides need a text")
    if row["chosen"] == row["rejected"]:
        raise BadData(f"{source} has the same text on both sides", hint="a preference needs two different responses")
    return Pair(row["prompt"], row["chosen"], row["rejected"], str(row.get("kind", KIND)), True, source)


def _corpus(pairs: tuple[Pair, ...], content: bytes, name: str) -> str:
    """The better texts as a corpus on disk, which everything that reads text can read."""
    key = hashlib.blake2b(content, digest_size=16).hexdigest()
    folder = home() / "pairs" / key

    def build(draft: Path) -> dict[str, Any]:
        texts = [(pair.prompt + pair.chosen).strip() for pair in pairs]
        (draft / "chosen.txt").write_text(f"\n{END}\n".join(texts) + "\n", encoding="utf-8")
        return {"pairs": len(pairs)}

    cached(folder, build, name=name, needs=lambda: float(len(content)))
    return f"endoftext:{folder / 'chosen.txt'}"
