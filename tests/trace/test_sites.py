"""Places have names, axes and an order; the sizes of those axes are the model's settings."""

from __future__ import annotations

import pytest
import torch

from picolab.errors import BadInput, UnknownName
from picolab.trace.record import record
from picolab.trace.recording import axes
from picolab.trace.sites import SITES, chosen, dims_of, known, layer_of, sites_of
from picolab.zoo import create

from zoo_twins import TWINS, adversarial, some_tokens


@pytest.mark.parametrize("twin", TWINS)
def test_every_site_of_every_family_has_a_name_and_the_axes_it_says(twin):
    model = adversarial(twin)
    c = model.config
    with torch.no_grad(), record(model) as recording:
        model(some_tokens(2, 17))
    kv_heads = getattr(c, "n_kv_heads", 0) or getattr(c, "n_heads", 0)
    head_dim = getattr(c, "head_dim", 0) or getattr(c, "d_model", 0) // getattr(c, "n_heads", 1)
    sizes = {"batch": 2, "time": 17, "past": 17, "vocab": c.vocab_size, "heads": getattr(c, "n_heads", 0)}
    sizes |= {"kv_heads": kv_heads, "head_dim": head_dim, "attn_dim": head_dim * sizes["heads"]}
    sizes |= {"hidden": getattr(c, "hidden", 0), "d_ff": getattr(c, "d_ff", getattr(c, "hidden", 0))}
    sizes |= {"d_model": model.input.width if hasattr(model, "input") else c.d_model}
    assert recording.sites == list(sites_of(model))
    for site, value in recording.items():
        assert known(site) is not None and axes(site, value) == dims_of(site)
        assert tuple(value.shape) == tuple(sizes[axis] for axis in dims_of(site).split()), site
    layers = [layer_of(site) for site in recording if layer_of(site) is not None]
    assert layers == sorted(layers) and set(layers) == set(range(len(model.blocks)))


def test_the_sites_of_a_decoder_come_in_the_order_of_computation():
    names = [
        site.removeprefix("blocks.0.")
        for site in sites_of(adversarial("qwen3"))
        if not site.startswith(("blocks.1", "blocks.2"))
    ]
    table = [name.removeprefix("blocks.{i}.") for name in SITES]
    assert names == [name for name in table if name in names]
    assert {"q_norm", "k_rope", "scores", "probs", "mixed", "out"} <= {
        name.removeprefix("attention.") for name in names
    }


def test_a_gradient_and_a_second_visit_have_the_axes_of_the_value():
    assert (
        dims_of("grad/blocks.12.attention.k_rope")
        == dims_of("blocks.0.attention.k_rope")
        == "batch time kv_heads head_dim"
    )
    assert dims_of("blocks.3.resid_post#2") == "batch time d_model"
    assert layer_of("grad/blocks.12.mlp.up") == 12 and layer_of("logits") is None
    assert known("transformer.h.0.mlp") is None and known("blocks.x.resid_mid") is None


def test_patterns_choose_sites_and_one_that_chooses_none_is_refused():
    names = sites_of(adversarial("llama"))
    wanted = chosen(["blocks.[02].attention.?", "grad/embed"], names)
    assert [site for site in names if wanted(site)] == [
        "embed",
        *(f"blocks.{i}.attention.{x}" for i in (0, 2) for x in "qkv"),
    ]
    with pytest.raises(UnknownName, match="no site of this model is called `blocks.0.attention.q_norm`"):
        chosen("blocks.0.attention.q_norm", names)  # a llama norms no queries


def test_a_model_that_counts_has_no_sites():
    with pytest.raises(BadInput, match=r"a model that counts \(`ngram`\) computes nothing"):
        sites_of(create("ngram", vocab_size=31))
