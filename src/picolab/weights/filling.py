"""How does a model get its weights from a file? It is built without memory, checked against the file, then given the file's own.

    header says: 24 layers of 896 -> `hollow`: shapes only, nothing allocated -> `pour`: every tensor in its place, once

What a header claims is only believed once the file has been found to hold it, so a wrong number costs nothing. Tensors that lie
in a mapped file stay there: they are read when they are used, and never twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from picolab.errors import BadCheckpoint, BadInput
from picolab.models.contract import LanguageModel
from picolab.parts.rope import Rope
from picolab.zoo import build, settings_of

LARGEST = 1 << 28
MOST_LAYERS = 1000
"""No size of a real model comes near these; a torn header does."""

ABOVE_ZERO = {"vocab_size", "context_length", "d_model", "n_layers", "n_heads", "d_ff", "rope_theta", "norm_eps"}


def hollow(architecture: str, settings: Mapping[str, Any], *, source: str) -> LanguageModel:
    """A model of these settings with shapes and no memory; BadCheckpoint where they make no sense together."""
    for name, value in settings.items():
        if not _sensible(name, value):
            raise BadCheckpoint(f"`{source}` gives `{name}` as {value!r}", hint="the file is torn, or no model at all")
    try:
        with torch.device("meta"):
            return build(architecture, settings).eval()
    except BadInput as error:
        raise BadCheckpoint(f"`{source}`: {error}", hint=error.hint) from error
    except (RuntimeError, OverflowError) as error:  # a size beyond what a tensor can have
        raise BadCheckpoint(f"`{source}` describes a model of impossible size: {str(error).splitlines()[0]}") from error


def pour(
    model: LanguageModel,
    state: Mapping[str, Tensor],
    *,
    source: str,
    dtype: torch.dtype = torch.float32,
    spoken: Callable[[str], str] = lambda name: name,
) -> LanguageModel:
    """Give a hollow model its parameters, every one exactly once; a tied head may be left out.

    A tensor of the right type is taken as it is, in the memory where it lies; the others are converted one at a time. `spoken`
    turns a parameter's name into what the file calls it, for errors.
    """
    wanted = dict(model.state_dict())
    rest = dict(state)
    if settings_of(model).get("tied") and "head.weight" not in rest and "embedding.weight" in rest:
        rest["head.weight"] = rest["embedding.weight"]
    missing = [name for name in wanted if name not in rest]
    if missing:
        also = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise BadCheckpoint(f"`{source}`: `{spoken(missing[0])}` is missing{also}")
    for name, tensor in rest.items():
        if name not in wanted:
            raise BadCheckpoint(f"`{source}`: tensor `{spoken(name)}` belongs to nothing in this {model.architecture}")
        called = f"`{spoken(name)}`" + (f", our `{name}`" if spoken(name) != name else "")
        if tensor.shape != wanted[name].shape:
            raise BadCheckpoint(
                f"`{source}`: {called} has shape {tuple(tensor.shape)}, the settings ask for {tuple(wanted[name].shape)}"
            )
        if not tensor.is_floating_point():
            raise BadCheckpoint(f"`{source}`: `{spoken(name)}` holds {tensor.dtype}, not numbers a model computes with")
    for name, tensor in rest.items():
        _put(model, name, tensor.to(dtype))
    _tie(model, source)
    for module in model.modules():
        if isinstance(module, Rope):
            module.tabulate()
    return model


def _put(model: nn.Module, name: str, tensor: Tensor) -> None:
    path, _, own = name.rpartition(".")
    setattr(model.get_submodule(path), own, nn.Parameter(tensor))


def _tie(model: LanguageModel, source: str) -> None:
    """A tied head is the embedding, not its equal."""
    if not settings_of(model).get("tied"):
        return
    embedding = model.get_parameter("embedding.weight")
    if model.head.weight.data_ptr() != embedding.data_ptr() and not torch.equal(model.head.weight, embedding):
        raise BadCheckpoint(f"`{source}`: head and embedding differ, and the settings say they are tied")
    model.head.weight = embedding


def _sensible(name: str, value: Any) -> bool:
    """Whether a number could be a size or a constant of a model; what is no number is for the architecture to judge."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    most = MOST_LAYERS if name == "n_layers" else LARGEST if isinstance(value, int) else math.inf
    return math.isfinite(value) and 0 <= value <= most and (value > 0 or name not in ABOVE_ZERO)
