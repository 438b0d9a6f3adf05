"""Preference training in the loop that trains everything: it learns, resumes to the bit, asks its reference once, refuses."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from picolab.data.pairs import TokenPair
from picolab.errors import BadData, BadInput, BadSetting
from picolab.runs.folder import Run, create_run
from picolab.runs.preference import changes_of
from picolab.runs.settings import Settings, resolve
from picolab.text.build import build_tokenizer
from picolab.train import dpo_reference
from picolab.train.dpo import PairLoader, dpo_task, task_of
from picolab.train.dpo_reference import identity, logps_of, reference_logps
from picolab.train.dpo_remarks import STILL_STEPS, Remarks
from picolab.train.events import Evaluated, Event, Step
from picolab.train.loop import train
from picolab.weights.checkpoint import save_model
from picolab.zoo import create

SPEC = "numeric:counting+alternating:numbers=32:documents=400"
SMALL = {
    "model": "softmax-pico",
    "model.d_model": "32",
    "model.d_ff": "64",
    "model.n_heads": "2",
    "context_length": "32",
}
USUAL = {"dtype": "float32", "device": "cpu", "eval_batches": "2", "sample_tokens": "4", "data": SPEC}


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for all: the corpus is made once."""
    place = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PICOLAB_HOME", str(place))
        yield place


@pytest.fixture
def fresh_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PICOLAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Path:
    """A model that has learned a little of counting."""
    out = tmp_path_factory.mktemp("base") / "run"
    return train(resolve(overrides={**SMALL, **USUAL, "steps": "60", "lr": "1e-2", "out": str(out)})).path


def settings_of(base: Path, out: Path | None = None, **changes: Any) -> Settings:
    layers = {
        **USUAL, "model": "softmax-pico", "dpo.base": str(base), "dpo.pairs": "200", "dpo.held_out": "40", "steps": "6",
        "batch_size": "8", "lr": "3e-3", "eval_every": "6", "checkpoint_every": "2", "sample_every": "100", "warmup": "0",
        **({} if out is None else {"out": str(out)}),
    }  # fmt: skip
    return resolve(overrides={**layers, **{name.replace("__", "."): value for name, value in changes.items()}})


def weights(run: Run, step: int) -> dict[str, torch.Tensor]:
    return load_file(run.path / "checkpoints" / f"step-{step:07d}" / "model.safetensors")


