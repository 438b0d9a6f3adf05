"""Every cause, injected into twins where attention is far from uniform, is named first, at its place, and leaves only rounding."""

import functools
import importlib

import pytest
import torch

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.catalogue import CATALOGUE
from picolab.diagnose.diff import diff
from picolab.diagnose.noise import Floor
from picolab.diagnose.walk import difference, walk

from faulty_twins import SCHEDULE, anatomy, faulty, twin
from zoo_twins import adversarial

diff_module = importlib.import_module("picolab.diagnose.diff")

HOSTS = ("llama", "gpt2", "qwen2 plain", "nanochat", "qwen3", "mistral", "gpt_oss")


def cases():
    """The first and the last example of every cause; the hosts take turns, so that all have their share."""
    turn = 0
    for cause in CATALOGUE:
        able = {host: len(cause.examples(anatomy(host))) for host in HOSTS}
        for number in sorted({0, max(able.values()) - 1}):
            hosts = [host for host in HOSTS if number < able[host]]
            host = hosts[turn % len(hosts)]
            turn += 1
            yield pytest.param(host, cause, number, id=f"{cause.name}-{number}-{host}")


@pytest.fixture(autouse=True)
def floors(monkeypatch):
    """The rounding of a twin is the same in every test: it is measured once."""
    monkeypatch.setattr(diff_module, "Floor", lambda anatomy, schedule, dtype: floor_of(anatomy.model, schedule, dtype))


@functools.cache
def floor_of(model, schedule, dtype):
    return Floor(Anatomy(model), schedule, dtype)


@pytest.mark.parametrize(("host", "cause", "number"), list(cases()))
def test_a_cause_is_named_first_and_certain_where_it_sits(host, cause, number):
    example = cause.examples(anatomy(host))[number]
    right, wrong = walk(anatomy(host), SCHEDULE), walk(anatomy(host), SCHEDULE, faults=[example])
    verdict = diff(twin(host), faulty(host, example))
    if not changes_the_function(host, example):
        assert verdict.verdict in ("equal", "noise") and verdict.born == ()
        return
    first = next(key for key in right if difference(right[key], wrong[key], key.site) > 1e-5)
    assert verdict.verdict == "diverged"
    assert [(b.cause, b.site) for b in verdict.born] == [(example.cause, first.site)], verdict.born
    assert verdict.born[0].explanations[0].certain
    assert verdict.remaining <= verdict.noise_floor


@functools.cache
def exactly(host):
    exact = Anatomy(adversarial(host).double())
    return exact, walk(exact, SCHEDULE)


def changes_the_function(host, example):
    """Whether the logits differ in float64, where rounding cannot hide it."""
    exact, right = exactly(host)
    wrong = walk(exact, SCHEDULE, faults=[example])
    return any(difference(right[key], wrong[key], key.site) > 1e-10 for key in right if key.site == "logits")


def example_of(name, host, says=""):
    cause = next(cause for cause in CATALOGUE if cause.name == name)
    return next(example for example in cause.examples(anatomy(host)) if says in example.says())


@pytest.mark.parametrize(
    ("host", "name", "says"),
    [
        ("gpt2", "bias-missing", "attention.k"),  # the same number for every key: softmax does not see it
        ("mistral", "cache-offset", "first slot"),  # its window has left that slot behind
    ],
)
def test_a_change_that_is_no_change_of_the_function_is_no_fault(host, name, says):
    example = example_of(name, host, says)
    assert not changes_the_function(host, example)
    right, wrong = walk(anatomy(host), SCHEDULE), walk(anatomy(host), SCHEDULE, faults=[example])
    assert name != "bias-missing" or any(not torch.equal(right[key], wrong[key]) for key in right)
    verdict = diff(twin(host), faulty(host, example))
    assert verdict.verdict in ("equal", "noise") and verdict.born == ()


def test_the_shares_of_a_sum_are_recovered_as_numbers():
    example = example_of("residual-scale", "llama", "0.9 x stream + 1.1 x layer")
    told = diff(twin("llama"), faulty("llama", example)).born[0].explanations[0]
    assert told.evidence["stream"] == pytest.approx(0.9, rel=1e-4)
    assert told.evidence["layer"] == pytest.approx(1.1, rel=1e-4)


def test_what_each_query_sees_is_read_off_the_probabilities():
    example = example_of("mask-window", "llama")
    told = diff(twin("llama"), faulty("llama", example)).born[0].explanations[0]
    assert told.evidence["window"] == 7


def test_the_first_number_that_is_none_is_found_in_its_row():
    example = example_of("nonfinite", "llama", "index [0, 3, 5]")
    verdict = diff(twin("llama"), faulty("llama", example))
    assert verdict.born[0].explanations[0].evidence == {
        "site": "blocks.1.mlp_norm", "numbers": 1, "first": [0, 3, 5], "is": "nan"
    }  # fmt: skip


def test_every_cause_has_an_example_on_some_twin_and_its_own_name():
    names = [cause.name for cause in CATALOGUE]
    assert len(names) == len(set(names))
    for cause in CATALOGUE:
        examples = [example for host in HOSTS for example in cause.examples(anatomy(host))]
        assert examples and cause.says and cause.look_for
        assert all(example.says() for example in examples)
