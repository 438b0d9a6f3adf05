"""A model in Hugging Face's words and back: config keys and tensor names, from the table that ends each model's file.

    ours                                theirs (llama)
    d_model                        <->  hidden_size
    blocks.3.attention.q_proj.weight    model.layers.3.self_attn.q_proj.weight

Architectures that transformers does not know keep our own names under `model_type: picolab-<architecture>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from picolab.errors import BadCheckpoint, UnknownName
from picolab.models.contract import HuggingFace, LanguageModel
from picolab.weights.filling import hollow, pour
from picolab.weights.kept import Form, keep
from picolab.weights.rope import rope_config, rope_settings
from picolab.zoo import ARCHITECTURES, build, settings_of

OWN = "picolab-"
"""What opens `model_type` for architectures that only picolab knows."""

NOT_COMPUTED = {"quantization_config": None, "partial_rotary_factor": 1.0, "attn_logit_softcapping": None}
"""Keys that change the numbers of a model and are in no architecture's table, with the value that changes nothing."""


def config_of(model: LanguageModel) -> dict[str, Any]:
    """The config.json of a model; transformers opens it where it knows the architecture."""
    settings, table = settings_of(model), model.hugging_face
    ours = {"architecture": model.architecture, "settings": settings}
    if table is None:
        return {"model_type": OWN + model.architecture, "vocab_size": settings["vocab_size"], "picolab": ours}
    config: dict[str, Any] = {"model_type": table.model_type, "architectures": [table.class_name], **table.fixed}
    for name, theirs in table.settings.items():
        is_null = name in table.nulls and settings[name] == table.nulls[name]
        if not is_null:
            config[theirs] = settings[name]
        elif table.layer_types is None:  # else those say it, and transformers wants a number here or nothing
            config[theirs] = None
    if "rope_theta" in table.settings:
        config |= rope_config(settings["rope_theta"], getattr(model.config, "rope_scaling", None))
    if table.layer_types is not None:
        config["layer_types"] = table.layer_types(settings)
    return {**config, "dtype": "float32", "picolab": ours}


def tensors_of(model: LanguageModel) -> dict[str, Tensor]:
    """Every tensor of a model under the name its config announces; a tied head is left out, as transformers does."""
    state, table = dict(model.state_dict()), model.hugging_face
    if settings_of(model).get("tied") and "embedding.weight" in state:
        state.pop("head.weight")
    if table is None:
        return {name: tensor.contiguous() for name, tensor in state.items()}
    named = {}
    for name, tensor in state.items():
        theirs, transposed = translate(table, name)
        named[theirs] = (tensor.T if transposed else tensor).contiguous()
    named |= {name: torch.zeros(shape) for name, shape in _missing_biases(model)}
    return table.pack(named, settings_of(model))


def build_from(config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, source: str) -> LanguageModel:
    """A model with the settings of a config.json, for `fill` with these tensors: without memory where transformers knows its
    architecture, and in no case larger than they are."""
    architecture, settings = described(config, source)
    table = ARCHITECTURES[architecture].model.hugging_face
    layers = settings.get("n_layers", 0)
    if isinstance(layers, int) and layers > len(tensors):  # before each is built
        raise BadCheckpoint(f"`{source}` describes {layers} layers, and the weights are {len(tensors)} tensors")
    if table is not None and isinstance(layers, int):
        held = _with_base(tensors, table)
        for pattern in (theirs for ours, theirs in table.tensors.items() if ours.endswith("weight")):
            lost = next((name for i in range(layers) if (name := pattern.replace("{i}", str(i))) not in held), None)
            if lost is not None and pattern != table.tensors["head.weight"]:
                raise BadCheckpoint(f"`{source}` describes {layers} layers, and `{lost}` is missing")
    model = hollow(architecture, settings, source=source)
    if table is not None:
        return model
    if sum(parameter.numel() for parameter in model.parameters()) > sum(tensor.numel() for tensor in tensors.values()):
        raise BadCheckpoint(f"`{source}` describes a model larger than its weights")
    return build(architecture, settings).eval()


def described(config: Mapping[str, Any], source: str) -> tuple[str, dict[str, Any]]:
    """Architecture and settings: our own record of them where there is one, else read off transformers' keys."""
    ours = config.get("picolab")
    if ours is None:
        architecture, table = _table_of(config)
        return architecture, _settings_from(config, architecture, table)
    known = isinstance(ours, Mapping) and ours.get("architecture") in ARCHITECTURES
    if not known or not isinstance(ours.get("settings"), Mapping):
        raise BadCheckpoint(f"`{source}` names no architecture picolab knows", hint="was it edited by hand?")
    return ours["architecture"], dict(ours["settings"])


def _with_base(tensors: Mapping[str, Tensor], table: HuggingFace) -> dict[str, Tensor]:
    """The tensors under the names of the whole model, one for each of ours; some files are saved from a model without head."""
    base = table.tensors["embedding.weight"].split(".")[0] + "."
    head = table.tensors["head.weight"]
    if any(theirs.startswith(base) for theirs in tensors):
        return table.unpack(dict(tensors))
    return table.unpack({theirs if theirs == head else base + theirs: tensor for theirs, tensor in tensors.items()})


def _table_of(config: Mapping[str, Any]) -> tuple[str, HuggingFace]:
    kind = str(config.get("model_type"))
    tables = {
        entry.model.hugging_face.model_type: (name, entry.model.hugging_face)
        for name, entry in ARCHITECTURES.items()
        if entry.model.hugging_face is not None
    }
    if kind not in tables:
        raise UnknownName("model type", kind, tables)
    return tables[kind]


