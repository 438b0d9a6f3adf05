"""Which study is meant? A file, a shipped name, or a folder where one lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from picolab.errors import BadInput, UnknownName
from picolab.studies.study import Study


def asked_study(what: str, *, tiny: bool, seeds: str | None, seed: int | None) -> tuple[Study, Path | None]:
    """The study, and the folder to go on in where one was named."""
    from picolab.recipes.studies import SHIPPED, shipped
    from picolab.studies.read import read_study
    from picolab.studies.storage import is_study, load_study

    path = Path(what)
    if path.is_dir() and is_study(path):
        if tiny or seeds is not None or seed is not None:
            raise BadInput(
                f"`{path}` holds a study already, which goes on as it began",
                hint="leave out --tiny, --seeds and --seed",
            )
        return load_study(path), path
    if what in SHIPPED:
        study = shipped(what, tiny=tiny)
    elif path.suffix in (".yaml", ".yml") or path.is_file():
        study = read_study(path, tiny=tiny)
    else:
        raise UnknownName("study or file", what, SHIPPED)
    if seeds is not None:
        study = replace(study, seeds=_seeds(seeds))
    if seed is not None:
        study = replace(study, search_seed=seed)
    return study, None


def _seeds(words: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(word) for word in words.split(","))
    except ValueError as error:
        raise BadInput(f"`--seeds` is `{words}`, not a number or a list", hint="--seeds 3, or --seeds 0,3,4") from error
    chosen = tuple(range(numbers[0])) if len(numbers) == 1 else numbers
    if not chosen or min(chosen) < 0 or len(set(chosen)) < len(chosen):
        raise BadInput(f"`--seeds {words}` is no set of seeds", hint="--seeds 3, or --seeds 0,3,4")
    return chosen
