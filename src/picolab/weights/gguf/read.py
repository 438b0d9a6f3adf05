"""GGUF to a model: the header's settings in our words, every tensor in its place, llama's rows put back in halves.

    header = read_header(path)         model_of(header) -> model        tokenizer_of(header) -> tokenizer (read_vocabulary.py)

llama.cpp takes the context length in a file as advice, and reads as far as it is told (512 tokens if it is not told). So does
this: a model with rotary positions is built for `LEAST_CONTEXT` positions if its file names fewer.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from picolab.errors import UnknownName
from picolab.models.contract import LanguageModel
from picolab.parts.rope import RopeScaling, frequencies
from picolab.weights.filling import LARGEST, MOST_LAYERS, hollow, pour
from picolab.weights.gguf.header import Header
from picolab.weights.gguf.names import (
    NEUTRAL,
    ROPE_FACTORS,
    SAID_ELSEWHERE,
    SCALING,
    SCALING_KEYS,
    SPELLINGS,
    Spelling,
    named,
)
from picolab.weights.gguf.tensors import mapped, tensor_of
from picolab.weights.kept import Form
from picolab.weights.mapped import forget_pages

HEAD = "output.weight"
"""The one matrix that may be missing: the head is then tied to the embedding."""

LEAST_CONTEXT = 512
"""llama_context_default_params().n_ctx."""


def model_of(header: Header, *, dtype: Form = "float32", context_length: int | None = None) -> LanguageModel:
    """The model of a GGUF file in evaluation mode, weights kept as `dtype` says (`kept.FORMS`): F32 and `stored` ones where they
    lie in the mapped file. `context_length` replaces the file's where positions are rotary."""
    model, names = hollow_of(header, context_length=context_length)
    spelling, state = SPELLINGS[model.architecture], {}
    for ours, theirs in names.items():
        if theirs not in header.tensors:
            continue
        _check_shape(header, theirs, tuple(model.get_parameter(ours).shape), ours)
        heads = heads_of(spelling, ours)
        state[ours] = mapped(header, theirs, heads=0 if heads is None else getattr(model.config, heads))

    def forget(ours: str) -> None:
        stored = header.tensors[names[ours]]
        forget_pages(header.data, stored.offset, stored.size)

    return pour(
        model,
        state,
        source=str(header.path),
        dtype=dtype,
        spoken=lambda name: names.get(name, name),
        read=forget,
    )


def hollow_of(header: Header, *, context_length: int | None = None) -> tuple[LanguageModel, dict[str, str]]:
    """The model of a GGUF file without its numbers, and the file's name for each of its parameters, all of them accounted for."""
    architecture = header.text("general.architecture")
    if architecture not in SPELLINGS:
        raise UnknownName("GGUF architecture read here", architecture, SPELLINGS)
    spelling = SPELLINGS[architecture]
    settings = settings_of_header(header, architecture, spelling)
    if spelling.rotary:
        settings["context_length"] = context_length or max(settings["context_length"], LEAST_CONTEXT)
    names = named(spelling.tensors, settings["n_layers"])
    rest = header.tensors.keys() - set(names.values()) - {ROPE_FACTORS}
    if rest:
        header.refuse(f"tensor `{min(rest)[:60]}` belongs to nothing in a {architecture}")
    missing = [theirs for theirs in names.values() if theirs not in header.tensors and theirs != HEAD]
    if missing:  # before a layer is built for each
        header.refuse(f"`{missing[0]}` is missing" + (f", and {len(missing) - 1} more" if len(missing) > 1 else ""))
    return hollow(architecture, settings, source=str(header.path)), names


def settings_of_header(header: Header, architecture: str, spelling: Spelling) -> dict[str, Any]:
    """A file's settings in our words; missing keys take llama.cpp's defaults, and what is not computed is refused by name."""
    settings: dict[str, Any] = {}
    for ours, key in spelling.settings.items():
        full = f"{architecture}.{key}"
        if full not in header.fields and ours in spelling.defaults:
            settings[ours] = spelling.defaults[ours]
        elif ours in ("rope_theta", "norm_eps"):
            settings[ours] = _single(header.number(full))
        else:
            settings[ours] = header.integer(full)
            if not 1 <= settings[ours] <= (MOST_LAYERS if ours == "n_layers" else LARGEST):
                header.refuse(f"`{full}` is {settings[ours]}", hint="the file is torn, or no model at all")
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None:
        header.refuse("`token_embd.weight` is missing")
    settings["vocab_size"] = embedding.shape[0]
    settings["tied"] = HEAD not in header.tensors
    _refuse_unknown(header, architecture, spelling)
    if spelling.rotary:
        _check_heads(header, architecture, settings)
        settings["rope_scaling"] = _scaling(header, architecture, settings)
    return settings


