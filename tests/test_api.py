"""The public surface: these names, documented, and nothing heavy before they are used."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import torch

import picolab
from picolab.errors import BadInput


def test_the_public_surface_is_this():
    assert dir(picolab) == ["__version__", "generate", "load"]
    assert str(inspect.signature(picolab.load)) == (
        "(reference: 'str | Path', *, tokenizer: 'str | None' = None, seed: 'int' = 0, **settings: 'Any')"
        " -> 'LanguageModel'"
    )
    assert list(inspect.signature(picolab.generate).parameters) == [
        "model", "prompt", "tokenizer", "max_new_tokens", "temperature", "top_k", "top_p", "min_p",
        "repetition_penalty", "stop", "seed",
    ]  # fmt: skip
    for name in ("load", "generate"):
        assert "Raises" in (getattr(picolab, name).__doc__ or "")


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'picolab' has no attribute 'lode'"):
        _ = picolab.lode


def test_importing_picolab_imports_nothing_heavy():
    script = "import sys, picolab; sys.exit(str({'torch', 'numpy', 'cyclopts'} & set(sys.modules) or '') or 0)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


def test_a_model_is_loaded_and_writes():
    model = picolab.load("softmax-pico", seed=1)
    assert model(torch.tensor([[5, 17]])).shape == (1, 2, model.config.vocab_size)
    text = picolab.generate(model, "Once upon a", top_p=0.95, seed=0, max_new_tokens=12)
    assert isinstance(text, str) and text
    assert text == picolab.generate(model, "Once upon a", top_p=0.95, seed=0, max_new_tokens=12)
    assert text != picolab.generate(model, "Once upon a", top_p=0.95, seed=1, max_new_tokens=12)


def test_without_a_tokenizer_there_is_no_text():
    model = picolab.load("softmax-pico", vocab_size=300)
    with pytest.raises(BadInput, match="the model has no tokenizer"):
        picolab.generate(model, "Once")
