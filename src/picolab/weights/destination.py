"""Where may a conversion write, and what? The name of a destination says its format; what is there already is not lost by accident.

x.gguf   x.bin   anything_else/            GGUF, llama2.c, Hugging Face
taken -> refused, or replaced with `force`: a file, or a folder that holds a checkpoint and nothing else; never the source
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from picolab.errors import BadInput
from picolab.text.files import CHAT_TEMPLATE
from picolab.weights.checkpoint import CONFIG, GENERATION

GGUF, LLAMA2C, FOLDER = "GGUF", "llama2.c", "Hugging Face"

NO_FOLDER = {".safetensors", ".json", ".pt", ".pth", ".pkl", ".ckpt", ".onnx", ".model", ".npz", ".h5"}
"""Endings of files that are not written here. A folder may be called anything else: `Qwen2.5-0.5B` has an ending too."""

OF_CHECKPOINTS = (
    *("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model.bin.index.json"),
    *(CONFIG, GENERATION, "*tokenizer*", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", CHAT_TEMPLATE, "training_state.pt", ".tmp-*"),
)
"""What a folder may hold that `force` replaces: a checkpoint, and nothing of anybody else's."""


def format_of(path: Path) -> str:
    """The format that a destination's name asks for."""
    if path.suffix == ".gguf":
        return GGUF
    if path.suffix == ".bin":
        return LLAMA2C
    if path.suffix in NO_FOLDER:
        raise BadInput(
            f"`{path}` is no kind of checkpoint that is written here",
            hint="x.gguf is a GGUF file, x.bin a llama2.c file, any other name a Hugging Face folder",
        )
    return FOLDER


def check_place(path: Path, *, sources: Sequence[Path], force: bool) -> None:
    """Refuse a destination that is taken, that a source lies in, or that holds more than a checkpoint."""
    for source in sources:
        if path.resolve() in (source.resolve(), *source.resolve().parents):
            raise BadInput(f"`{source}` is or lies in `{path}`, which would replace it", hint="name another place")
    if not (path.exists() or path.is_symlink()):
        return
    if path.is_dir() != (format_of(path) == FOLDER):
        there, wanted = ("a folder", "a file") if path.is_dir() else ("a file", "a folder")
        raise BadInput(f"`{path}` is {there}, and {wanted} is to be written", hint="name another place")
    if path.is_dir() and not any(path.iterdir()):
        return
    if not force:
        raise BadInput(f"`{path}` is there already", hint="--force replaces it")
    if path.is_dir():
        others = (one for one in sorted(path.iterdir()) if one.is_dir() or not any(map(one.match, OF_CHECKPOINTS)))
        other = next(others, None)
        if other is not None:
            raise BadInput(
                f"`{path}` holds more than a checkpoint: `{other.name}`",
                hint="--force replaces a folder of checkpoint files only: name another place",
            )


def check_beside(path: Path, content: bytes, *, sources: Sequence[Path], force: bool) -> None:
    """Refuse to write a file that comes along unasked over another one; the same content may be written again."""
    if not (path.exists() or path.is_symlink()):
        return
    if path.is_file() and path.read_bytes() == content:
        return
    if not force or not path.is_file():
        raise BadInput(f"`{path}` is there already, with another vocabulary", hint="--force replaces it")
    if path.resolve() in {source.resolve() for source in sources}:
        raise BadInput(f"`{path}` would be replaced, and is read from", hint="name another folder")