def _settings_from(config: Mapping[str, Any], architecture: str, table: HuggingFace) -> dict[str, Any]:
    """Our settings for their config; what it does not say is what transformers assumes."""
    config = {
        **table.assumed,
        **{key: value for key, value in config.items() if not (value is None and key in table.assumed)},
    }
    for key, value in table.fixed.items():
        if key != "rope_scaling" and config.get(key, value) != value:
            raise BadCheckpoint(f"config.json sets `{key}` to {config[key]!r}, and only {value!r} is computed here")
    for key, neutral in NOT_COMPUTED.items():
        if config.get(key) not in (None, neutral):
            raise BadCheckpoint(f"config.json sets `{key}` to {config[key]!r}, which is not computed here")
    found: dict[str, Any] = {}
    for name, theirs in table.settings.items():
        value = config.get(theirs)
        if value is None and theirs in config and name in table.nulls:
            value = table.nulls[name]
        if value is None and name in table.defaults:
            value = table.defaults[name]
            value = value(config) if callable(value) else value
        if value is None and name != "rope_theta":
            raise BadCheckpoint(f"config.json does not say `{theirs}`", hint="it is torn, or of a newer transformers")
        found[name] = value
    found |= _layer_types(config, table, found)
    if "rope_theta" in table.settings:
        found |= rope_settings(config)
        if "rope_scaling" in found and "rope_scaling" not in {
            f.name for f in fields(ARCHITECTURES[architecture].config)
        }:
            raise BadCheckpoint(f"config.json sets `rope_scaling`, which is not computed for {architecture}")
    return found


def _layer_types(config: Mapping[str, Any], table: HuggingFace, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the kinds of the layers say, which must be computed here in their order; a config need not give them."""
    said = config.get("layer_types")
    if not isinstance(said, list):
        return {}
    known = all(kind == "full_attention" for kind in said)
    changed: dict[str, Any] = {}
    if table.layer_types is not None:
        changed = {"window": 0} if known else {}  # a window through which no layer looks
        # As long as the list in the file, whatever number of layers it claims.
        known = len(said) == settings["n_layers"] and said == table.layer_types({**settings, **changed})
    if not known:
        raise BadCheckpoint(
            f"config.json sets `layer_types` to {said[:4]!r} .., and layers of these kinds are not computed here"
        )
    return changed


def fill(model: LanguageModel, tensors: Mapping[str, Tensor], *, source: str, dtype: Form = "float32") -> None:
    """Put every tensor into the one parameter it belongs to; nothing left over, nothing left unfilled."""
    table = model.hugging_face
    if table is None:
        _fill_ours(model, tensors, source)
        keep(model, dtype, tensors)
        return
    called = {name: translate(table, name) for name in model.state_dict()}
    expected = {theirs: (name, transposed) for name, (theirs, transposed) in called.items()}
    tensors = _with_base(tensors, table)
    zeros = dict(_missing_biases(model))
    state: dict[str, Tensor] = {}
    for theirs, tensor in tensors.items():
        pattern = re.sub(r"\.\d+\.", ".{i}.", theirs, count=1)
        if theirs in zeros:
            if tensor.any():
                raise BadCheckpoint(f"{source}: `{theirs}` is not zero, and this model has no such bias")
        elif theirs in expected:
            name, transposed = expected[theirs]
            state[name] = tensor.T if transposed and tensor.ndim == 2 else tensor
        elif pattern in table.absent:
            if not (tensor == table.absent[pattern]).all():
                raise BadCheckpoint(f"{source}: `{theirs}` holds numbers, and this model was built without it")
        elif pattern not in table.ignored:
            raise BadCheckpoint(f"{source}: tensor `{theirs}` belongs to nothing in this {model.architecture}")
    pour(model, state, source=source, dtype=dtype, spoken=lambda name: called[name][0] if name in called else name)


def _fill_ours(model: LanguageModel, tensors: Mapping[str, Tensor], source: str) -> None:
    """A model that only picolab knows: names are its own, and its buffers may have sizes that only the file knows."""
    state, wanted = dict(tensors), model.state_dict()
    if settings_of(model).get("tied") and "embedding.weight" in state:
        state.setdefault("head.weight", state["embedding.weight"])
        if not torch.equal(state["head.weight"], state["embedding.weight"]):
            raise BadCheckpoint(f"{source}: head and embedding differ, and the settings say they are tied")
    for theirs in state:
        if theirs not in wanted:
            raise BadCheckpoint(f"{source}: tensor `{theirs}` belongs to nothing in this {model.architecture}")
    missing = sorted(name for name in wanted if name not in state)
    if missing:
        raise BadCheckpoint(f"{source}: `{missing[0]}` is missing, and {len(missing) - 1} more")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise BadCheckpoint(f"{source}: {str(error).splitlines()[-1].strip()}") from error


def translate(table: HuggingFace, name: str) -> tuple[str, bool]:
    """Their name of one of our tensors, and whether they store it the other way round."""
    layer = re.search(r"\.(\d+)\.", name)
    pattern = name if layer is None else name.replace(layer[0], ".{i}.", 1)
    theirs = table.tensors[pattern]
    return (theirs if layer is None else theirs.replace("{i}", layer[1])), pattern in table.transposed


def _missing_biases(model: LanguageModel) -> Iterator[tuple[str, tuple[int]]]:
    """Biases that transformers' architecture has and this model was built without: zeros in the file."""
    state = model.state_dict()
    for name, tensor in state.items():
        bias = name.removesuffix("weight") + "bias"
        if model.hugging_face is None or not name.endswith("weight") or bias in state:
            continue
        theirs, transposed = translate(model.hugging_face, name)
        layerless = re.sub(r"\.\d+\.", ".{i}.", bias, count=1)
        if layerless in model.hugging_face.tensors:
            yield theirs.removesuffix("weight") + "bias", (tensor.shape[0],)
