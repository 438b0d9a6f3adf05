"""A step reads on exactly as the model does, compiled or not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.parts.cache import KeyValueCache
from picolab.sample.compiled import MOST_ROWS, Step, compiled_step, product

from zoo_twins import CONTEXT, TWINS, adversarial, some_tokens

STATEFUL = ("kgram-onehot", "kgram-embed", "kgram-conv", "lstm", "linear", "linear gated")
ATTENTION = [name for name in TWINS if name not in STATEFUL]
PROMPT = 3


@torch.inference_mode()
def plainly(model: LanguageModel, tokens: torch.Tensor) -> list[torch.Tensor]:
    """The model's own logits from the prompt's last token on: one pass over the whole text, no cache, no step."""
    return list(model(tokens)[:, PROMPT - 1 :].unbind(1))


def in_steps(step: Step, tokens: torch.Tensor) -> list[torch.Tensor]:
    return [step.read(tokens[:, :PROMPT])] + [step(one) for one in tokens[:, PROMPT:].split(1, dim=1)]


def furthest(got: list[torch.Tensor], want: list[torch.Tensor]) -> float:
    """The largest difference relative to the largest logit of the same position."""
    assert len(got) == len(want)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", ATTENTION)
def test_a_step_says_what_the_model_says_about_the_whole_text(name, batch):
    model, tokens = adversarial(name), some_tokens(batch, CONTEXT)
    step = Step(model, batch, CONTEXT, compiled=False)
    assert furthest(in_steps(step, tokens), plainly(model, tokens)) < 1e-5


COMPILED = """
import sys
import torch
torch.set_num_threads(1)
from picolab.errors import BadInput
from picolab.parts.tap import listening
from picolab.sample import compiled
from test_compiled import CONTEXT, PROMPT, adversarial, furthest, in_steps, plainly, some_tokens

names, as_traced = sys.argv[2:], sys.argv[1] == "as traced"
if as_traced:
    try:
        compiled.compiled_step(adversarial("gpt2"), 1, CONTEXT)
    except BadInput as error:
        assert "C++ compiler, and none is here" in str(error) and "leave `compiled` out" in error.hint
    else:
        raise AssertionError("something was compiled without a compiler")
    # What the compiler would be given, run as it is.
    import torch._inductor.compile_fx as inductor
    inductor.compile_fx = lambda graph, inputs, **_: graph.forward
for name in names:
    model, tokens = adversarial(name), some_tokens(2, CONTEXT)
    step, want = compiled.compiled_step(model, 2, CONTEXT), plainly(model, tokens)
    assert step._decode is not compiled._decode
    for text in ("first", "second, which sees nothing of the first"):
        far = furthest(in_steps(step, tokens if text == "first" else tokens.int()), want)
        assert far < 1e-5, (name, text, far)
        step.clear()
    far = furthest([step(tokens[:, :1])], [model(tokens[:, :1])[:, 0].detach()])
    assert far < 1e-5, ("a text that begins with a step", name, far)
    seen = []
    with listening(model, lambda site, value: seen.append(site)):
        step(tokens[:, 1:2])
    assert "blocks.0.attention.probs" in seen, "whoever listens hears a compiled model too"
    model.to(torch.bfloat16)
    try:
        step.read(tokens[:, 2:4])
    except BadInput as error:
        assert "of another type" in str(error)
    else:
        raise AssertionError("weights of another type were read as those it was compiled for")
print("all of", *names)
"""


def compiled_elsewhere(how: str, *names: str) -> str:
    """In a process where no type checker stands in the compiler's way."""
    here = Path(__file__).parent
    places = [str(here), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    missing = {"CXX": "/no/such/compiler"} if how == "as traced" else {}
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, how, *names],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1", **missing},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
def test_a_compiled_step_says_what_the_model_says():
    """With windows, sinks, rotary positions and grouped heads."""
    assert compiled_elsewhere("compiled", "gpt_oss") == "all of gpt_oss\n"


