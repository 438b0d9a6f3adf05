"""Which site does another engine's name mean?

    model.layers.3.self_attn.q_proj     Hugging Face    blocks.3.attention.q
    transformer.h.3.attn.c_attn         Hugging Face    blocks.3.attention.q, .k and .v, side by side
    hidden_states.4                     Hugging Face    blocks.3.resid_post
    kqv_out-3                           llama.cpp       blocks.3.attention.mixed
    Qcur-3                              llama.cpp       queries before or after rotation: the numbers decide

The names are those of the modules of transformers and of the tensors of llama.cpp's graphs; a module's name means what it gives,
with `.input` behind it what it reads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from picolab.trace.engines.llama_cpp_sites import ENDS, LETTERS, WHOLE, split_name
from picolab.trace.sites import known, layer_of

HUGGING_FACE, LLAMA_CPP = "Hugging Face's names", "llama.cpp's names"


@dataclass(frozen=True, kw_only=True, slots=True)
class Meaning:
    """What a name may mean: one of `sites`, or all of them side by side where they are `fused`."""

    table: str
    sites: tuple[str, ...]
    fused: bool = False


QKV = ("attention.q", "attention.k", "attention.v")
GATE_UP = ("mlp.gate", "mlp.up")

GIVES: dict[str, str] = {
    "": "resid_post",
    **dict.fromkeys(("input_layernorm", "ln_1", "attention_norm"), "attention_norm"),
    **dict.fromkeys(("post_attention_layernorm", "ln_2", "ffn_norm"), "mlp_norm"),
    **{f"{own}.{letter}_proj": f"attention.{letter}" for own in ("self_attn", "attn") for letter in "qkv"},
    **{f"attention.w{letter}": f"attention.{letter}" for letter in "qkv"},
    **{f"attn.c_{letter}": f"attention.{letter}" for letter in "qkv"},
    **{f"self_attn.{letter}_norm": f"attention.{letter}_norm" for letter in "qk"},
    **dict.fromkeys(("self_attn", "self_attn.o_proj", "self_attn.out_proj", "attn", "attn.c_proj", "attention.wo",
                     "attention", "attention.dense"), "attention.out"),
    **dict.fromkeys(("mlp.gate_proj", "feed_forward.w1"), "mlp.gate"),
    **dict.fromkeys(("mlp.up_proj", "feed_forward.w3", "mlp.c_fc", "mlp.dense_h_to_4h", "mlp.fc1"), "mlp.up"),
    **dict.fromkeys(("mlp", "mlp.down_proj", "feed_forward", "feed_forward.w2", "mlp.c_proj", "mlp.dense_4h_to_h",
                     "mlp.fc2"), "mlp.down"),
}  # fmt: skip
"""Modules of a block in transformers, in Meta's and in nanochat's code: the place each makes."""

FUSED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("attn.c_attn", "self_attn.qkv_proj", "attention.query_key_value", "attn.qkv_proj"), QKV),
    "mlp.gate_up_proj": GATE_UP,
}

READS: dict[str, str] = {
    **dict.fromkeys(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.qkv_proj", "attn.c_attn",
                     "attn.c_q", "attn.c_k", "attn.c_v"), "attention_norm"),
    **dict.fromkeys(("self_attn.o_proj", "attn.c_proj"), "attention.mixed"),
    **dict.fromkeys(("post_attention_layernorm", "ln_2"), "resid_mid"),
    **dict.fromkeys(("mlp", "mlp.gate_proj", "mlp.up_proj", "mlp.c_fc", "mlp.gate_up_proj"), "mlp_norm"),
    **dict.fromkeys(("mlp.down_proj", "mlp.c_proj"), "mlp.act"),
}  # fmt: skip
"""What those modules read, for `.input`."""

BENT = frozenset({"mlp.act", "mlp.act_fn"})
"""Modules that bend; where a gate is multiplied in afterwards, that is no site."""

EMBEDS = frozenset({"embed_tokens", "wte", "tok_embeddings", "embed_in"})
ENDINGS: dict[str, str] = {
    "drop": "embed",
    **dict.fromkeys(("norm", "ln_f", "final_layernorm", "final_layer_norm"), "final_norm"),
    **dict.fromkeys(("lm_head", "embed_out", "output"), "logits"),
}

GRAPH: dict[str, str] = {
    **WHOLE,
    "ffn_inp": "resid_mid",
    "attn_out": "attention.out",
    "ffn_up": "mlp.up",
    "ffn_down": "mlp.down",
    "kq": "attention.scores",
    **dict.fromkeys(("ffn_gate_par", "ffn_swiglu", "ffn_geglu", "ffn_reglu"), "mlp.act"),
}
"""Tensors of a block in llama.cpp's graphs; `kq` is not scaled yet."""

UNSCALED = frozenset({"kq"})

