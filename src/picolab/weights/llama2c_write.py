"""A Llama as llama2.c's file of version 0, its vocabulary as tokenizer.bin. github.com/karpathy/llama2.c, export.py, tokenizer.py.

    settings  ->  what run.c computes with, or refused by name      rope_theta 10000, norm_eps 1e-5, heads d_model / n_heads wide
    weights   ->  kind by kind, every layer's, rows in adjacent pairs; then the cosines and sines that run.c skips
    pieces    ->  <unk> <s> </s>, the 256 bytes, the others; spaces written as such

What is written for weights and vocabulary read from llama2.c's own files are those files again, byte for byte.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.parts.quantised import refuse_quantised
from picolab.parts.rope import frequencies
from picolab.text.spelling import METASPACE
from picolab.text.spm import Kind
from picolab.text.tokenizer import Tokenizer
from picolab.weights.llama2c import BOS, BYTES, EOS, FIRST, HEADER, NORM_EPS, ROPE_THETA, UNKNOWN, layout
from picolab.weights.pieces_of import ALONE, pieces_of
from picolab.weights.row_order import to_pairs
from picolab.zoo import settings_of

FORMAT = "a llama2.c file"
IN_PAIRS = {"q_proj.weight": "n_heads", "k_proj.weight": "n_kv_heads"}
CONTROL = {UNKNOWN: "<unk>", BOS: "\n<s>\n", EOS: "\n</s>\n"}
"""How tokenizer.py writes the three tokens that are no text."""


def write_llama2c(model: LanguageModel, path: Path) -> None:
    """Write the weights; BadInput, before anything is written, where run.c would compute another model from them."""
    refuse_quantised(model, "written")
    settings = check_llama2c(model)
    state = model.state_dict()
    with path.open("wb") as file:
        vocab = settings["vocab_size"] * (1 if settings["tied"] else -1)
        names = ("d_model", "d_ff", "n_layers", "n_heads", "n_kv_heads")
        file.write(HEADER.pack(*(settings[name] for name in names), vocab, settings["context_length"]))
        for name, _, each in layout(settings):
            if not name:
                _write_angles(file, settings)
                continue
            heads = next((count for end, count in IN_PAIRS.items() if name.endswith(end)), None)
            for layer in range(settings["n_layers"] if each else 1):
                tensor = state[name.replace("{i}", str(layer))]
                _write(file, tensor if heads is None else to_pairs(tensor, settings[heads]))


def write_llama2c_tokenizer(tokenizer: Tokenizer, vocab_size: int, path: Path) -> None:
    """Write the vocabulary; BadInput where run.c would cut texts otherwise or take another token for the opening or the end."""
    pieces = pieces_of(tokenizer, vocab_size, target=FORMAT)
    kinds = [Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL, *[Kind.BYTE] * 256]
    if tokenizer.vocab_size < vocab_size:
        raise _no_place(f"rows without a token ({tokenizer.vocab_size} tokens and {vocab_size} rows)")
    if list(pieces.kinds[: len(kinds)]) != kinds or list(pieces.texts[BYTES : BYTES + 256]) != FIRST:
        raise _no_place("a vocabulary that does not begin with <unk>, <s>, </s> and the 256 bytes")
    other = next((i for i in range(len(kinds), vocab_size) if pieces.kinds[i] is not Kind.NORMAL), None)
    if other is not None:
        raise _no_place(f"the control token `{pieces.texts[other]}` ({other})")
    if not pieces.space_first:
        raise _no_place("a tokenizer that puts no space before a text")
    if (tokenizer.opening, tokenizer.ends) != ((BOS,), frozenset({EOS})):
        opens = " ".join(str(i) for i in tokenizer.opening) or "nothing"
        ends = " ".join(str(i) for i in sorted(tokenizer.ends))
        raise _no_place(f"texts opened by {opens} and ended by {ends}: run.c opens with {BOS} and ends at {EOS}")
    texts = [CONTROL.get(i, text.replace(METASPACE, " ")).encode() for i, text in enumerate(pieces.texts)]
    rows = (struct.pack("<fi", score, len(text)) + text for text, score in zip(texts, pieces.scores, strict=True))
    path.write_bytes(struct.pack("<i", max(map(len, texts))) + b"".join(rows))


def check_llama2c(model: LanguageModel) -> dict[str, Any]:
    """The settings of a model that run.c computes as it is here; BadInput names the first that it does not."""
    if model.architecture != "llama":
        raise BadInput(
            f"{FORMAT} holds a llama, and the model is a {model.architecture}",
            hint="a Hugging Face folder holds any model, GGUF several",
        )
    settings = settings_of(model)
    width = settings["d_model"] // settings["n_heads"]
    computed: Mapping[str, Any] = {
        "head_dim": width,
        "rope_theta": ROPE_THETA,
        "norm_eps": NORM_EPS,
        "rope_scaling": None,
    }
    for name, value in computed.items():
        if settings[name] != value:
            shown = settings[name]["kind"] if isinstance(settings[name], dict) else settings[name]
            raise BadInput(
                f"{FORMAT} has no place for `{name}` {shown}: run.c computes with {value}",
                hint="a Hugging Face folder and GGUF have one",
            )
    return settings


def _write(file: BinaryIO, tensor: Tensor) -> None:
    file.write(tensor.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4", copy=False).tobytes())


def _write_angles(file: BinaryIO, settings: Mapping[str, Any]) -> None:
    """Cosines of every position and pair, then sines: written and read by nobody since run.c computes its own."""
    positions = torch.arange(settings["context_length"], dtype=torch.float32)
    turn = torch.outer(positions, frequencies(settings["head_dim"], settings["rope_theta"]))
    _write(file, turn.cos())
    _write(file, turn.sin())


def _no_place(what: str) -> BadInput:
    return BadInput(f"{FORMAT} has no place for {what}", hint=ALONE)