def test_what_is_compiled_says_what_the_model_says_and_a_machine_without_a_compiler_is_told_so():
    """Other ways of attending and of knowing positions, without the time a C++ compiler takes."""
    names = ("gpt2", "qwen3", "mistral", "nanochat")
    assert compiled_elsewhere("as traced", *names) == f"all of {' '.join(names)}\n"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 2, 3, 9])
def test_a_product_as_sums_is_the_product(dtype, rows):
    generator = torch.Generator().manual_seed(rows)
    x, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in [(rows, 1, 67), (31, 67), (31,)]
    )
    want = x.double() @ weight.double().T + bias.double()
    got = product(x, weight, bias)
    assert got.dtype == dtype and got.shape == (rows, 1, 31)
    assert float((got.double() - want).abs().max() / want.abs().max()) < (1e-6 if dtype == torch.float32 else 4e-3)
    assert rows <= MOST_ROWS[dtype] or torch.equal(got, torch.nn.functional.linear(x, weight, bias))


@pytest.mark.parametrize("name", ["llama", "gpt_oss"])
def test_bfloat16_weights_stay_within_their_rounding(name):
    model = adversarial(name).to(torch.bfloat16)
    tokens = some_tokens(2, CONTEXT)
    step = Step(model, 2, CONTEXT, compiled=False)
    wide = adversarial(name).to(torch.bfloat16).float()  # the same weights, computed with in float32
    want = plainly(wide, tokens)
    own = furthest([x.float() for x in plainly(model, tokens)], want)
    assert furthest([x.float() for x in in_steps(step, tokens)], want) < 1.5 * own


def test_a_prompt_may_be_read_in_pieces():
    model, tokens = adversarial("mistral"), some_tokens(2, CONTEXT)
    step = Step(model, 2, CONTEXT, compiled=False)
    pieces = [step.read(tokens[:, a:b]) for a, b in [(0, 1), (1, 9), (9, 10), (10, CONTEXT)]]
    whole = plainly(model, tokens)
    assert furthest(pieces[2:], [whole[9 - PROMPT + 1], whole[-1]]) < 1e-5


def test_the_memory_is_one_and_is_not_moved():
    model = adversarial("llama")
    step = Step(model, 1, CONTEXT, compiled=False)
    places = [x.data_ptr() for x in [*step._keys, *step._values]]
    weights = [p.data_ptr() for p in model.parameters()]
    in_steps(step, some_tokens(1, CONTEXT))
    assert places == [x.data_ptr() for x in [*step._keys, *step._values]]
    assert weights == [p.data_ptr() for p in model.parameters()]


def test_the_models_mode_is_left_as_it_was():
    model = adversarial("gpt2").train()
    step = Step(model, 1, CONTEXT, compiled=False)
    in_steps(step, some_tokens(1, 6))
    assert model.training


def test_what_does_not_fit_is_refused():
    model = adversarial("llama")
    step = Step(model, 2, 5, compiled=False)
    with pytest.raises(BadInput, match="reads 2 rows, not 1"):
        step.read(some_tokens(1, 3))
    with pytest.raises(BadInput, match="holds 5 positions and 6 are needed"):
        step.read(some_tokens(2, 6))
    step.read(some_tokens(2, 5))
    with pytest.raises(BadInput, match="holds 5 positions and 6 are needed"):
        step(some_tokens(2, 1))
    with pytest.raises(BadInput, match="one token a row, not 2"):
        step(some_tokens(2, 2))
    with pytest.raises(BadInput, match=f"holds {CONTEXT} positions and {CONTEXT + 1} are needed"):
        Step(model, 1, 1000, compiled=False).read(torch.zeros(1, CONTEXT + 1, dtype=torch.int64))


@pytest.mark.parametrize("name", STATEFUL)
def test_a_model_without_keys_and_values_has_no_step(name):
    assert not isinstance(adversarial(name).new_cache(1, 1), KeyValueCache)
    with pytest.raises(BadInput, match="cannot be compiled"):
        compiled_step(adversarial(name), 1, 4)
