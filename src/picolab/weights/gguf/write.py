"""A model to GGUF, such that llama.cpp and transformers open it: `write_gguf(model, tokenizer, path, kind="Q8_0")`.

Matrices take the type asked for. Norms, biases, learned positions and rope factors stay float32, as llama.cpp's own converters
keep them, and where rows are no multiple of Q8_0's blocks of 32, float16 takes its place: what is returned says which tensor
became what.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGUFValueType, GGUFWriter, LlamaFileType
from gguf import GGMLQuantizationType as Type
from gguf.quants import quantize
from torch import Tensor

from picolab.errors import BadInput, BadSetting, UnknownName
from picolab.models.contract import Gguf, LanguageModel
from picolab.parts.quantised import refuse_quantised
from picolab.parts.rope import RopeScaling, frequencies, magnitude
from picolab.text.tokenizer import Tokenizer
from picolab.weights.gguf.names import ROPE_FACTORS, SCALING, SCALING_KEYS, named
from picolab.weights.gguf.write_vocabulary import vocabulary_fields
from picolab.weights.row_order import to_pairs
from picolab.zoo import ARCHITECTURES, settings_of

KINDS = {
    "F32": (Type.F32, LlamaFileType.ALL_F32),
    "F16": (Type.F16, LlamaFileType.MOSTLY_F16),
    "BF16": (Type.BF16, LlamaFileType.MOSTLY_BF16),
    "Q8_0": (Type.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
"""What a file can be written as, and the number llama.cpp gives it."""

LARGEST = {Type.F16: 65504.0, Type.Q8_0: 127 * 65504.0}
"""What the half-precision numbers of a type can say: themselves, or the step of a block."""

NO_WORDS = {"tokenizer.ggml.model": "no_vocab"}
"""Without it llama.cpp refuses a file that has no tokenizer."""

ALWAYS_F32 = {"position_embd.weight", ROPE_FACTORS}


def write_gguf(
    model: LanguageModel, tokenizer: Tokenizer | None, path: Path, *, kind: str = "F32", name: str = "picolab"
) -> dict[str, str]:
    """Write a model with its tokenizer; the type every tensor was written as. Nothing is left behind if it cannot be done."""
    if kind not in KINDS:
        raise UnknownName("GGUF type written here", kind, KINDS)
    refuse_quantised(model, "written")
    architecture, spelling = _spelling(model)
    wanted, file_type = KINDS[kind]
    vocabulary = NO_WORDS if tokenizer is None else vocabulary_fields(tokenizer, model.config.vocab_size)
    fields = {
        "general.name": name,
        "general.file_type": int(file_type),
        "general.quantization_version": 2,
        **_settings(model, architecture, spelling),
        **vocabulary,
    }
    draft = path.with_name(path.name + ".part")
    writer = GGUFWriter(draft, architecture)
    for key, value in fields.items():
        _add(writer, key, value)
    kinds = {theirs: _kind(theirs, tensor, wanted) for theirs, tensor in _tensors(model, architecture, spelling)}
    for theirs, tensor in _tensors(model, architecture, spelling):
        # The type of array is only looked at where the shape is counted in bytes.
        writer.add_tensor_info(theirs, tensor.shape, np.dtype(np.float32), _bytes(tensor, kinds[theirs]), kinds[theirs])
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for theirs, tensor in _tensors(model, architecture, spelling):  # one at a time: never a second copy of them all
            writer.write_tensor_data(_stored(theirs, tensor, kinds[theirs]))
        writer.close()
        os.replace(draft, path)
    finally:
        with suppress(OSError):  # of a full disk, told once already
            writer.close()
        draft.unlink(missing_ok=True)
    return {theirs: stored_as.name for theirs, stored_as in kinds.items()}


def _spelling(model: LanguageModel) -> tuple[str, Gguf]:
    """The name an architecture has in GGUF, and how it is spelled; refused where its settings have no place there."""
    table = model.gguf
    if table is None:
        known = [f"`{name}`" for name, entry in ARCHITECTURES.items() if entry.model.gguf is not None]
        raise BadInput(
            f"GGUF has no name for the architecture `{model.architecture}` as it is computed here",
            hint=f"llama.cpp runs {', '.join(known)}; a Hugging Face folder holds any model",
        )
    table.check(model.config)
    return table.architecture, table


def _settings(model: LanguageModel, architecture: str, spelling: Gguf) -> dict[str, int | float | str]:
    settings = settings_of(model)
    fields: dict[str, int | float | str] = {
        f"{architecture}.{key}": settings[ours] for ours, key in spelling.settings.items()
    }
    fields[f"{architecture}.vocab_size"] = settings["vocab_size"]
    if not spelling.rotary:
        return fields
    head_dim = settings["head_dim"]
    fields |= {f"{architecture}.attention.value_length": head_dim, f"{architecture}.rope.dimension_count": head_dim}
    scaling: RopeScaling | None = model.config.rope_scaling
    if scaling is not None and scaling.kind == "yarn":
        if not scaling.truncate:
            raise BadSetting("a YaRN ramp that is not rounded to whole pairs has no place in GGUF")
        if (scaling.beta_fast, scaling.beta_slow) != (32.0, 1.0):  # measured: logits 39 % apart, and no word of it
            raise BadSetting(
                f"llama.cpp computes YaRN with `beta_fast` 32 and `beta_slow` 1, "
                f"not {scaling.beta_fast:g} and {scaling.beta_slow:g}",
                hint="a Hugging Face folder holds them",
            )
        fields[f"{architecture}.{SCALING}type"] = "yarn"
        fields |= {f"{architecture}.{SCALING}{key}": getattr(scaling, ours) for ours, key in SCALING_KEYS.items()}
        usual = magnitude(RopeScaling(kind="yarn", factor=scaling.factor, original_context_length=1))
        if magnitude(scaling) != usual:
            fields[f"{architecture}.{SCALING}attn_factor"] = magnitude(scaling) / usual
    return fields


def _tensors(model: LanguageModel, architecture: str, spelling: Gguf) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under its name there, its rows in the order there."""
    settings, state = settings_of(model), model.state_dict()
    for ours, theirs in named(spelling.tensors, settings["n_layers"]).items():
        if ours == "head.weight" and settings["tied"]:
            continue
        tensor = state.get(ours)
        if tensor is None:  # a bias this model was built without, and the architecture has
            tensor = torch.zeros(len(state[ours.removesuffix("bias") + "weight"]))
        pattern = ours.replace(f".{ours.split('.')[1]}.", ".{i}.", 1) if ours.startswith("blocks.") else ours
        heads = spelling.in_pairs.get(pattern)
        yield theirs, tensor if heads is None else to_pairs(tensor, settings[heads])
    scaling = getattr(model.config, "rope_scaling", None)
    if scaling is not None and scaling.kind in ("llama3", "factors"):
        plain, slowed = (frequencies(settings["head_dim"], settings["rope_theta"], s) for s in (None, scaling))
        yield ROPE_FACTORS, plain / slowed


def _kind(theirs: str, tensor: Tensor, wanted: Type) -> Type:
    if tensor.ndim == 1 or theirs in ALWAYS_F32:
        return Type.F32
    return Type.F16 if wanted is Type.Q8_0 and tensor.shape[-1] % 32 else wanted


def _stored(theirs: str, tensor: Tensor, kind: Type) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """A tensor's numbers as the file keeps them; refused where a half-precision number cannot be so large."""
    numbers = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
    most = float(np.abs(numbers).max(initial=0.0)) if kind in LARGEST else 0.0
    if most > LARGEST.get(kind, np.inf):
        raise BadInput(
            f"`{theirs}` holds {most:.6g}, and {kind.name} ends at {LARGEST[kind]:.6g}", hint="F32 and BF16 hold it"
        )
    return np.ascontiguousarray(quantize(numbers, kind))


def _bytes(tensor: Tensor, kind: Type) -> int:
    block, block_bytes = GGML_QUANT_SIZES[kind]
    return tensor.numel() // block * block_bytes


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    """One key, typed as llama.cpp expects it."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_key_value(key, value, GGUFValueType.STRING)
    else:
        writer.add_array(key, value)