def a_taste(path: Path) -> str:
    """Whatever the prompt, 3 is better than 4: a rule that shows on prompts never seen."""
    rows = [
        {"prompt": f"{a} {b}", "chosen": " 3" * n, "rejected": " 4" * n, "kind": ("short", "long")[n > 2]}
        for a in range(12)
        for b in range(12)
        for n in [1 + (a + b) % 4]
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def test_it_learns_to_tell_pairs_apart_that_it_has_not_seen_and_says_so_on_disk(base: Path, tmp_path: Path):
    taste = a_taste(tmp_path / "taste.jsonl")
    run = train(settings_of(base, tmp_path / "run", data=taste, steps="20", validation="0.2"), task_of=task_of)
    changes = changes_of(run)
    assert changes is not None and changes.step == 20
    assert [kind.name for kind in changes.kinds] == ["long", "short", "all"]
    assert (
        changes.overall.pairs == changes.kinds[0].pairs + changes.kinds[1].pairs == run.meta["data"]["held_out_pairs"]
    )
    assert changes.overall.rewarded == changes.overall.likelier_after == 1.0 > changes.overall.likelier_before
    assert changes.kl > 0.01 and changes.rewards["margins"] > 0.1
    rows = run.metrics()
    assert rows[0]["val/rewards/accuracies"] == 0.5 and rows[0]["val/kl"] == pytest.approx(0, abs=1e-9)
    assert rows[1]["train/loss"] == pytest.approx(math.log(2), abs=1e-4)
    for name in ("chosen", "rejected", "margins", "accuracies"):
        assert f"rewards/{name}" in rows[-1]
    assert rows[-1]["rewards/margins"] == pytest.approx(
        rows[-1]["rewards/chosen"] - rows[-1]["rewards/rejected"], abs=1e-5
    )


def test_a_resumed_run_ends_in_the_same_bits_as_one_never_stopped(base: Path, tmp_path: Path):
    whole = train(settings_of(base, tmp_path / "whole", imitation="0.5"), task_of=task_of)
    parts = create_run(whole.settings.changed(out=str(tmp_path / "parts")))
    for step in (2, 4):  # what a kill leaves: the checkpoints of some steps
        place = f"checkpoints/step-{step:07d}"
        shutil.copytree(whole.path / place, parts.path / place)
    (parts.path / "metrics.jsonl").write_bytes((whole.path / "metrics.jsonl").read_bytes())
    parts.update_meta(data=whole.meta["data"])
    gone_on = train(settings_of(base, imitation="0.5"), resume=parts, task_of=task_of)
    a, b = weights(whole, 6), weights(gone_on, 6)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert [row["train/loss"] for row in whole.metrics()[1:]] == [row["train/loss"] for row in gone_on.metrics()[1:]]


def test_pieces_of_a_step_give_the_same_training(base: Path, tmp_path: Path):
    ends = [
        weights(train(settings_of(base, tmp_path / n, accumulate=n, imitation="1", steps="2"), task_of=task_of), 2)
        for n in "14"
    ]
    for name, one in ends[0].items():
        torch.testing.assert_close(one, ends[1][name], rtol=1e-3, atol=2e-5, msg=name)


@pytest.mark.parametrize(
    ("change", "says"), [({"beta": "0.2"}, "`dpo.beta` 0.1, not 0.2"), ({"kinds": "off"}, "`dpo.kinds`")]
)
def test_a_run_goes_on_with_its_own_preferences_only(base: Path, tmp_path: Path, change: dict[str, str], says: str):
    run = train(settings_of(base, tmp_path / "run", steps="2"), task_of=task_of)
    with pytest.raises(BadSetting, match=says):
        train(settings_of(base, steps="4", **change), resume=run, task_of=task_of)


def test_a_base_that_has_changed_is_another_run(base: Path, tmp_path: Path):
    mine = tmp_path / "base"
    shutil.copytree(base, mine)
    run = train(settings_of(mine, tmp_path / "run", steps="2"), task_of=task_of)
    (checkpoint,) = Run(mine).checkpoints
    tensors = load_file(checkpoint.path / "model.safetensors")
    save_file(
        {n: 1.01 * t for n, t in tensors.items()}, checkpoint.path / "model.safetensors", metadata={"format": "pt"}
    )
    with pytest.raises(BadData, match="has changed since"):
        train(settings_of(mine, steps="4"), resume=run, task_of=task_of)


def test_settings_on_disk_repeat_the_run_and_other_runs_say_nothing_of_preferences(base: Path, tmp_path: Path):
    run = train(settings_of(base, tmp_path / "run", steps="3"), task_of=task_of)
    again = train(
        resolve(config_file=run.path / "settings.yaml", overrides={"out": str(tmp_path / "again")}), task_of=task_of
    )
    assert all(torch.equal(weights(run, 3)[n], weights(again, 3)[n]) for n in weights(run, 3))
    assert "dpo:" in (run.path / "settings.yaml").read_text()
    assert "dpo:" not in (base / "settings.yaml").read_text()


# The reference.


PAIRS = [TokenPair((1, 2), (3, 4), (4, 3, 5), "x"), TokenPair((2,), (7, 7, 7), (1,), "y")]


def small(seed: int = 0) -> Any:
    return create("softmax-pico", vocab_size=16, seed=seed, d_model=16, d_ff=16, context_length=16)


def test_the_reference_is_asked_once(fresh_home: Path, monkeypatch: pytest.MonkeyPatch):
    model, calls = small(), []
    monkeypatch.setattr(dpo_reference, "logps_of", lambda *a, **k: calls.append(1) or logps_of(*a, **k))
    for _ in range(2):
        found = reference_logps(model, PAIRS, fill=0, key=identity(model, "words"))
        torch.testing.assert_close(found, logps_of(model, PAIRS, fill=0), rtol=0, atol=0)
    assert len(calls) == 1
    other = small(seed=1)
    for model, pairs, words in (
        (other, PAIRS, "words"),
        (small(), PAIRS[:1], "words"),
        (small(), PAIRS, "other words"),
    ):
        reference_logps(model, pairs, fill=0, key=identity(model, words))
    assert len(calls) == 4, "other weights, other pairs and another tokenizer are each asked anew"


def test_a_torn_answer_of_the_reference_is_computed_again(fresh_home: Path):
    model = small()
    key = identity(model, "words")
    found = reference_logps(model, PAIRS, fill=0, key=key)
    (file,) = fresh_home.rglob("logps.npy")
    file.write_bytes(file.read_bytes()[:-5])
    torch.testing.assert_close(reference_logps(model, PAIRS, fill=0, key=key), found, rtol=0, atol=0)


def test_asking_leaves_the_model_in_its_mode():
    model = small().train()
    logps_of(model, PAIRS, fill=0)
    assert model.training


def test_a_reference_with_another_tokenizer_is_refused(base: Path, tmp_path: Path):
    save_model(small(), _words_of_16(), tmp_path / "other")
    with pytest.raises(BadInput, match=r"reads another tokenizer \(16 tokens\) than .* \(34 tokens\)"):
        dpo_task(settings_of(base, reference=str(tmp_path / "other")))


def _words_of_16() -> Any:
    return build_tokenizer("integers", lambda: iter([" ".join(map(str, range(14)))]))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dpo__base": "softmax-pico"}, "`softmax-pico` is a preset"),
        ({"beta": "0"}, "`beta` is 0"),
        ({"strategy": "fsdp"}, "fsdp does not go with"),
        ({"dpo__base": "nothing/there"}, "no model or run is called"),
        ({"kinds": "lop"}, "no mistake in integers is called `lop`"),
        ({"response_tokens": "300"}, "`response_tokens` 300 and a prompt are more than the model's context of 32"),
    ],
)
def test_what_cannot_be_trained_is_refused(base: Path, changes: dict[str, str], says: str):
    with pytest.raises(BadInput, match=says):
        dpo_task(settings_of(base, **changes))


