"""All models and presets: the only file that knows them by name.

ARCHITECTURES   name -> model class and its settings        (one line adds one)
PRESETS         name -> architecture and sizes              `picolab train --model NAME`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from picolab.errors import BadSetting, UnknownName
from picolab.models import counted, gpt2, gpt_oss, kgram, linear, llama, lstm, mistral, nanochat, ngram, qwen2, qwen3
from picolab.models.contract import LanguageModel
from picolab.parts.rope import RopeScaling


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model class and the frozen dataclass of its settings."""

    model: type[LanguageModel]
    config: type[Any]


@dataclass(frozen=True, slots=True)
class Preset:
    """Sizes that have a name; `says` is one line for lists."""

    architecture: str
    settings: Mapping[str, Any]
    says: str


ARCHITECTURES: dict[str, Architecture] = {
    "ngram": Architecture(ngram.NGram, ngram.Config),
    "kgram": Architecture(kgram.KGram, kgram.Config),
    "lstm": Architecture(lstm.LSTM, lstm.Config),
    "gpt2": Architecture(gpt2.GPT2, gpt2.Config),
    "llama": Architecture(llama.Llama, llama.Config),
    "mistral": Architecture(mistral.Mistral, mistral.Config),
    "qwen2": Architecture(qwen2.Qwen2, qwen2.Config),
    "qwen3": Architecture(qwen3.Qwen3, qwen3.Config),
    "gpt_oss": Architecture(gpt_oss.GptOss, gpt_oss.Config),
    "nanochat": Architecture(nanochat.NanoChat, nanochat.Config),
    "linear": Architecture(linear.LinearDecoder, linear.Config),
    "counted": Architecture(counted.Counted, counted.Config),
}


def _gpt2(d_model: int, n_heads: int, n_layers: int, d_ff: int, **more: Any) -> dict[str, Any]:
    return {"d_model": d_model, "n_heads": n_heads, "n_layers": n_layers, "d_ff": d_ff, **more}


PRESETS: dict[str, Preset] = {
    "ngram": Preset("ngram", {"order": 5}, "interpolated Kneser-Ney 5-gram counts: the baseline of every table"),
    "kgram-onehot": Preset("kgram", {"form": "onehot", "k": 2, "hidden": 64}, "MLP over 2 one-hot tokens"),
    "kgram-embed": Preset(
        "kgram", {"form": "embed", "k": 4}, "MLP over the embeddings of 4 tokens (Bengio et al. 2003)"
    ),
    "kgram-conv": Preset("kgram", {"form": "conv", "k": 4}, "causal convolution over the embeddings of 4 tokens"),
    "lstm": Preset("lstm", {}, "one-layer LSTM (Hochreiter and Schmidhuber 1997)"),
    "mingpt": Preset("gpt2", _gpt2(384, 6, 6, 1536, context_length=256), "GPT-2 at minGPT's size"),
    "gpt2-small": Preset("gpt2", _gpt2(768, 12, 8, 3072, context_length=1024), "GPT-2, 8 blocks of 768"),
    "softmax-pico": Preset(
        "gpt2",
        _gpt2(128, 2, 2, 512, context_length=256, attention_bias=False),
        "the smallest attention model: 2 blocks of 128, 6.9 M parameters with GPT-2's vocabulary",
    ),
    "linear-pico": Preset(
        "linear",
        _gpt2(128, 2, 2, 512, context_length=256),
        "linear attention, sizes of softmax-pico: the same memory after any number of tokens",
    ),
    "gpt-oss": Preset("gpt_oss", _gpt2(512, 8, 8, 2048), "gpt-oss reduced: windows, sinks, SwiGLU, 8 blocks of 512"),
    "llama3-lite": Preset(
        "llama", _gpt2(1024, 16, 8, 8192, context_length=1024, rope_theta=500000.0), "Llama 3 shape, 8 blocks of 1024"
    ),
    "qwen2-pico": Preset(
        "qwen2", _gpt2(128, 4, 2, 384, n_kv_heads=2, context_length=256), "Qwen2 shape, 2 blocks of 128"
    ),
    "nanochat-d4": Preset(
        "nanochat", _gpt2(256, 2, 4, 1024, context_length=1024), "nanochat at depth 4: 4 blocks of 256"
    ),
    "counted-pico": Preset(
        "counted", {}, "attention written down from corpus counts and frozen, sizes of softmax-pico"
    ),
    "counted-pico-trainable": Preset(
        "counted", {"attention": "usual", "frozen": False}, "the same with attention that learns: its rival"
    ),
}


def create(preset: str, *, vocab_size: int | None = None, seed: int = 0, **settings: Any) -> LanguageModel:
    """A freshly initialised model of a preset, with settings of one's own; the same seed gives the same weights."""
    chosen = preset_of(preset, settings)
    given = {} if vocab_size is None else {"vocab_size": vocab_size}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(chosen.architecture, {**chosen.settings, **given, **settings})


def preset_of(name: str, settings: Mapping[str, Any]) -> Preset:
    """The preset of that name; refused, as changed settings of it are, before anything is done for it."""
    if name not in PRESETS:
        raise UnknownName("preset", name, PRESETS)
    check_settings(PRESETS[name].architecture, settings)
    return PRESETS[name]


def build(architecture: str, settings: Mapping[str, Any]) -> LanguageModel:
    """A model of an architecture with these settings, every one of them known to it."""
    if architecture not in ARCHITECTURES:
        raise UnknownName("architecture", architecture, ARCHITECTURES)
    entry = ARCHITECTURES[architecture]
    return entry.model(entry.config(**check_settings(architecture, settings)))


def check_settings(architecture: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, refused if one is unknown or has the wrong type."""
    known: dict[str, Any] = {field.name: field.default for field in fields(ARCHITECTURES[architecture].config)}
    checked = dict(settings)
    for name, value in settings.items():
        if name not in known:
            raise UnknownName(f"setting of {architecture}", name, known)
        if name == "rope_scaling":
            checked[name] = None if value is None else RopeScaling.of(value)
            continue
        kind: type = type(known[name])
        allowed = (int, float) if kind is float else kind
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
            raise BadSetting(f"`{name}` is {value!r}, not {kind.__name__}", hint=f"the default is {known[name]}")
        if isinstance(value, int | float) and value < 0:
            raise BadSetting(f"`{name}` is {value}, less than nothing", hint=f"the default is {known[name]}")
        if isinstance(value, int) and kind is float:
            checked[name] = float(value)
    return checked


def settings_of(model: LanguageModel) -> dict[str, Any]:
    """The settings a model was built with, as plain data; `build(model.architecture, ...)` makes its twin."""
    return asdict(model.config)
