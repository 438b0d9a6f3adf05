"""What llama-eval-callback printed of a model is found in the recording of the same model here.

The texts in printed/ were made by that tool's own printing code (common/debug.cpp of the llama.cpp in llama-cpp-python 0.3.36) over
`waves(..)` written by `write_gguf` with the byte tokenizer, flash attention off, cache in float32. Of the log above the tensors
only the lines that are read here were kept.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from picolab.errors import BadData
from picolab.trace.engines.eval_callback import read_eval_callback
from picolab.trace.engines.here import Here
from picolab.zoo import build

PRINTED = Path(__file__).parent / "printed"
DECIMALS = 5.1e-5
MODELS = {"llama": {"n_kv_heads": 1, "rope_theta": 137.0, "norm_eps": 3e-4}, "gpt2": {}}
CLOSE = {"llama": DECIMALS, "gpt2": 6e-3}
"""Four decimals are printed; GPT-2's GELU is a table in half precision there."""


def waves(architecture: str):
    """A model whose weights are sines, so that it can be made again anywhere."""
    sizes = {"vocab_size": 257, "context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 20}
    model = build(architecture, {**sizes, **MODELS[architecture]}).eval()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            steps = torch.arange(parameter.numel(), dtype=torch.float64)
            wave = torch.sin(steps * (0.7 + 0.31 * number) + number).float().view_as(parameter)
            parameter.copy_(1 + 0.5 * wave if parameter.ndim == 1 else 1.3 * wave * parameter.shape[-1] ** -0.5)
    return model


def recorded(architecture: str, tokens):
    seen = {}
    engine = Here(waves(architecture))
    with engine.watching(seen.__setitem__, lambda site: True):
        engine.read(tokens)
    return seen


@pytest.mark.parametrize("architecture", MODELS)
def test_every_site_is_there_with_its_numbers_its_sum_and_its_shape(architecture):
    printout = read_eval_callback(PRINTED / f"{architecture}.txt")
    assert printout.tokens == (256, *b"the cat")
    ours, theirs = recorded(architecture, printout.tokens), printout.sites()
    assert ours.keys() == theirs.keys()
    for site, printed in theirs.items():
        picked = printed.picked(ours[site])
        assert picked.shape == printed.values.shape
        assert (picked - printed.values).abs().max() < CLOSE[architecture], site
        assert abs(printed.summed(ours[site]) - printed.sum) < 20 * CLOSE[architecture], site
        time = printed.dims.split().index("time")
        expected = list(ours[site].shape)
        expected[time] = len(printed.positions)
        assert printed.shape == tuple(expected), site


def test_the_last_block_ends_with_the_last_token_only():
    sites = read_eval_callback(PRINTED / "llama.txt").sites()
    assert sites["blocks.0.attention.mixed"].positions == tuple(range(8))
    assert sites["blocks.0.resid_mid"].positions == sites["logits"].positions == (7,)
    assert sites["logits"].shape == (1, 1, 257) and sites["logits"].shown[2] == (0, 1, 2, 254, 255, 256)


def test_another_model_is_found_to_be_another():
    printout = read_eval_callback(PRINTED / "llama.txt")
    ours = recorded("llama", printout.tokens[::-1])
    printed = printout.sites()["blocks.0.resid_post"]
    assert (printed.picked(ours["blocks.0.resid_post"]) - printed.values).abs().max() > 0.1


def test_lanes_of_a_query_are_those_of_halves():
    query = read_eval_callback(PRINTED / "llama.txt").sites()["blocks.0.attention.q"]
    assert query.shape == (1, 8, 2, 8)
    assert query.shown[3] == (0, 4, 1, 6, 3, 7)  # printed are lanes 0 1 2 5 6 7 of 0 4 1 5 2 6 3 7


def test_what_is_no_canonical_place_keeps_its_name():
    tensors = {tensor.name: tensor for tensor in read_eval_callback(PRINTED / "llama.txt").tensors}
    other = tensors["kqv-0 (permuted)"]
    assert (other.site, other.dims, other.op, other.shape) == (None, None, "PERMUTE", (1, 8, 2, 8))


def test_without_the_log_nothing_is_said_about_lanes(tmp_path):
    text = (PRINTED / "llama.txt").read_text()
    (tmp_path / "x.txt").write_text(text[text.index("common_debug_cb_eval") :])
    printout = read_eval_callback(tmp_path / "x.txt")
    assert printout.tokens == ()
    gone = read_eval_callback(PRINTED / "llama.txt").sites().keys() - printout.sites().keys()
    assert gone == {f"blocks.0.attention.{place}" for place in ("q", "k", "q_rope", "k_rope")}


def test_the_words_of_earlier_versions_are_understood(tmp_path):
    text = (PRINTED / "gpt2.txt").read_text().replace("common_debug_cb_eval:", "ggml_debug:")
    (tmp_path / "x.txt").write_text(text)
    assert (
        read_eval_callback(tmp_path / "x.txt").sites().keys() == read_eval_callback(PRINTED / "gpt2.txt").sites().keys()
    )


def test_a_text_that_is_something_else_is_refused(tmp_path):
    (tmp_path / "x.txt").write_text("Once upon a time\n")
    with pytest.raises(BadData, match="holds no tensor"):
        read_eval_callback(tmp_path / "x.txt")
    with pytest.raises(BadData, match="cannot be read"):
        read_eval_callback(tmp_path / "nothing.txt")


def test_a_torn_text_is_refused_with_its_line(tmp_path):
    lines = (PRINTED / "gpt2.txt").read_text().splitlines()
    (tmp_path / "x.txt").write_text("\n".join(lines[:97]))
    with pytest.raises(BadData, match=r"line 90 of .*: `\S+` shows 24 numbers .* of which 36 and a sum are printed"):
        read_eval_callback(tmp_path / "x.txt")
    (tmp_path / "x.txt").write_text("\n".join([*lines[:40], *lines[41:]]))
    with pytest.raises(BadData, match=r"line \d+ of"):
        read_eval_callback(tmp_path / "x.txt")
