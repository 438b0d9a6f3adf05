"""`picolab convert`: a model in another format, opened again and compared before it takes its name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from picolab.cli import console
from picolab.cli.flags import Gpt2Dir, Json, Out, Seed, use_gpt2_dir

if TYPE_CHECKING:
    from picolab.runs.reference import Opened
    from picolab.weights.convert import Conversion
    from picolab.weights.likeness import Likeness

NONE = "none"
"""A `--tokenizer` that is none."""


def convert(
    src: Annotated[str, Parameter(help="A run, a checkpoint folder, a .gguf or llama2.c .bin file.")],
    dst: Annotated[Path, Parameter(help="x.gguf: GGUF; x.bin: llama2.c; any other name: a Hugging Face folder.")],
    /,
    *,
    type: Annotated[
        str | None, Parameter(name="--type", help="Of a .gguf: F32 (if not given), F16, BF16 or Q8_0.")
    ] = None,
    tokenizer: Annotated[
        str | None, Parameter(help="Tokenizer where the model has none; `none` writes the weights alone.")
    ] = None,
    force: Annotated[bool, Parameter(help="Replace what is there already.")] = False,
    gpt2_dir: Gpt2Dir = None,
    seed: Seed = 0,
    out: Annotated[Out, Parameter(help="Write the JSON document there as well.")] = None,
    as_json: Json = False,
) -> int:
    """Write a model in another format.

    What is written is opened again and compared before it takes its name: tensors,
    logits, tokenizer. What the format cannot hold is refused.
    """
    from picolab.runs.reference import open_reference
    from picolab.weights.convert import convert as write
    from picolab.weights.destination import check_place

    use_gpt2_dir(gpt2_dir)
    check_place(dst, sources=_paths(src, tokenizer), force=force)  # before a large model is opened
    opened = open_reference(src, tokenizer=None if tokenizer == NONE else tokenizer, seed=seed)
    for note in opened.notes:
        console.progress().print(note, soft_wrap=True)
    made = write(
        opened.model,
        None if tokenizer == NONE else opened.tokenizer,
        dst,
        kind=type,
        sources=_paths(opened.source, tokenizer),
        force=force,
        name=_name(opened),
        seed=seed,
    )
    document = {"source": opened.source, "architecture": opened.model.architecture, "kept": made.kept, "made": made}
    if out is not None:
        console.save_json(out, document)
    if as_json:
        console.emit(document)
    else:
        _show(made, opened)
    return 0 if made.kept else 1


def _paths(*words: str | None) -> list[Path]:
    """Those of the words that are files or folders."""
    return [Path(word) for word in words if word is not None and Path(word).exists()]


def _name(opened: Opened) -> str:
    """What the model is called inside a file: as its file, or as the run that its checkpoint belongs to."""
    place = Path(opened.source).resolve()
    if place.parent.name == "checkpoints":
        return place.parent.parent.name
    return place.stem if place.is_file() else place.name


def _show(made: Conversion, opened: Opened) -> None:
    like = made.likeness
    console.show(f"{opened.model.architecture} from {opened.source} as {made.format}")
    kinds = sorted({tensor.kind for tensor in made.tensors})
    rows = []
    for kind in kinds:
        own = [tensor for tensor in made.tensors if tensor.kind == kind]
        parameters = sum(math.prod(tensor.shape) for tensor in own)
        rows.append([kind, f"{len(own):,}", f"{parameters:,}", console.size(sum(tensor.bytes for tensor in own))])
    columns = ("type", "tensors", "numbers", "size")
    console.show(console.table(None, columns, rows, right=columns[1:]))
    console.show("")
    checks = [("tensors", _tensors(like)), ("logits", _logits(like))]
    if like.texts or like.unlike:
        checks.append(("tokenizer", f"{like.texts} texts: the same ids" if like.unlike is None else like.unlike))
    console.show(console.table(None, ("opened again", "found"), checks))
    for note in made.notes:
        console.show(f"note: {note}")
    if made.kept:
        console.show("\nwritten " + " and ".join(str(file) for file in reversed(made.files)))
    else:
        console.show(f"\nnot the same model: nothing is left of {made.path}")


def _tensors(like: Likeness) -> str:
    if like.strayed:
        return f"{len(like.strayed)} differ by more than their type rounds: {', '.join(like.strayed[:3])}"
    return "every one is within the rounding of its type" if like.rounded else "every one is the same, bit for bit"


def _logits(like: Likeness) -> str:
    over = f"{like.positions} random tokens"
    if like.exact:
        return f"over {over} the same, bit for bit"
    return (
        f"over {over} the largest difference is {like.largest:.1e} of the largest logit ({like.relative:.1e} in norm); "
        f"the best token is the same at {100 * like.agreeing:.1f} %"
    )
