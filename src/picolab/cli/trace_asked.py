"""What is to be traced? A model, a text, an engine: what was asked for, or what is there.

--model     a reference; without one the newest trained run; without any the demo's transformer, trained on the spot
--prompt    a text; --tokens ids; without either how the model's own data begins
--engine    picolab, or another one that runs the same weights: written out for it where it cannot open them as they are
"""

from __future__ import annotations

import difflib
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picolab.cli import console
from picolab.errors import BadInput, PicolabError, UnknownName

if TYPE_CHECKING:
    from picolab.runs.folder import Run
    from picolab.runs.reference import Opened
    from picolab.text.tokenizer import Tokenizer
    from picolab.trace.engines.engine import Engine

ENGINES = ("picolab", "transformers", "llama.cpp")
ORDINARY = ("Once upon a time there was a cat.", "2 4 6 8 10")
"""Read where a model's own data is unknown: the first that its tokenizer can spell."""

MOST_BY_DEFAULT = 24
"""Tokens of a text nobody chose."""

NEAREST = 3


def newest_trained(root: Path = Path("runs")) -> Run | None:
    """The newest run of a network that has a checkpoint; models that count compute nothing that could be traced."""
    from picolab.runs.folder import list_runs
    from picolab.zoo import PRESETS

    for run in reversed(list_runs(root)):
        try:
            preset = run.settings.model.preset
            if run.last() is not None and preset in PRESETS and PRESETS[preset].architecture != "ngram":
                return run
        except PicolabError:  # a run that cannot be read is not the one that was meant
            continue
    return None


def model_to_trace(*, seed: int) -> tuple[str, str]:
    """The newest trained run, or one made now; its folder, and what should be said about the choice."""
    from picolab.cli.progress import Display
    from picolab.recipes.demo_model import PRESET, train_demo_model

    run = newest_trained()
    if run is not None:
        return str(run.path), f"No model was named: this is the newest trained run, `{run.path}`."
    say = console.progress()
    say.print(f"nothing was trained here yet: {PRESET} learns the shipped stories first, a few seconds", soft_wrap=True)
    with Display(say) as display:
        run = train_demo_model(seed=seed, report=display)
    if run.status == "interrupted":
        raise KeyboardInterrupt(f"interrupted; go on with: picolab train --resume {run.path}")
    return str(run.path), f"No model was named and none was trained here: `{run.path}` was trained just now."


def text_to_read(opened: Opened | None, engine: Engine | None, prompt: str | None, tokens: str | None) -> list[int]:
    """The ids of the text, what opens a text in front."""
    from picolab.cli.generate_prompts import asked, check_asked

    check_asked(prompt, None, tokens, chat=False, system=None)
    if tokens is not None:
        ids = asked(None, None, tokens)
        if len(ids) != 1:
            raise BadInput(f"`--tokens` holds {len(ids)} texts, and one is traced", hint="give one list of ids")
        return [int(i) for i in ids[0]]
    if opened is None:
        assert engine is not None
        return _encoded(engine.encode(prompt or ORDINARY[0]), prompt)
    if opened.tokenizer is None:
        raise BadInput(
            f"`{opened.source}` has no tokenizer", hint="give --tokens 5,17,200, or --tokenizer: bytes, gpt2, a folder"
        )
    words = opened.tokenizer
    if prompt is None:
        return [*words.opening, *_by_default(opened, words)]
    return [*words.opening, *_encoded(words.encode(prompt), prompt)]


def _encoded(ids: list[int], prompt: str | None) -> list[int]:
    if not ids:
        raise BadInput(f"the prompt {prompt!r} has no token", hint="give a text of a word or more")
    return ids


def _by_default(opened: Opened, words: Tokenizer) -> list[int]:
    """How a text of the model's own data begins; else an ordinary sentence, if it can be spelled."""
    from picolab.runs.folder import SETTINGS, Run

    place = Path(opened.source)
    for folder in (place, *place.parents[:2]):
        if (folder / SETTINGS).exists() and (ids := _of_its_data(Run(folder), words)):
            return ids[:MOST_BY_DEFAULT]
    for text in ORDINARY:
        try:
            return _encoded(words.encode(text), text)
        except PicolabError:
            continue
    raise BadInput(
        f"nothing is known that `{opened.source}` could read", hint="give --prompt TEXT or --tokens 5,17,200"
    )


def _of_its_data(run: Run, words: Tokenizer) -> list[int]:
    """The first held-out text, where making the data again is cheap; else what the run's samples were opened with."""
    from picolab.data.corpus import NAMED
    from picolab.data.store import Mixture
    from picolab.train.setup import dataset_of

    if {re.split("[=:]", part)[0] for part in run.settings.data.spec.split(",")} <= {*NAMED}:
        held_out = dataset_of(run.settings).validation
        first = held_out.stores[0] if isinstance(held_out, Mixture) else held_out
        return [int(i) for i in first.document(0)]
    prompts = [str(sample["prompt"]) for sample in run.samples if sample.get("prompt")]
    return words.encode(prompts[-1]) if prompts else []


def check_sites(globs: Sequence[str], known: Sequence[str]) -> None:
    """Refuse a pattern that matches no site, with those most like it."""
    from picolab.trace.sites import GRAD, chosen

    for glob in globs:
        wanted = chosen(glob.removeprefix(GRAD))
        if not any(wanted(site) for site in known):
            bare = glob.replace("*", "0")
            near = difflib.get_close_matches(bare, known, n=NEAREST, cutoff=0.3)
            hint = "nearest: " + ", ".join(f"`{site}`" for site in near) if near else f"the first is `{known[0]}`"
            raise BadInput(f"no site of this model matches `{glob}`", hint=hint)


def layers_asked(layers: str | None) -> list[int] | None:
    """`0,1,-1` as numbers."""
    if layers is None:
        return None
    try:
        return [int(word) for word in layers.replace(" ", ",").split(",") if word]
    except ValueError as error:
        raise BadInput(f"`--layers {layers}` are no numbers of blocks", hint="they are written 0,1,-1") from error


def check_engine(engine: str) -> None:
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)


@contextmanager
def engine_with(name: str, opened: Opened | None, reference: str, time: int | None = None) -> Iterator[Engine]:
    """Another engine with the same weights: the file itself where the engine reads it, else written out for it."""
    with tempfile.TemporaryDirectory(prefix="picolab-trace-") as folder:
        place = Path(opened.source if opened is not None else reference)
        made: Any
        if name == "transformers":
            from picolab.trace.engines.transformers import Transformers

            made = Transformers.open(_for_transformers(opened, place, Path(folder)))
        else:
            from picolab.trace.engines.llama_cpp import LlamaCpp

            made = LlamaCpp.open(_for_llama_cpp(opened, place, Path(folder)))
        yield made


def _for_transformers(opened: Opened | None, place: Path, folder: Path) -> Path:
    from picolab.weights.checkpoint import save_model

    if opened is None:
        return place
    if opened.model.hugging_face is None:
        raise BadInput(
            f"transformers has no architecture for a `{opened.model.architecture}`", hint="--engine picolab traces it"
        )
    save_model(opened.model, opened.tokenizer, folder / "model")
    return folder / "model"


def _for_llama_cpp(opened: Opened | None, place: Path, folder: Path) -> Path:
    from picolab.weights.gguf.write import write_gguf

    if place.suffix == ".gguf" or opened is None:
        return place
    path = folder / "model.gguf"
    write_gguf(opened.model, None, path)  # ids are given: no vocabulary is needed
    return path
