"""The examiner is examined: it must fail a tool that finds nothing, names wrongly, or cries wolf."""

import dataclasses

import pytest
import torch

from picolab.diagnose import self_test
from picolab.diagnose.injured import injured
from picolab.diagnose.laws.law import Patient, examine
from picolab.diagnose.self_test import Goal, anatomy_of, examples, goals_of_diff, pairs, try_faults, try_healthy
from picolab.diagnose.strange import STRANGE
from picolab.diagnose.tiny import language, sharp, some_schedule
from picolab.diagnose.visible import why_hidden
from picolab.diagnose.walk import Schedule, walk


def bend(host, cause, says=""):
    return next(b for b in examples(host) if b.cause == cause and says in b.says())


def test_a_model_that_is_injured_computes_what_a_walk_with_the_fault_makes_and_is_whole_again_after():
    model, schedule = sharp("llama"), some_schedule()
    wrong = bend("llama", "rope-pairing")
    before = model(torch.tensor([schedule.tokens]))
    with injured(model, [wrong]):
        cache, read = model.new_cache(1, 15), []
        for tokens in (schedule.tokens[:13], schedule.tokens[13:14], schedule.tokens[14:]):
            read.append(model(torch.tensor([tokens]), cache=cache))
    expected = [v for k, v in walk(anatomy_of("llama"), schedule, faults=[wrong]).items() if k.site == "logits"]
    for made, right in zip(read, expected, strict=True):
        torch.testing.assert_close(made, right)
    assert torch.equal(model(torch.tensor([schedule.tokens])), before) and "forward" not in vars(model)


def test_rows_of_a_batch_and_copies_are_injured_alike():
    import copy

    model, tokens = sharp("gpt2"), torch.randint(0, 43, (3, 9), generator=torch.Generator().manual_seed(0))
    wrong = (
        bend("gpt2", "tied-head")
        if any(b.cause == "tied-head" for b in examples("gpt2"))
        else bend("gpt2", "embed-scale")
    )
    rows = [
        list(walk(anatomy_of("gpt2"), Schedule(tuple(row), 9), faults=[wrong]).values())[-1] for row in tokens.tolist()
    ]
    with injured(model, [wrong]):
        together, copied = model(tokens), copy.deepcopy(model)(tokens)
    torch.testing.assert_close(together, torch.cat(rows))
    torch.testing.assert_close(copied, torch.cat(rows))


def test_goals_count_what_came_out_and_a_tool_that_finds_nothing_misses_them(monkeypatch):
    good = [try_faults("llama", [bend("llama", "rope-theta")])]
    assert good[0].good and all(goal.met for goal in goals_of_diff(good)[:3])
    right = self_test.diff
    monkeypatch.setattr(
        self_test, "diff", lambda *a, **k: dataclasses.replace(right(*a, **k), verdict="noise", born=())
    )
    blind = [try_faults("llama", [bend("llama", "rope-theta")])]
    assert not blind[0].detected and not blind[0].good and not any(goal.met for goal in goals_of_diff(blind)[:3])


def test_a_tool_that_cries_wolf_misses_its_goal(monkeypatch):
    name, make = next(iter(self_test.healthy_targets(sharp("llama"), some_schedule())))
    assert try_healthy("llama", name, make).good
    right = self_test.diff
    monkeypatch.setattr(self_test, "diff", lambda *a, **k: dataclasses.replace(right(*a, **k), verdict="diverged"))
    assert not try_healthy("llama", name, make).good


def test_no_trial_is_no_success():
    assert not Goal(name="x", reached=0, of=0, least=0.9).met
    assert Goal(name="x", reached=9, of=10, least=0.9).met and not Goal(name="x", reached=8, of=10, least=0.9).met


def test_of_pairs_each_still_changes_something_beside_the_other():
    import random

    found = list(pairs(random.Random(3), 3))
    assert len(found) == 3 and all(one.cause != two.cause for _, (one, two) in found)


@pytest.mark.parametrize("fault", STRANGE[::3], ids=lambda fault: fault.name)
def test_something_strange_is_not_called_by_a_name(fault):
    trial = self_test.try_strange("llama", fault)
    assert trial.detected and trial.located and not trial.told, trial


def test_a_law_breaks_on_an_injured_model_and_none_on_a_healthy_one():
    patient = Patient.of(sharp("llama"))
    assert [f.law for f in examine(patient, self_test.QUICK) if f.status == "fail"] == []
    wrong = bend("llama", "mask-missing", "every query")
    assert not why_hidden(wrong) and why_hidden(bend("llama", "rope-theta"))
    with injured(sharp("llama"), [wrong]):
        assert "causality" in [f.law for f in examine(patient, self_test.QUICK) if f.status == "fail"]


def test_the_little_language_follows_from_three_letters_before():
    letters = language(2000)
    follows: dict[int, list[int]] = {}
    for at in range(3, 2000):
        follows.setdefault(int(letters[at - 3]), []).append(int(letters[at]))
    agree = sum(max(map(after.count, set(after))) for after in follows.values())
    assert 0.85 < agree / 1997 < 0.95
