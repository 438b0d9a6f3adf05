"""A mistake of the catalogue, on disk: `python docs/findings/broken.py rope-theta broken`.

broken/reference     a tiny model of random numbers, none of them neutral, as a checkpoint
broken/target        what an engine with one wrong line would have written down of one text: a trace bundle

picolab diff broken/reference broken/target
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path

from picolab.diagnose.causes.catalogue import CATALOGUE
from picolab.diagnose.causes.cause import Bend
from picolab.diagnose.injured import injured_recording, recorded
from picolab.diagnose.self_test import anatomy_of, examples, matters
from picolab.diagnose.tiny import HOSTS, sharp, some_schedule
from picolab.diagnose.walk import walk
from picolab.trace.bundle import write_bundle
from picolab.trace.recording import Recording
from picolab.weights.checkpoint import save_model

BY_HAND = {"dtype-noise"}
"""What no line does wrong, and the search names all the same."""

IN_WORDS = {"token-ids": "every token but one is looked up as another"}
"""Where the mistake by itself cannot say what it does to a text it does not know."""


def example_of(cause: str) -> tuple[str, Bend]:
    """The model and the mistake that a page shows: the first that changes what is computed."""
    for host in HOSTS:
        for bend in examples(host):
            if bend.cause == cause and matters(host, bend):
                return host, bend
    raise SystemExit(f"no cause is called `{cause}`: {', '.join([*(c.name for c in CATALOGUE), *BY_HAND])}")


def said(bend: Bend) -> str:
    """The mistake in words."""
    return IN_WORDS.get(bend.cause, bend.says())


def in_bfloat16() -> Recording:
    """A model in bfloat16, whose recording says nothing of it."""
    from picolab.diagnose.anatomy import Anatomy

    values = walk(Anatomy(copy.deepcopy(sharp("llama")).bfloat16()), some_schedule())
    return recorded({key: value.float() for key, value in values.items()}, some_schedule())


def make(cause: str) -> tuple[str, str, Callable[[], Recording]]:
    """A model's name, what is wrong with it in words, and what its engine writes down."""
    if cause in BY_HAND:
        return "llama", "every number is rounded to bfloat16, and the recording says float32", in_bfloat16
    host, bend = example_of(cause)
    return host, said(bend), lambda: injured_recording(anatomy_of(host), some_schedule(), [bend])


def main(cause: str, folder: str = "broken") -> None:
    """Write both, and say what was done."""
    host, says, record = make(cause)
    save_model(sharp(host), None, Path(folder) / "reference")
    write_bundle(record(), Path(folder) / "target")
    print(f"{folder}/reference is a tiny {host}; {folder}/target has one mistake more:\n{says}")


if __name__ == "__main__":
    main(*sys.argv[1:])
