"""In which form are a model's weights kept in memory? A name says it: `--dtype`.

    float32  bfloat16  float16    every weight in this type, and the activations too
    int8                          matrices as codes of 8 bits with a scale a row; all else float32
    stored                        matrices as the file has them, in the mapped file; all else float32

`int8` and `stored` are made into float32 numbers where they are used, a few rows at a time, and computed with in float32: `stored`
gives the logits of `float32` exactly, but for the order of sums. Whatever is made is made tensor by tensor: never two copies of
all weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from picolab.errors import BadInput, BadSetting, UnknownName
from picolab.models.contract import LanguageModel
from picolab.parts.quantised import Quantised, is_matrix, kinds_of, quantise, to_float
from picolab.parts.quantised_blocks import Fields

Form = str | torch.dtype
"""A name of `FORMS`, or torch's own for one of the first three."""

FORMS = {
    "float32": "4 bytes a weight: the reference",
    "bfloat16": "2 bytes; activations are rounded to 8 bits as well",
    "float16": "2 bytes; activations are rounded to 11 bits as well, and end at 65,504",
    "int8": "1 byte a weight of a matrix, rounded to a 254th of its row's range; the rest is float32",
    "stored": "as in the file; numbers are made where they are used, in float32",
}

PLAIN = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Forms that are torch's types, for weights and activations alike."""

HALVES = {torch.float16: "F16", torch.bfloat16: "BF16"}
"""Types that are kept as they are stored, by ggml's names."""


def form_of(dtype: Form) -> str:
    """The name of a form, or UnknownName."""
    name = str(dtype).removeprefix("torch.")
    if name not in FORMS:
        raise UnknownName("dtype", name, FORMS)
    return name


def formed(tensor: Tensor, form: str, *, matrix: bool, called: str) -> Tensor:
    """A tensor in this form: itself where it is so already. Of a `Quantised`, a few rows at a time are made into numbers."""
    if matrix and form == "int8":
        return quantise(tensor)
    if matrix and form == "stored" and isinstance(tensor, Quantised):
        return tensor
    if matrix and form == "stored" and tensor.dtype in HALVES:
        return Quantised(Fields(tensor.contiguous()[..., None]), HALVES[tensor.dtype])
    dtype = PLAIN.get(form, torch.float32)
    made = to_float(tensor, dtype) if isinstance(tensor, Quantised) else tensor.to(dtype).contiguous()
    if dtype == torch.float16 and dtype != tensor.dtype and bool(made.isinf().any()) and tensor.isfinite().all():
        raise BadSetting(
            f"{called} holds {float(tensor.abs().max()):.6g}, and float16 ends at 65504", hint="bfloat16 holds it"
        )
    return made


def keep(model: LanguageModel, dtype: Form, file: Mapping[str, Tensor] | None = None) -> LanguageModel:
    """Bring a model in memory into this form, parameter by parameter, shared ones once. `file` is what was stored, by name."""
    form = form_of(dtype)
    check_form(model, form)
    done: dict[int, nn.Parameter] = {}
    for path, module in model.named_modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) not in done:
                called = f"{path}.{name}" if path else name
                before = (file or {}).get(called, parameter.detach()) if form == "stored" else parameter.detach()
                made = formed(before, form, matrix=is_matrix(module, name), called=f"`{called}`")
                same = made.dtype == parameter.dtype and not isinstance(made, Quantised)
                done[id(parameter)] = (
                    parameter if same else nn.Parameter(made, requires_grad=not isinstance(made, Quantised))
                )
            setattr(module, name, done[id(parameter)])
    return settle(model)


def check_form(model: LanguageModel, form: str) -> None:
    """Refuse a form that makes no sense for a model."""
    if form not in ("float32", "stored") and not any(True for _ in model.parameters()):
        raise BadInput(
            f"a model of the architecture `{model.architecture}` has no weights to keep as {form}: it counts",
            hint="leave `dtype` out",
        )


def settle(model: LanguageModel) -> LanguageModel:
    """A model with matrices that cannot be trained is for reading only, all of it: training the rest would be a surprise."""
    if kinds_of(model):
        model.requires_grad_(False)
    return model
