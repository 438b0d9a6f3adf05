"""What the tests of diagnosis share: twins, a schedule, recordings of walks with faults, of engines, of a few places only."""

from __future__ import annotations

import functools

import torch

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.catalogue import CATALOGUE
from picolab.diagnose.walk import Schedule, walk
from picolab.trace.elsewhere import record_engine
from picolab.trace.engines.here import Here
from picolab.trace.recording import Entry, Recording

from zoo_twins import adversarial, some_tokens

TOKENS = tuple(some_tokens(1, 15)[0].tolist())
SCHEDULE = Schedule(TOKENS, 13)
FEW = {
    "embed",
    "blocks.0.attention.q_rope",
    "blocks.0.attention.q",
    "blocks.0.resid_post",
    "blocks.1.resid_post",
    "logits",
}
"""Five arrays, as somebody's own engine would dump them."""

twin = functools.cache(adversarial)


@functools.cache
def anatomy(name):
    return Anatomy(twin(name))


def recording(values, sites=None, dtype="float32"):
    """The values of a walk as an engine's recording; of some sites only."""
    made = Recording(engine="elsewhere", dtype=dtype, tokens=torch.tensor([TOKENS]))
    for key, value in values.items():
        if sites is None or key.site in sites:
            positions = tuple(range(13)) if key.phase == "prefill" else (13 + key.step,)
            made.entries.append(Entry(key.site, key.phase, key.step, positions, None, value))
    return made


def faulty(name, *faults, sites=None):
    """The recording of a twin that makes these mistakes."""
    return recording(walk(anatomy(name), SCHEDULE, faults=faults), sites)


def of_model(model, sites=None):
    """The recording of any model here, as it runs now."""
    whole = record_engine(Here(model), TOKENS, prefill=13)
    if sites is not None:
        whole.entries = [entry for entry in whole.entries if entry.site in sites]
    return whole


def causes(verdict):
    return [born.cause for born in verdict.born]


def example(host, name, says=""):
    """A mistake of this cause to put into a twin; of several the first that says so."""
    cause = next(cause for cause in CATALOGUE if cause.name == name)
    return next(example for example in cause.examples(anatomy(host)) if says in example.says())
