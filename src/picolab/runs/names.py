"""What do people call a setting? Their words, and ours, meeting at the border.

    --batch-size  batch_size  training.batch_size        ->  training.batch_size
    --n-embd      hidden_size                            ->  model.d_model           (nanoGPT, Hugging Face)

A leaf whose last word is unique may stand alone. Unknown words are refused with the nearest known one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from picolab.errors import BadSetting, UnknownName

ALIASES: dict[str, str] = {
    "model": "model.preset",
    "data": "data.spec",
    "context": "data.context_length",
    # nanoGPT
    "n_embd": "model.d_model",
    "n_layer": "model.n_layers",
    "n_head": "model.n_heads",
    "block_size": "data.context_length",
    "learning_rate": "optimizer.lr",
    "max_iters": "training.steps",
    "warmup_iters": "optimizer.warmup",
    "grad_clip": "optimizer.clip",
    "eval_interval": "training.eval_every",
    "eval_iters": "training.eval_batches",
    "gradient_accumulation_steps": "training.accumulate",
    "out_dir": "out",
    # Hugging Face
    "hidden_size": "model.d_model",
    "num_hidden_layers": "model.n_layers",
    "num_attention_heads": "model.n_heads",
    "num_key_value_heads": "model.n_kv_heads",
    "intermediate_size": "model.d_ff",
    "max_steps": "training.steps",
    "warmup_steps": "optimizer.warmup",
    "max_grad_norm": "optimizer.clip",
    "adam_epsilon": "optimizer.eps",
    "eval_steps": "training.eval_every",
    "save_steps": "training.checkpoint_every",
    "save_total_limit": "training.keep",
    "torch_compile": "training.compile",
    "output_dir": "out",
    "run_name": "name",
    # pico-sized programs for courses
    "embed_size": "model.d_model",
    "kgram_k": "model.k",
}
"""Other programs' names of our settings."""

MODEL_FIELDS = (
    "d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim", "d_ff", "rope_theta", "rope_scaling", "norm_eps", "tied", "dropout",
    "attention_bias", "window", "sinks", "logit_cap", "order", "form", "k", "d_embed", "hidden", "n_hidden", "activation",
    "attention", "embedding", "frozen", "corrected", "learned_positions", "gated",
)  # fmt: skip
"""Fields of architectures that may stand alone; any other is written `model.<field>`."""


def full(given: str, known: Mapping[str, str]) -> str:
    """The dotted name of a setting as a person wrote it, or `UnknownName`."""
    name = given.strip().lstrip("-").replace("-", "_")
    if name in known:
        return name
    if name in ALIASES:
        return ALIASES[name]
    section, _, leaf = name.rpartition(".")
    if section == "model" and leaf:
        return ALIASES.get(leaf, name) if ALIASES.get(leaf, "").startswith("model.") else name
    if not section:
        owners = [dotted for dotted in known if dotted.rpartition(".")[2] == name]
        if len(owners) == 1:
            return owners[0]
        if name in MODEL_FIELDS:
            return f"model.{name}"
    leaves = {dotted.rpartition(".")[2] for dotted in known}
    raise UnknownName("setting", given, [*known] if section else [*leaves, *ALIASES, *MODEL_FIELDS])


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """`{"optimizer": {"lr": 1}}` as `{"optimizer.lr": 1}`; one level of sections, as settings have."""
    return dict(_leaves(tree))


def _leaves(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            for leaf, inner in value.items():
                if isinstance(inner, Mapping):
                    raise BadSetting(f"`{name}.{leaf}` holds settings of its own", hint="settings are two levels deep")
                yield f"{name}.{leaf}", inner
        else:
            yield str(name), value


def scalar(value: Any) -> Any:
    """A value of an architecture's field: what a command line gives as text becomes the number or truth it spells."""
    if not isinstance(value, str):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
