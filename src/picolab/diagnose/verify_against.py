"""The other engine: can it run this model at all, from which file, and how far may it be apart when all is right?

    transformers    a Hugging Face folder, or a GGUF file through its own reader     1e-5: float32 there and here
    llama.cpp       a GGUF file                                                      1e-3: its GELU is a table, its angles drift
                                                                                     rounded weights: 3 x the measured noise
    picolab         for code that stands in the model's place

What an engine cannot open itself is exported first, and it is said: then the reading of the file is checked by nobody, and the
writing of the export with the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from picolab.diagnose.verify_noise import ALLOWED, measured_noise, rounded_in_file
from picolab.errors import BadInput, UnknownName
from picolab.runs.reference import Opened
from picolab.text.tokenizer import Tokenizer
from picolab.trace.engines.engine import Engine
from picolab.trace.engines.here import Here
from picolab.trace.engines.llama_cpp import LlamaCpp
from picolab.trace.engines.transformers import Transformers
from picolab.weights.checkpoint import save_model
from picolab.weights.formats import checkpoint_kind
from picolab.weights.gguf.header import Header, read_header
from picolab.weights.gguf.names import ROPE_FACTORS, SCALING
from picolab.weights.gguf.write import write_gguf
from picolab.zoo import PRESETS

IN_FLOAT32, IN_LLAMA_CPP = 1e-5, 1e-3
"""Two implementations in float32; llama.cpp on a float32 file. There GELU is a table of half precision: 2e-4 on random models. Its
rotary angles are products of products, and drift with the position: at position 500 random models of 3 layers were 5e-5 apart, of
12 layers 2e-4."""

ANOTHER_ORDER = 1e-4
"""For code that is not ours: another order of summation costs up to 1e-5 on random models of 12 layers, and grows with depth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Elsewhere:
    """A model open in another engine. `no_words` says why its tokenizer is not compared, if it is not; `composed` that it does not
    compose characters (Unicode's NFC) where the model's own tokenizer does, `tidied` that it drops spaces before punctuation."""

    engine: Engine
    tolerance: float
    notes: tuple[str, ...] = ()
    no_words: str | None = None
    composed: bool = False
    tidied: bool = False


def open_elsewhere(engine: str, opened: Opened, folder: Path, *, seed: int, longest: int, code: bool) -> Elsewhere:
    """The model in another engine; exports go into `folder`. BadInput with the reason where it cannot be.

    `code` says that somebody's own code will stand in the model's place. Where noise has to be measured, it is on random texts of
    `longest` tokens, drawn with `seed`.
    """
    if engine == "transformers":
        return _in_transformers(opened, folder, _floor(IN_FLOAT32, code))
    if engine == "llama.cpp":
        return _in_llama_cpp(opened, folder, seed, longest, code)
    if engine != "picolab":
        raise UnknownName("engine", engine, ENGINES)
    if not code:
        raise BadInput("picolab would be compared with itself", hint="`--run file.py:function` puts code in its place")
    return Elsewhere(engine=Here(opened.model, opened.tokenizer), tolerance=_floor(IN_FLOAT32, code))


ENGINES = ("transformers", "llama.cpp", "picolab")
OTHERS = ENGINES[:2]
"""What is asked where nobody says: those that are not picolab."""


def _in_transformers(opened: Opened, folder: Path, tolerance: float) -> Elsewhere:
    architecture = opened.model.architecture
    if opened.model.hugging_face is None:
        raise BadInput(f"transformers knows no architecture `{architecture}`")
    words = None
    if opened.tokenizer is not None and opened.tokenizer.keep is not None:
        words = "a compact vocabulary is picolab's own: transformers reads its tokens with other numbers"
    path, kind = _file(opened)
    if path is not None and kind == "huggingface":
        return Elsewhere(engine=Transformers.open(path), tolerance=tolerance, no_words=words)
    note = f"exported to a Hugging Face folder for transformers, which opens no {KINDS[kind]}"
    if path is not None and kind == "gguf":
        why = _not_read_by_transformers(read_header(path))
        if why is None:
            try:
                return Elsewhere(engine=Transformers.open(path), tolerance=tolerance, no_words=words or REBUILT)
            except BadInput as error:
                why = str(error)
        note = f"exported to a Hugging Face folder for transformers: {why}"
    save_model(opened.model, opened.tokenizer, folder / "transformers")
    return Elsewhere(
        engine=Transformers.open(folder / "transformers"), tolerance=tolerance, notes=(note,), no_words=words
    )


