"""Rotation in a config.json, in transformers' three spellings; what is not computed is refused by name."""

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from picolab.errors import BadCheckpoint
from picolab.parts.rope import RopeScaling, frequencies, magnitude
from picolab.weights.rope import rope_config, rope_settings

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize("theta", [137.0, 10000.0, 500000.0])
@pytest.mark.parametrize("head_dim", [10, 64, 128])
@pytest.mark.parametrize(
    "said",
    [
        LLAMA3,
        {
            **LLAMA3,
            "factor": 3.7,
            "low_freq_factor": 1.3,
            "high_freq_factor": 3.1,
            "original_max_position_embeddings": 19,
        },
        YARN,
        {**YARN, "factor": 2.9, "beta_fast": 5.3, "beta_slow": 0.7},
        {**YARN, "attention_factor": 1.37},
        {**YARN, "mscale": 1.3, "mscale_all_dim": 0.7},
        {**YARN, "mscale": 1.3},
        {**YARN, "truncate": False},
        {**YARN, "factor": 1.0},
        {**YARN, "original_max_position_embeddings": 8192},
    ],
)
def test_frequencies_are_those_of_transformers_to_the_last_bit(said, head_dim, theta):
    said = {**said, "rope_theta": theta}
    config = LlamaConfig(hidden_size=2 * head_dim, num_attention_heads=2, head_dim=head_dim, rope_parameters=dict(said))
    theirs, their_magnitude = ROPE_INIT_FUNCTIONS[said["rope_type"]](config, device=torch.device("cpu"))
    found = rope_settings({"rope_parameters": said, "max_position_embeddings": 2048})
    assert torch.equal(frequencies(head_dim, theta, found["rope_scaling"]), theirs)
    assert magnitude(found["rope_scaling"]) == pytest.approx(their_magnitude, rel=1e-12)


@pytest.mark.parametrize(
    "config",
    [
        {"rope_theta": 137.0, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}},
        {"rope_theta": 137.0, "rope_scaling": YARN},
        {"rope_parameters": {**YARN, "rope_theta": 137.0}},
        {"rope_theta": 137.0, "rope_scaling": {"type": "yarn", "factor": 4.0}, "max_position_embeddings": 64},
    ],
)
def test_the_three_spellings_say_the_same(config):
    scaling = RopeScaling(kind="yarn", factor=4.0, original_context_length=64)
    assert rope_settings(config) == {"rope_theta": 137.0, "rope_scaling": scaling}


@pytest.mark.parametrize("scaling", [None, RopeScaling(kind="llama3", factor=3.0, original_context_length=50)])
def test_what_is_said_is_read_again(scaling):
    found = rope_settings(rope_config(137.0, scaling))
    assert (found["rope_theta"], found.get("rope_scaling")) == (137.0, scaling)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, "`rope_scaling` to rope type 'dynamic', which is not computed here"),
        ({"type": "mrope", "mrope_section": [1]}, "rope type 'mrope'"),
        ({"rope_type": "default", "partial_rotary_factor": 0.5}, "`partial_rotary_factor` in `rope_scaling` to 0.5"),
        ({**YARN, "surprise": 1}, "`surprise` in `rope_scaling` to 1"),
        ({"rope_type": "yarn", "original_max_position_embeddings": 64}, "gives no `factor` for the rope type 'yarn'"),
        ({**YARN, "factor": "many"}, "`factor` of the rope scaling is 'many'"),
        ({**YARN, "factor": float("nan")}, "`factor` of the rope scaling is nan"),
        ({**LLAMA3, "low_freq_factor": 4.0}, "`low_freq_factor` 4.0 is not below `high_freq_factor` 4.0"),
        ("yarn", "`rope_scaling` to 'yarn', not to settings"),
    ],
)
def test_a_rotation_that_is_not_computed_is_refused_by_name(said, says):
    with pytest.raises(BadCheckpoint) as caught:
        rope_settings({"rope_theta": 137.0, "rope_scaling": said, "max_position_embeddings": 64})
    assert says in str(caught.value)
