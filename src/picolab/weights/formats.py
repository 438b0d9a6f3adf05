"""Which kind of checkpoint is this? Looked up in the file itself, not in its name.

folder with config.json                 ours, Hugging Face's                tokenizer in the folder
file that opens with "GGUF"             llama.cpp's                         tokenizer in the file
file as long as its header makes it     llama2.c's, version 0               tokenizer.bin, tok512.bin, *.model .. beside it
"""

from __future__ import annotations

from pathlib import Path

from picolab.errors import BadCheckpoint, BadInput
from picolab.models.contract import LanguageModel
from picolab.text.files import TOKENIZER
from picolab.text.tokenizer import Tokenizer
from picolab.weights.checkpoint import CONFIG, load_model
from picolab.weights.gguf.header import MAGIC, read_header
from picolab.weights.gguf.read import model_of
from picolab.weights.gguf.read_vocabulary import tokenizer_of
from picolab.weights.kept import Form, form_of
from picolab.weights.llama2c import open_llama2c, read_llama2c_tokenizer
from picolab.weights.sentencepiece import read_sentencepiece

BESIDE = ("tokenizer.json", "tokenizer.bin", "tok*.bin", "tokenizer.model", "tok*.model")
"""Where the tokenizer of a file without one is looked for, in its own folder, in this order."""


def open_checkpoint(
    path: Path,
    tokenizer: Path | None = None,
    *,
    dtype: Form = "float32",
    context_length: int | None = None,
) -> tuple[LanguageModel, Tokenizer | None]:
    """The model of a checkpoint, in evaluation mode, and its tokenizer, or the one in the file or folder `tokenizer`; None where
    there is none. Weights are kept as `dtype` says: float32, bfloat16, float16, int8 or stored (`kept.FORMS`). `context_length`
    says how far a GGUF model with rotary positions may read."""
    form = form_of(dtype)
    try:
        return _open(Path(path), tokenizer, form, context_length)
    except BadCheckpoint:
        raise
    except BadInput as error:  # a name in no table, sizes that do not fit: here it is the file that is wrong
        raise BadCheckpoint(f"`{path}`: {error}", hint=error.hint) from error


def _open(
    path: Path, tokenizer: Path | None, dtype: str, context_length: int | None
) -> tuple[LanguageModel, Tokenizer | None]:
    kind = checkpoint_kind(path)
    own: Tokenizer | None = None
    if kind == "huggingface":
        model = load_model(path, dtype=dtype)
        own = None if tokenizer else _of_folder(path)
    elif kind == "gguf":
        header = read_header(path)
        model = model_of(header, dtype=dtype, context_length=context_length)
        own = None if tokenizer else tokenizer_of(header)
    else:
        model = open_llama2c(path, dtype=dtype)
        own = None if tokenizer else _beside(path, model.config.vocab_size)
    given = open_tokenizer(tokenizer) if tokenizer else own
    if given is not None and given.vocab_size > model.config.vocab_size:
        raise BadCheckpoint(
            f"the tokenizer has {given.vocab_size} tokens and `{path}` {model.config.vocab_size}",
            hint="it is another model's tokenizer",
        )
    return model, given


def checkpoint_kind(path: Path) -> str:
    """`huggingface`, `gguf` or `llama2c`; BadCheckpoint where it is none of them."""
    if path.is_dir():
        if not (path / CONFIG).exists():
            raise BadCheckpoint(f"`{path}` is no checkpoint", hint=f"a checkpoint folder has a {CONFIG}")
        return "huggingface"
    try:
        with path.open("rb") as file:
            opening = file.read(len(MAGIC))
    except OSError as error:
        raise BadCheckpoint(f"`{path}` cannot be read: {error.strerror}") from error
    if opening == MAGIC:
        return "gguf"
    if path.suffix in (".safetensors", ".pt", ".pth", ".json"):
        raise BadCheckpoint(f"`{path}` is one file of a checkpoint", hint="give its folder, with config.json in it")
    if path.suffix == ".gguf":
        read_header(path)  # says what is wrong with it
    return "llama2c"


def open_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a folder, a tokenizer.json, a GGUF file, a SentencePiece model or llama2.c's vocabulary."""
    if path.is_dir():
        found = _of_folder(path)
        if found is None:
            raise BadCheckpoint(f"`{path}` has no tokenizer", hint="tokenizer.json or tokenizer.model is meant")
        return found
    if path.suffix == ".json":
        return Tokenizer.load(path)
    if path.suffix == ".model":
        return read_sentencepiece(path)
    if path.suffix == ".gguf":
        found = tokenizer_of(read_header(path))
        if found is None:
            raise BadCheckpoint(f"`{path}` has no tokenizer")
        return found
    return read_llama2c_tokenizer(path)


def _of_folder(folder: Path) -> Tokenizer | None:
    if (folder / TOKENIZER).exists():
        return Tokenizer.load(folder)
    model = folder / "tokenizer.model"
    return read_sentencepiece(model) if model.exists() else None


def _beside(path: Path, vocab_size: int) -> Tokenizer | None:
    """The first tokenizer in the file's folder that has as many tokens as the model."""
    for pattern in BESIDE:
        for candidate in sorted(path.parent.glob(pattern)):
            if candidate != path:
                found = open_tokenizer(candidate)
                if found.vocab_size == vocab_size:
                    return found
    return None
