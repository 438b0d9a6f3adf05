"""Which rotation does a config.json ask for? transformers writes it in three ways; only what is computed here is read.

"rope_theta": 10000.0, "rope_scaling": {"type": "yarn", ..}                    old
"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", ..}            transformers 4
"rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, ..}         transformers 5
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from picolab.errors import BadCheckpoint, BadInput
from picolab.parts.rope import RopeScaling

LLAMA3 = {
    "factor": "factor",
    "original_context_length": "original_max_position_embeddings",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
}
YARN = {
    "factor": "factor",
    "original_context_length": "original_max_position_embeddings",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
    "attention_factor": "attention_factor",
    "truncate": "truncate",
}
TABLES = {"llama3": LLAMA3, "yarn": YARN}
"""Our names of what a scaling says, and transformers'."""

OF_ANY_KIND = {"rope_type", "type", "rope_theta", "original_max_position_embeddings"}


def rope_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` as a config.json gives them; what it does not give is not in the result."""
    found: dict[str, Any] = {}
    if config.get("rope_theta") is not None:
        found["rope_theta"] = config["rope_theta"]
    # The order of transformers: an old spelling beside a new one wins.
    key = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
    said = config.get(key)
    if not said:
        return found
    if not isinstance(said, Mapping):
        raise BadCheckpoint(f"config.json sets `{key}` to {said!r}, not to settings")
    if said.get("rope_theta") is not None:
        found["rope_theta"] = said["rope_theta"]
    kind = said.get("rope_type", said.get("type", "default"))
    if kind == "default":
        _refuse_others(key, said, set())
        return found
    if kind not in TABLES:
        raise BadCheckpoint(
            f"config.json sets `{key}` to rope type {kind!r}, which is not computed here",
            hint="computed are: default, llama3, yarn",
        )
    try:
        found["rope_scaling"] = _scaling(kind, said, config, key)
    except BadInput as error:
        raise BadCheckpoint(f"config.json, `{key}`: {error}", hint=error.hint) from error
    return found


def rope_config(theta: float, scaling: RopeScaling | None) -> dict[str, Any]:
    """What transformers calls it: `rope_parameters` for 5, and the keys 4 reads."""
    if scaling is None:
        return {"rope_theta": theta, "rope_parameters": {"rope_type": "default", "rope_theta": theta}}
    if scaling.kind not in TABLES:
        raise BadInput(
            f"transformers has no rope scaling of kind `{scaling.kind}`", hint="a GGUF file can hold this model"
        )
    said = {theirs: getattr(scaling, ours) for ours, theirs in TABLES[scaling.kind].items()}
    if not said.get("attention_factor", 1.0):
        del said["attention_factor"]
    said = {"rope_type": scaling.kind, **said}
    return {"rope_theta": theta, "rope_scaling": said, "rope_parameters": {**said, "rope_theta": theta}}


def _scaling(kind: str, said: Mapping[str, Any], config: Mapping[str, Any], key: str) -> RopeScaling:
    table = TABLES[kind]
    extra = {"mscale", "mscale_all_dim"} if kind == "yarn" else set()
    _refuse_others(key, said, {*table.values(), *extra})
    fields = {ours: said[theirs] for ours, theirs in table.items() if said.get(theirs) is not None}
    fields.setdefault("original_context_length", config.get("max_position_embeddings"))
    if config.get("original_max_position_embeddings") is not None:
        fields["original_context_length"] = config["original_max_position_embeddings"]
    if "factor" not in fields:
        raise BadCheckpoint(f"config.json gives no `factor` for the rope type {kind!r} of `{key}`")
    if "attention_factor" not in fields and said.get("mscale") and said.get("mscale_all_dim"):
        fields["attention_factor"] = _sharpening(fields["factor"], said["mscale"]) / _sharpening(
            fields["factor"], said["mscale_all_dim"]
        )
    return RopeScaling.of({"kind": kind, **fields})


def _sharpening(factor: float, weight: float) -> float:
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in (factor, weight)):
        raise BadCheckpoint(f"config.json sharpens attention by {weight!r} for a factor of {factor!r}")
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def _refuse_others(key: str, said: Mapping[str, Any], known: set[str]) -> None:
    for name, value in said.items():
        neutral = value is None or (name == "partial_rotary_factor" and value == 1)
        if name not in known | OF_ANY_KIND and not neutral:
            raise BadCheckpoint(f"config.json sets `{name}` in `{key}` to {value!r}, which is not computed here")