REBUILT = "transformers rebuilds the tokenizer of a GGUF file by rules of its own, which lose spaces before a text"

KINDS = {"preset": "preset", "huggingface": "Hugging Face folder", "gguf": "GGUF file", "llama2c": "llama2.c file"}


def _not_read_by_transformers(header: Header) -> str | None:
    """What transformers' reader of GGUF files passes over in silence."""
    architecture = header.text("general.architecture")
    if header.text(f"{architecture}.{SCALING}type", "none") != "none" or ROPE_FACTORS in header.tensors:
        return "it passes over the rope scaling of a GGUF file"
    return None


def _in_llama_cpp(opened: Opened, folder: Path, seed: int, longest: int, code: bool) -> Elsewhere:
    path, kind = _file(opened)
    notes: list[str] = []
    words = None
    if path is None or kind != "gguf":
        path, words = _as_gguf(opened, folder)
        notes.append(f"exported to a GGUF file (F32) for llama.cpp, which opens no {KINDS[kind]}")
    context_length = int(opened.model.config.context_length)
    engine = LlamaCpp.open(path, context_length=context_length)
    tolerance, kinds = IN_LLAMA_CPP, rounded_in_file(read_header(path))
    if kinds:
        noise = measured_noise(opened.model, kinds, seed, longest=min(longest, context_length))
        tolerance = ALLOWED * noise
        named = ", ".join(sorted({found.name for found in kinds.values()}))
        notes.append(
            f"llama.cpp rounds what enters matrices of {named}: that alone moves logits here by {noise:.1e}, "
            f"so {ALLOWED:g} times that is allowed, and smaller faults are not seen"
        )
    own = None if words is not None else opened.tokenizer
    composed, tidied = _composes(own), own is not None and own.kind != "spm"
    if composed:
        notes.append("llama.cpp composes no characters (NFC) as this tokenizer does: texts it changes are left out")
    if tidied:
        notes.append("llama.cpp drops spaces before punctuation when it puts tokens together: there nothing is decoded")
    return Elsewhere(
        engine=engine,
        tolerance=_floor(tolerance, code),
        notes=tuple(notes),
        no_words=words,
        composed=composed,
        tidied=tidied,
    )


def _as_gguf(opened: Opened, folder: Path) -> tuple[Path, str | None]:
    """The exported file, and why it has no tokenizer, if it has none."""
    path = folder / "model.gguf"
    try:
        write_gguf(opened.model, opened.tokenizer, path)
    except BadInput as error:
        if opened.tokenizer is None:
            raise
        write_gguf(opened.model, None, path)  # raises the same again if it is the model that has no place there
        return path, str(error)
    return path, None


def _composes(tokenizer: Tokenizer | None) -> bool:
    """Whether a tokenizer makes one character of a letter and its accent."""
    normalizer = None if tokenizer is None else tokenizer.inner.normalizer
    return normalizer is not None and normalizer.normalize_str("e\u0301") == "\u00e9"


def _file(opened: Opened) -> tuple[Path | None, str]:
    """Where the model lies on disk, and as what; a preset lies nowhere."""
    if opened.source in PRESETS:
        return None, "preset"
    path = Path(opened.source)
    return path, checkpoint_kind(path)


def _floor(tolerance: float, code: bool) -> float:
    return max(tolerance, ANOTHER_ORDER) if code else tolerance