def _check_heads(header: Header, architecture: str, settings: dict[str, Any]) -> None:
    """Keys and values of one width, all of it rotated."""
    head_dim = settings["head_dim"] or settings["d_model"] // settings["n_heads"]
    for key in ("attention.value_length", "rope.dimension_count"):
        given = header.integer(f"{architecture}.{key}", head_dim)
        if given != head_dim:
            header.refuse(
                f"`{architecture}.{key}` is {given} where heads are {head_dim} wide, which is not computed here"
            )


def _scaling(header: Header, architecture: str, settings: dict[str, Any]) -> RopeScaling | None:
    before = f"{architecture}.{SCALING}"
    kind = header.text(before + "type", "none")
    if kind == "yarn":
        given: dict[str, Any] = {"kind": "yarn"}
        for ours, key in SCALING_KEYS.items():
            if before + key in header.fields:
                given[ours] = header.number(before + key)
        if header.number(before + "yarn_ext_factor", 1.0) != 1.0:
            header.refuse(f"`{before}yarn_ext_factor` is not 1, which is not computed here")
        # llama.cpp multiplies by 0.1 ln(factor) + 1 whatever the file says besides.
        more = header.number(before + "attn_factor", 1.0) * header.number(before + "yarn_attn_factor", 1.0)
        if more != 1.0:
            given["attention_factor"] = more * (0.1 * math.log(max(given.get("factor", 1.0), 1.0)) + 1.0)
        return RopeScaling.of(given)
    if kind != "none":
        header.refuse(
            f"`{before}type` is `{kind}`, which is not computed here", hint="computed are: none, yarn, and factors"
        )
    factors = header.tensors.get(ROPE_FACTORS)
    if factors is None:
        return None
    head_dim = settings["head_dim"] or settings["d_model"] // settings["n_heads"]
    _check_shape(header, ROPE_FACTORS, (head_dim // 2,), ROPE_FACTORS)
    return _as_llama3(tensor_of(header, ROPE_FACTORS).float(), head_dim, settings["rope_theta"])


def _as_llama3(factors: torch.Tensor, head_dim: int, theta: float) -> RopeScaling:
    """Factors by the rule they come from, if they are those of a published Llama 3, so that other formats can hold them too."""
    plain = frequencies(head_dim, theta)
    published = RopeScaling(kind="llama3", factor=max(float(factors.max()), 1.0), original_context_length=8192)
    if torch.allclose(plain / frequencies(head_dim, theta, published), factors, rtol=1e-6, atol=0):
        return published
    return RopeScaling(kind="factors", factors=tuple(factors.tolist()))


def _refuse_unknown(header: Header, architecture: str, spelling: Spelling) -> None:
    known = {*spelling.settings.values(), *SAID_ELSEWHERE}
    for key, value in header.fields.items():
        own = key.removeprefix(f"{architecture}.")
        if own == key or own in known:
            continue
        if own not in NEUTRAL or value not in NEUTRAL[own]:
            header.refuse(f"`{key[:60]}` is set, which is not computed here")


def _check_shape(header: Header, theirs: str, expected: tuple[int, ...], ours: str) -> None:
    """Before a quantised tensor is made into numbers: it could be of any size."""
    shape = header.tensors[theirs].shape
    if shape != expected:
        header.refuse(f"`{theirs}`, our `{ours}`, has shape {shape}, the settings ask for {expected}")


def _single(number: float) -> float:
    """The decimal number that was meant by a float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(torch.tensor(number, dtype=torch.float32).numpy()))


def heads_of(spelling: Spelling, name: str) -> str | None:
    """The setting that counts a parameter's heads if its rows lie in adjacent pairs in the file, or None."""
    return next((count for pattern, count in spelling.in_pairs.items() if _is(pattern, name)), None)


def _is(pattern: str, name: str) -> bool:
    before, _, after = pattern.partition("{i}")
    return name.startswith(before) and name.endswith(after)