def test_every_pair_is_read_once_an_epoch_in_an_order_of_its_own():
    pairs = [TokenPair((1,), (2, i), (3, 4), "x") for i in range(10)]
    logps = torch.arange(20.0).view(10, 2)
    loader = PairLoader(pairs=pairs, logps=logps, batch_size=4, seed=3, fill=0)
    read = [int(batch.targets[i, 0, 1]) for step in range(5) for batch in [loader.batch(step)] for i in range(4)]
    assert sorted(read[:10]) == sorted(read[10:]) == list(range(10)) and read[:10] != read[10:]
    batch = loader.batch(2)
    assert torch.equal(batch.reference, loader.batch(2).reference)
    assert batch.reference[:, 0].tolist() == [2.0 * pair for pair in read[8:12]], "each pair has its own reference"


# Remarks.


def said(losses: list[float], **figures: float) -> list[str]:
    remarks = Remarks(at_start=math.log(2), imitation=0.0)
    given = {"rewards/chosen": 0.0, "rewards/margins": 0.0, **figures}
    return [line for step, loss in enumerate(losses) for line in remarks.after_step(step, loss, given)]


def test_a_loss_that_stays_at_ln_2_is_remarked_once_and_one_that_falls_is_not():
    (line,) = said([math.log(2)] * 60)
    assert "0.6931 for 20 steps" in line and "raise --lr" in line
    assert said([math.log(2)] * (STILL_STEPS - 1)) == []
    assert said([math.log(2) - 0.002 * step for step in range(60)]) == []


def test_a_falling_chosen_reward_is_remarked_with_its_numbers():
    (line,) = said([0.4] * 40, **{"rewards/chosen": -0.8, "rewards/margins": 1.0})
    assert "their reward is -0.80" in line and "rejected about -1.80" in line and "--imitation 1" in line


def test_accuracy_that_stays_at_chance_is_remarked():
    remarks = Remarks(at_start=1.0, imitation=0.0)
    heard = [remarks.after_evaluation(step, 0.5) for step in range(5)]
    assert [len(lines) for lines in heard] == [0, 0, 0, 1, 0]
    assert "stayed at 50% or below" in heard[3][0]
    learning = Remarks(at_start=1.0, imitation=0.0)
    assert not any(learning.after_evaluation(step, 0.5 + step / 20) for step in range(6))


def test_events_carry_the_figures(base: Path, tmp_path: Path):
    heard: list[Event] = []
    train(settings_of(base, tmp_path / "run", steps="2"), task_of=task_of, report=heard.append)
    steps = [event for event in heard if isinstance(event, Step)]
    judged = [event for event in heard if isinstance(event, Evaluated)]
    assert len(steps) == 2 and all("rewards/accuracies" in event.figures for event in steps)
    assert all("val/rewards/accuracies" in event.figures for event in judged)
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 2
