"""What did the frozen reference say? The log-probability of every response, computed once and kept on disk.

    model, tokenizer, pairs -> their hashes -> $PICOLAB_HOME/references/<key>/logps.npy        there already: read it

The reference never changes and neither do the pairs, so a second run, a resumed one and a search over beta need no reference in
memory. The key is made of the weights themselves: another model under the same name is another reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from picolab.data.cache import cached, home, key_of
from picolab.data.pairs import TokenPair, batch_of
from picolab.data.preferences import fingerprint
from picolab.models.contract import LanguageModel
from picolab.objectives.dpo import response_logps
from picolab.zoo import settings_of

FORMAT = 1
AT_ONCE = 16
"""Pairs in one pass."""


def reference_logps(
    model: LanguageModel, pairs: Sequence[TokenPair], *, fill: int, key: str, device: torch.device | str = "cpu"
) -> Float[Tensor, "pairs 2"]:
    """ln p(response | prompt) of both sides of every pair under the reference, from the cache where it has been computed before.

    `key` is `identity(model, ..)`: hashing the weights is not done twice for two sets of pairs.
    """
    folder = home() / "references" / key_of({"format": FORMAT, "model": key, "pairs": fingerprint(pairs)})

    def build(draft: Path) -> dict[str, Any]:
        model.to(device)
        np.save(draft / "logps.npy", logps_of(model, pairs, fill=fill).cpu().numpy())
        return {"pairs": len(pairs)}

    cached(folder, build, name="the reference's log-probabilities", needs=lambda: 8.0 * len(pairs))
    return torch.from_numpy(np.load(folder / "logps.npy"))


def logps_of(model: LanguageModel, pairs: Sequence[TokenPair], *, fill: int) -> Float[Tensor, "pairs 2"]:
    """The same, computed now: pairs of similar length together, the model in evaluation mode and left as it came."""
    was_training = model.training
    model.train(False)
    found = torch.empty(len(pairs), 2)
    order = sorted(range(len(pairs)), key=lambda i: pairs[i].positions)
    try:
        with torch.no_grad():
            for some in _groups(order, AT_ONCE):
                batch = batch_of([pairs[i] for i in some], torch.zeros(len(some), 2), fill=fill)
                found[some] = response_logps(model, batch.to(model.device)).float().cpu()
    finally:
        model.train(was_training)
    return found


def identity(model: LanguageModel, tokenizer_fingerprint: str) -> str:
    """A hash of a model's architecture, every one of its numbers, and the tokenizer it reads with."""
    found = hashlib.blake2b(
        f"{model.architecture} {settings_of(model)} {tokenizer_fingerprint}".encode(), digest_size=16
    )
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return found.hexdigest()


def _groups(items: Sequence[int], size: int) -> Iterator[list[int]]:
    for begun in range(0, len(items), size):
        yield list(items[begun : begun + size])
