"""The really trained 260,000-parameter Llama outside the checkout; tests that need it are skipped where it is not there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

STORIES = Path(os.environ.get("PICOLAB_SHARED") or "../shared") / "data" / "stories260K"

needs_stories = pytest.mark.skipif(
    not STORIES.is_dir(), reason=f"{STORIES} is not there; PICOLAB_SHARED names the folder that holds data/stories260K"
)


def reference():
    """Greedy ids, text and some logits, computed independently in float64."""
    return json.loads((STORIES / "reference_greedy.json").read_text(encoding="utf-8"))


@torch.inference_mode()
def greedy(model, count: int) -> list[int]:
    """The most likely token, again and again, from the opening token 1, one position at a time."""
    cache, ids = model.new_cache(1, count), [1]
    while len(ids) < count:
        ids.append(int(model(torch.tensor([[ids[-1]]]), cache=cache)[0, -1].argmax()))
    return ids
