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
from picolab.parts.quantised import Quantised, is_matrix
from picolab.parts.rope import Rope
from picolab.weights.kept import Form, form_of, formed, settle
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
    dtype: Form = "float32",
    spoken: Callable[[str], str] = lambda name: name,
    read: Callable[[str], None] = lambda name: None,
) -> LanguageModel:
    """Give a hollow model its parameters, every one exactly once; a tied head may be left out.

    A tensor that is in the right form is taken as it is, in the memory where it lies; the others are converted one at a time, and
    `read` is told the name of each that is not needed any more. `spoken` turns a parameter's name into what the file calls it.
    """
    form, wanted, rest = form_of(dtype), dict(model.state_dict()), dict(state)
    tied = bool(settings_of(model).get("tied")) and "embedding.weight" in wanted
    if tied and "embedding.weight" in rest:
        head = rest.setdefault("head.weight", rest["embedding.weight"])
        if not _same(head, rest["embedding.weight"]):
            raise BadCheckpoint(f"`{source}`: head and embedding differ, and the settings say they are tied")
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
    if tied:
        rest.pop("head.weight")
    for name, tensor in rest.items():
        path, _, own = name.rpartition(".")
        module = model.get_submodule(path)
        made = formed(tensor, form, matrix=is_matrix(module, own), called=f"`{spoken(name)}`")
        setattr(module, own, nn.Parameter(made, requires_grad=not isinstance(made, Quantised)))
        if not _shares_memory(made, tensor):
            read(name)
    if tied:  # the embedding, not its equal
        model.head.weight = model.get_parameter("embedding.weight")
    for module in model.modules():
        if isinstance(module, Rope):
            module.tabulate()
    return settle(model)


def _same(one: Tensor, other: Tensor) -> bool:
    in_place = not isinstance(one, Quantised) and one.data_ptr() == other.data_ptr() and one.shape == other.shape
    return one is other or in_place or torch.equal(one, other)


def _shares_memory(made: Tensor, tensor: Tensor) -> bool:
    if isinstance(made, Quantised):
        return made is tensor or made.codes.data_ptr() == tensor.data_ptr()
    return not isinstance(tensor, Quantised) and made.data_ptr() == tensor.data_ptr()


def _sensible(name: str, value: Any) -> bool:
    """Whether a number could be a size or a constant of a model; what is no number is for the architecture to judge."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    most = MOST_LAYERS if name == "n_layers" else LARGEST if isinstance(value, int) else math.inf
    return math.isfinite(value) and 0 <= value <= most and (value > 0 or name not in ABOVE_ZERO)
