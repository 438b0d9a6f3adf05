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
    assert dir(picolab) == ["__version__", "diagnose", "diff", "generate", "load", "record"]
    assert str(inspect.signature(picolab.load)) == (
        "(reference: 'str | Path', *, tokenizer: 'str | None' = None, seed: 'int' = 0, dtype: 'str' = 'float32', **settings: 'Any')"
        " -> 'LanguageModel'"
    )
    assert list(inspect.signature(picolab.generate).parameters) == [
        "model", "prompt", "tokenizer", "max_new_tokens", "temperature", "top_k", "top_p", "min_p",
        "repetition_penalty", "stop", "ignore_eot", "chat", "system", "speculate", "compiled", "seed",
    ]  # fmt: skip
    assert list(inspect.signature(picolab.record).parameters) == ["model", "sites", "gradients", "keep"]
    for name in ("load", "generate", "record", "diagnose", "diff"):
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


def test_a_pass_is_recorded():
    model = picolab.load("softmax-pico", vocab_size=300)
    with picolab.record(model, "blocks.*.probs") as recording:
        model(torch.tensor([[5, 17, 200]]))
    assert list(recording) == ["blocks.0.attention.probs", "blocks.1.attention.probs"]
    assert recording["blocks.1.attention.probs"].shape == (1, 2, 3, 3)


def test_without_a_tokenizer_there_is_no_text():
    model = picolab.load("softmax-pico", vocab_size=300)
    with pytest.raises(BadInput, match="the model has no tokenizer"):
        picolab.generate(model, "Once")
    written = picolab.generate(model, [5, 17, 200], max_new_tokens=3)
    assert len(written.split(",")) == 3
    assert written == picolab.generate(model, [5, 17, 200], max_new_tokens=3, speculate=4)


def test_a_conversation_goes_through_the_models_template():
    model = picolab.load("softmax-pico", seed=1)
    with pytest.raises(BadInput, match="the model has no chat template"):
        picolab.generate(model, "Hello", chat=True)
    with pytest.raises(BadInput, match="`system` is for models that converse"):
        picolab.generate(model, "Hello", system="Be brief")
    model.tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    eot = model.tokenizer.eot
    said = picolab.generate(model, "Hello", chat=True, system="Be brief", max_new_tokens=5, ignore_eot=True)
    ids = [*b"system: Be brief", eot, *b"user: Hello", eot]
    assert said == picolab.generate(model, ids, max_new_tokens=5, ignore_eot=True)