_WRAPPERS = re.compile(r"^(?:(?:_orig_mod|module|base_model|transformer|model|gpt_neox|decoder|language_model)\.)+")
_IN_BLOCK = re.compile(r"^(?:layers|layer|h|blocks|block)[.\[](\d+)\]?(?:\.(.*))?$")
_LISTED = re.compile(r"^(hidden_states|attentions)[._\[](\d+)\]?$")
_DECORATION = re.compile(r"\s*\((?:view|reshaped|permuted|cont|transposed|copy)[^)]*\)|#\d+$")


def meaning_of(name: str, sites: Sequence[str], *, embeds_plainly: bool = True) -> Meaning | None:
    """What a name means in a model that has these sites; None for a name that is in no table.

    Where no position and no norm comes between a row of the embedding and the first block, that row is the site `embed`.
    """
    if known(name) is not None:
        return None  # canonical already
    found = _listed(name, sites) or _in_graph(name, sites, embeds_plainly) or _module(name, sites, embeds_plainly)
    if found is None or found.fused:
        return found if found is None or all(site in sites for site in found.sites) else None
    sites = tuple(site for site in found.sites if site in sites)
    return Meaning(table=found.table, sites=sites) if sites else None


def is_unscaled(name: str) -> bool:
    """Whether scores of this name lack their scale."""
    return split_name(_DECORATION.sub("", name))[0] in UNSCALED


def _listed(name: str, sites: Sequence[str]) -> Meaning | None:
    """`hidden_states.i` of transformers: the embedding, every block's end, and of the last what the norm made."""
    found = _LISTED.match(name)
    if found is None:
        return None
    number, last = int(found[2]), _layers(sites)
    if found[1] == "attentions":
        site = f"blocks.{number}.attention.probs"
    else:
        site = "embed" if number == 0 else "final_norm" if number == last else f"blocks.{number - 1}.resid_post"
    return Meaning(table=HUGGING_FACE, sites=(site,))


def _in_graph(name: str, ours: Sequence[str], embeds_plainly: bool) -> Meaning | None:
    plain, block = split_name(_DECORATION.sub("", name))
    sites: tuple[str, ...]
    if not block:
        start = ("embed",) if plain == "inpL" or (plain == "inp_embd" and embeds_plainly) else ()
        sites = start or ((ENDS[plain],) if plain in ENDS else ())
    elif plain in LETTERS:
        letter = LETTERS[plain]
        sites = tuple(f"{block}attention.{letter}{step}" for step in ("_rope", "_norm", ""))
    elif plain == "ffn_gate":
        sites = (f"{block}mlp.gate",)
    elif plain == "ffn_out":  # the sum after a llama's feed-forward is called so as well
        sites = (f"{block}mlp.down", f"{block}resid_post")
    elif plain in ("ffn_silu", "ffn_gelu", "ffn_relu", "ffn_sqr(relu)"):
        sites = () if f"{block}mlp.gate" in ours else (f"{block}mlp.act",)
    else:
        sites = (f"{block}{GRAPH[plain]}",) if plain in GRAPH else ()
    return Meaning(table=LLAMA_CPP, sites=sites) if sites else None


def _module(name: str, sites: Sequence[str], embeds_plainly: bool) -> Meaning | None:
    path = _WRAPPERS.sub("", name.removesuffix(".output"))
    reads = path.endswith(".input")
    path = path.removesuffix(".input")
    inside = _IN_BLOCK.match(path)
    if inside is None:
        return _outside(path, reads, embeds_plainly)
    block, rest = f"blocks.{inside[1]}.", inside[2] or ""
    if reads:
        if rest in ("", "input_layernorm", "ln_1"):
            number = int(inside[1])
            return Meaning(table=HUGGING_FACE, sites=(f"blocks.{number - 1}.resid_post" if number else "embed",))
        return Meaning(table=HUGGING_FACE, sites=(block + READS[rest],)) if rest in READS else None
    if rest in FUSED:
        return Meaning(table=HUGGING_FACE, sites=tuple(block + place for place in FUSED[rest]), fused=True)
    if rest in BENT:
        return None if f"{block}mlp.gate" in sites else Meaning(table=HUGGING_FACE, sites=(f"{block}mlp.act",))
    return Meaning(table=HUGGING_FACE, sites=(block + GIVES[rest],)) if rest in GIVES else None


def _outside(path: str, reads: bool, embeds_plainly: bool) -> Meaning | None:
    if reads:
        return Meaning(table=HUGGING_FACE, sites=("final_norm",)) if ENDINGS.get(path) == "logits" else None
    if path in EMBEDS:
        return Meaning(table=HUGGING_FACE, sites=("embed",)) if embeds_plainly else None
    return Meaning(table=HUGGING_FACE, sites=(ENDINGS[path],)) if path in ENDINGS else None


def _layers(sites: Sequence[str]) -> int:
    return 1 + max((layer for site in sites if (layer := layer_of(site)) is not None), default=-1)
