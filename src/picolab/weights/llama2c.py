"""What does llama2.c write? A Llama as bare float32 numbers, and its vocabulary beside it. github.com/karpathy/llama2.c, run.c.

    model.bin       7 x int32: dim hidden_dim n_layers n_heads n_kv_heads vocab_size seq_len | kind by kind, every layer's matrix
    tokenizer.bin   int32: longest | for each token: float32 score, int32 length, its bytes

A negative vocab_size says that the head has a matrix of its own. Nothing marks the file as what it is, so its length must be
exactly what its header makes it. Queries and keys are rotated in adjacent pairs of lanes there, (0,1)(2,3)..; their rows are put in
our order, (0,half)(1,half+1).., on the way in.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from picolab.errors import BadCheckpoint
from picolab.models.contract import LanguageModel
from picolab.text.spelling import METASPACE
from picolab.text.spm import Kind, Pieces, spm_tokenizer
from picolab.text.tokenizer import Tokenizer
from picolab.weights.filling import LARGEST, MOST_LAYERS, hollow, pour
from picolab.weights.kept import Form
from picolab.weights.mapped import map_file
from picolab.weights.row_order import to_halves

HEADER = struct.Struct("<7i")
LATER_VERSIONS = 0x616B3432
"""What opens files of version 1 and up."""

ROPE_THETA, NORM_EPS = 10000.0, 1e-5
"""run.c computes with these; the file does not say them."""

UNKNOWN, BOS, EOS, BYTES = 0, 1, 2, 3
"""Ids that every llama2.c vocabulary has; the 256 bytes follow."""

FIRST = [f"<0x{byte:02X}>" for byte in range(256)]


def open_llama2c(path: Path, *, dtype: Form = "float32") -> LanguageModel:
    """The model of a llama2.c file of version 0, its weights mapped where they are used as they lie."""
    data = map_file(path)
    settings = llama2c_settings(path, data)
    model = hollow("llama", settings, source=str(path))
    state: dict[str, Tensor] = {}
    at = HEADER.size
    for name, shape, each in layout(settings):
        # An array of all layers at once, read as one tensor a layer.
        size = 4 * math.prod(shape)
        for layer in range(settings["n_layers"] if each else 1):
            if name:
                numbers = np.frombuffer(data, dtype="<f4", count=size // 4, offset=at).reshape(shape)
                state[name.replace("{i}", str(layer))] = torch.from_numpy(numbers)
            at += size
    for name, tensor in state.items():
        for rotated, heads in (("q_proj", "n_heads"), ("k_proj", "n_kv_heads")):
            if name.endswith(f"{rotated}.weight"):
                state[name] = to_halves(tensor, settings[heads])
    return pour(model, state, source=str(path), dtype=dtype)


def is_llama2c(path: Path) -> bool:
    """Whether a file has the length its header would give a llama2.c model."""
    try:
        llama2c_settings(path, map_file(path))
    except BadCheckpoint:
        return False
    return True


def read_llama2c_tokenizer(path: Path) -> Tokenizer:
    """The vocabulary llama2.c writes beside a model."""
    data = map_file(path)
    texts: list[str] = []
    scores: list[float] = []
    at = 4
    while at < len(data):
        if at + 8 > len(data):
            raise BadCheckpoint(f"`{path}` ends inside token {len(texts)}, at byte {at}", hint="the file is torn")
        score, length = struct.unpack_from("<fi", data, at)
        if not 0 < length <= len(data) - at - 8:
            raise BadCheckpoint(
                f"`{path}`, byte {at}: token {len(texts)} has {length} bytes, and {len(data) - at - 8} are left",
                hint="the file is torn, or no tokenizer of llama2.c",
            )
        try:
            texts.append(data[at + 8 : at + 8 + length].decode("utf-8"))
        except UnicodeDecodeError as error:
            raise BadCheckpoint(f"`{path}`, byte {at + 8}: token {len(texts)} is not UTF-8") from error
        scores.append(score)
        at += 8 + length
    if texts[BYTES : BYTES + 256] != FIRST:
        raise BadCheckpoint(f"`{path}` does not hold the 256 bytes as tokens 3 to 258", hint="no tokenizer of llama2.c")
    kinds = [Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL, *[Kind.BYTE] * 256, *[Kind.NORMAL] * (len(texts) - BYTES - 256)]
    # Spaces are written as such there, and lines are put around the names of the control tokens.
    texts = ["<unk>", "<s>", "</s>", *(text.replace(" ", METASPACE) for text in texts[BYTES:])]
    try:
        return spm_tokenizer(Pieces(texts=texts, scores=scores, kinds=kinds), eot=EOS, bos=BOS)
    except BadCheckpoint as error:
        raise BadCheckpoint(f"`{path}`: {error}", hint=error.hint) from error


def llama2c_settings(path: Path, data: mmap.mmap | bytes) -> dict[str, Any]:
    """The header, believed once the file has exactly the length it implies."""
    if len(data) < HEADER.size:
        raise BadCheckpoint(f"`{path}` has {len(data)} bytes, less than a header", hint="the file is torn")
    dim, hidden, layers, heads, kv_heads, vocab, context = HEADER.unpack_from(data)
    if dim == LATER_VERSIONS:
        raise BadCheckpoint(
            f"`{path}` is a llama2.c file of version {hidden}, and version 0 is read here",
            hint="llama2.c: python export.py model.bin --checkpoint model.pt --version 0",
        )
    sizes = {"dim": dim, "hidden_dim": hidden, "n_layers": layers, "n_heads": heads, "n_kv_heads": kv_heads}
    for name, size in {**sizes, "vocab_size": abs(vocab), "seq_len": context}.items():
        if not 0 < size <= (MOST_LAYERS if name == "n_layers" else LARGEST):
            raise BadCheckpoint(
                f"`{path}` gives `{name}` as {size}", hint="the file is torn, or no model of llama2.c version 0"
            )
    if dim % heads or heads % kv_heads or dim // heads % 2:
        raise BadCheckpoint(
            f"`{path}` divides {dim} lanes among {heads} heads and {kv_heads} key heads, which does not work",
            hint="the file is torn, or no model of llama2.c version 0",
        )
    settings: dict[str, Any] = {
        "vocab_size": abs(vocab),
        "context_length": context,
        "d_model": dim,
        "n_layers": layers,
        "n_heads": heads,
        "n_kv_heads": kv_heads,
        "head_dim": dim // heads,
        "d_ff": hidden,
        "rope_theta": ROPE_THETA,
        "norm_eps": NORM_EPS,
        "tied": vocab > 0,
    }
    counts = (math.prod(shape) * (layers if each else 1) for _, shape, each in layout(settings))
    expected = HEADER.size + 4 * sum(counts)
    if len(data) != expected:
        raise BadCheckpoint(
            f"`{path}` has {len(data):,} bytes where its header makes it {expected:,}",
            hint="the file is torn, or no model of llama2.c version 0",
        )
    return settings


def layout(settings: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """The arrays of a file in their order: our name (none for what we compute ourselves), shape, whether each layer has one."""
    dim, hidden, vocab = settings["d_model"], settings["d_ff"], settings["vocab_size"]
    head_dim, context = settings["head_dim"], settings["context_length"]
    kv_dim = head_dim * settings["n_kv_heads"]
    yield "embedding.weight", (vocab, dim), False
    yield "blocks.{i}.attention_norm.weight", (dim,), True
    yield "blocks.{i}.attention.q_proj.weight", (dim, dim), True
    yield "blocks.{i}.attention.k_proj.weight", (kv_dim, dim), True
    yield "blocks.{i}.attention.v_proj.weight", (kv_dim, dim), True
    yield "blocks.{i}.attention.out_proj.weight", (dim, dim), True
    yield "blocks.{i}.mlp_norm.weight", (dim,), True
    yield "blocks.{i}.mlp.gate_proj.weight", (hidden, dim), True
    yield "blocks.{i}.mlp.down_proj.weight", (dim, hidden), True
    yield "blocks.{i}.mlp.up_proj.weight", (hidden, dim), True
    yield "final_norm.weight", (dim,), False
    yield "", (context, head_dim), False  # cosines and sines
    if not settings["tied"]:
        yield "head.weight", (vocab, dim), False
