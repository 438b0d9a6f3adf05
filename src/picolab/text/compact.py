"""Which tokens does a corpus use? Keep those: a vocabulary of hundreds in place of GPT-2's 50,257, with the same tokens.

    full       ..  464   ..  3797  ..  50256
    compact         0         1         2           ascending, without gaps; end-of-text and padding are always kept

Text is cut into the same tokens as before, and every compact id has its full id (`Tokenizer.keep`). Pairs are merged on the way
through tokens that need not be in the result ("Ġt" on the way to "Ġthe"), so the tokens not kept stay in the rules, numbered
from `vocab_size` upwards: a text that needs one of them is refused by name, and in transformers has an id outside the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from picolab.text.tokenizer import Tokenizer


def compact(tokenizer: Tokenizer, used_ids: Iterable[int] | npt.NDArray[np.integer[Any]]) -> Tokenizer:
    """The tokenizer with only the ids in use, renumbered; compact already, it becomes more so, and `keep` still holds full ids."""
    given = used_ids if isinstance(used_ids, np.ndarray) else np.fromiter((int(i) for i in used_ids), dtype=np.int64)
    control = [token for token in (tokenizer.eot, tokenizer.pad) if token is not None]
    used = np.union1d(given, np.asarray(control)).astype(np.int64)
    keep = tokenizer.to_full(used)  # refuses an id outside the vocabulary
    new_id = {int(old): new for new, old in enumerate(used)}
    description = json.loads(tokenizer.inner.to_str())
    renumber = _renumber_words if description["model"]["type"] == "WordLevel" else _renumber_pairs
    renumber(description, new_id)
    description["post_processor"] = None  # it could add control tokens by their old ids
    inner = tokenizers.Tokenizer.from_str(json.dumps(description))
    pad = None if tokenizer.pad is None else new_id[tokenizer.pad]
    return Tokenizer(inner, kind=tokenizer.kind, eot=new_id[tokenizer.eot], pad=pad, keep=keep.tolist())


def _renumber_words(description: dict[str, Any], new_id: dict[int, int]) -> None:
    """Words are found whole, so those not kept can go. Control tokens stay out of the words, or their letters would find them."""
    words = description["model"]["vocab"]
    description["model"]["vocab"] = {word: new_id[old] for word, old in words.items() if old in new_id}
    for added in description["added_tokens"]:
        added["id"] = new_id[added["id"]]


def _renumber_pairs(description: dict[str, Any], new_id: dict[int, int]) -> None:
    """All tokens stay, kept ones first. Control tokens join the vocabulary, which alone can give them an id in its midst."""
    added = description["added_tokens"]
    ids = description["model"]["vocab"] | {token["content"]: token["id"] for token in added}
    full = new_id | {old: len(new_id) + n for n, old in enumerate(sorted(set(ids.values()) - new_id.keys()))}
    renumbered = {token: full[old] for token, old in ids.items()}
    description["model"]["vocab"] = dict(sorted(renumbered.items(), key=lambda item: item[1]))
    for token in added:
        token["id"] = full[token["id"]]
    added.sort(key=lambda token: token["id"])
