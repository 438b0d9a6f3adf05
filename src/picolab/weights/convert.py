"""From one kind of checkpoint to another: `convert(model, tokenizer, Path("out.gguf"), kind="Q8_0")`.

    model, tokenizer  ->  a draft  ->  opened again, compared (likeness.py)  ->  its name (draft.py)

What the destination is called says what it becomes: `x.gguf` a GGUF file, `x.bin` a llama2.c file with tokenizer.bin beside it,
anything else a Hugging Face folder. What a format cannot hold is refused by name before anything is written.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import safe_open

from picolab.errors import BadSetting
from picolab.models.contract import LanguageModel
from picolab.text.spm import opens_with
from picolab.text.tokenizer import Tokenizer
from picolab.weights.checkpoint import save_model
from picolab.weights.destination import FOLDER, GGUF, LLAMA2C, check_beside, check_place, format_of
from picolab.weights.draft import drafts
from picolab.weights.formats import open_checkpoint
from picolab.weights.gguf.header import read_header
from picolab.weights.gguf.names import named
from picolab.weights.gguf.write import KINDS, write_gguf
from picolab.weights.likeness import Likeness, compare, unlike
from picolab.weights.llama2c_write import write_llama2c, write_llama2c_tokenizer
from picolab.weights.notes import notes
from picolab.weights.shards import WEIGHTS

PLAIN = "F32"
TOKENIZER_BIN = "tokenizer.bin"
"""Where run.c looks for the vocabulary."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """One tensor of the destination, under its name there."""

    name: str
    kind: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversion:
    """What was written, and how it compares with what was meant; it is kept only if that is the same model."""

    path: Path
    format: str
    files: tuple[Path, ...]
    tensors: tuple[Written, ...]
    likeness: Likeness
    notes: tuple[str, ...]

    @property
    def kept(self) -> bool:
        return self.likeness.faithful


class _Unlike(Exception):
    """What was written is not the model: nothing of it is kept."""


def convert(
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    path: Path,
    *,
    kind: str | None = None,
    sources: Sequence[Path] = (),
    force: bool = False,
    name: str = "picolab",
    seed: int = 0,
) -> Conversion:
    """Write a model and its tokenizer as `path` asks, open it again and compare.

    `kind` is the type of a GGUF file's matrices, F32 if not given. `force` replaces what is there, but never one of the
    `sources`. Raises BadInput where the format cannot hold the model or its tokenizer, and where the place is taken.
    """
    asked = format_of(path)
    kind = _checked(kind, asked)
    check_place(path, sources=sources, force=force)
    beside = path.with_name(TOKENIZER_BIN) if asked == LLAMA2C and tokenizer is not None else None
    files = [path] if beside is None else [beside, path]
    made: Conversion | None = None
    try:
        with drafts(files) as unnamed:
            draft = unnamed[-1]
            if asked == GGUF:
                write_gguf(model, tokenizer, draft, kind=kind, name=name)
            elif asked == FOLDER:
                save_model(model, _saying_its_opening(tokenizer), draft)
            else:
                if tokenizer is not None and beside is not None:
                    write_llama2c_tokenizer(tokenizer, model.config.vocab_size, unnamed[0])
                    check_beside(beside, unnamed[0].read_bytes(), sources=sources, force=force)
                write_llama2c(model, draft)
            tensors = tuple(_tensors(model, draft, asked))
            made = Conversion(
                path=path,
                format=asked,
                files=tuple(files),
                tensors=tensors,
                likeness=_likeness(model, tokenizer, draft, None if beside is None else unnamed[0], tensors, seed),
                notes=tuple(notes(model, tokenizer, asked, [tensor.kind for tensor in tensors])),
            )
            if not made.kept:
                raise _Unlike
    except _Unlike:
        pass  # said in the result
    assert made is not None
    return made


def _checked(given: str | None, asked: str) -> str:
    kind = (given or PLAIN).upper()
    if kind not in KINDS:
        raise BadSetting(f"`{given}` is no type that is written here", hint="known: " + ", ".join(KINDS))
    if asked != GGUF and kind != PLAIN:
        raise BadSetting(f"what is written as {asked} is {PLAIN}, not `{given}`", hint="x.gguf has other types")
    return kind


def _saying_its_opening(tokenizer: Tokenizer | None) -> Tokenizer | None:
    """The same tokenizer, whose tokenizer.json tells other engines which token to put before a text."""
    if tokenizer is None or len(tokenizer.opening) != 1 or tokenizer.inner.encode("").ids == list(tokenizer.opening):
        return tokenizer
    told = copy.deepcopy(tokenizer)
    opens_with(told.inner, tokenizer.opening[0])
    return told


def _likeness(
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    draft: Path,
    beside: Path | None,
    tensors: Sequence[Written],
    seed: int,
) -> Likeness:
    """Open the draft as anyone would, and hold it against what was meant."""
    again, spoken = open_checkpoint(draft, beside, context_length=model.config.context_length)
    types: dict[str, str] = {}
    if model.gguf is not None and draft.is_file() and beside is None:
        stored = {tensor.name: tensor.kind for tensor in tensors}
        names = named(model.gguf.tensors, model.config.n_layers)
        types = {ours: stored[theirs] for ours, theirs in names.items() if theirs in stored}
        types.setdefault("head.weight", types.get("embedding.weight", PLAIN))
    found = compare(model, again, types, rounded=bool(set(types.values()) - {PLAIN}), seed=seed)
    if tokenizer is None:
        return found
    if spoken is None:
        return replace(found, unlike="the file has none")
    difference, texts = unlike(tokenizer, spoken, seed=seed)
    return replace(found, unlike=difference, texts=texts)


def _tensors(model: LanguageModel, draft: Path, asked: str) -> Iterator[Written]:
    """What lies in the draft by its own account; a llama2.c file gives none."""
    if asked == GGUF:
        for name, stored in read_header(draft).tensors.items():
            yield Written(name=name, kind=stored.kind.name, shape=stored.shape, bytes=stored.size)
    elif asked == FOLDER:
        with safe_open(draft / WEIGHTS, "pt") as file:
            for name in sorted(file.keys()):
                tensor = file.get_tensor(name)  # mapped, not read
                kind = file.get_slice(name).get_dtype()
                yield Written(name=name, kind=kind, shape=tuple(tensor.shape), bytes=tensor.nbytes)
    else:
        for name, tensor in model.named_parameters():
            yield Written(name=name, kind=PLAIN, shape=tuple(tensor.shape), bytes=4 * tensor.numel())
