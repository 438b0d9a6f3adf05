"""What `picolab doctor RUN` reads: curves, learning rates, preference training, a run's own data; and what it prints."""

import json
import math
import re

import numpy as np
import pytest

from picolab.cli.app import main
from picolab.diagnose.doctor import patient_of
from picolab.diagnose.laws.catalogue import LAWS
from picolab.diagnose.laws.law import Patient, examine
from picolab.diagnose.laws.offered import History
from picolab.diagnose.laws.offers import history_of
from picolab.runs.folder import Run
from picolab.runs.settings import resolve
from picolab.train.loop import train
from picolab.train.schedules import Cosine

BY_NAME = {law.name: law for law in LAWS}
STEPS = 200
SCHEDULE = Cosine(lr=1e-3, min_lr=1e-4, warmup=20, steps=STEPS)


def noise(seed=0, size=0.05):
    return np.random.default_rng(seed).normal(0, size, STEPS)


def healthy_rows():
    """A training as they go: fast, then slower, noisy, evaluated now and then."""
    rows = []
    for step, jitter in enumerate(noise(), start=1):
        fall = 2.0 + 5.5 * math.exp(-step / 40)
        row = {"step": step, "tokens": 256 * step, "train/loss": fall + jitter, "lr": SCHEDULE.at(step - 1)}
        row["grad_norm"] = 0.6 + 2 * math.exp(-step / 20) + abs(jitter)
        if step % 25 == 0:
            row["val/loss"] = fall + 0.1 + jitter / 5
        rows.append(row)
    return rows


def changed(change):
    rows = healthy_rows()
    for row in rows:
        row.update(change(row["step"], row))
    return rows


def ask(name, rows, **known):
    told = {"learning_rate": lambda step: SCHEDULE.at(step - 1), "steps": STEPS, "vocab_size": 2048, "unigram": 6.0}
    history = History(rows=rows, **(told | known))
    sick = Patient(name="x", forward=lambda t: t, vocab_size=0, history=history, missing="rows alone")
    (finding,) = examine(sick, [BY_NAME[name]])
    return finding


CURVES = ("loss-curve", "unigram", "overfitting", "gradient-norm", "learning-rate")


@pytest.mark.parametrize("name", CURVES)
def test_a_healthy_training_breaks_no_law(name):
    assert ask(name, healthy_rows()).status == "pass", ask(name, healthy_rows()).says


def turned(step, row):
    return {"val/loss": row["val/loss"] + max(0, step - 100) / 100} if "val/loss" in row else {}


def by_heart(step, row):
    return {"train/loss": 0.02 + 4 * math.exp(-step / 30)}


def stands_still(step, row):
    return {"train/loss": 6.1 + 1.5 * math.exp(-step / 9)} | ({"val/loss": 6.2} if "val/loss" in row else {})


def bent_rate(rule):
    return lambda step, row: {"lr": rule(step)}


@pytest.mark.parametrize(
    ("name", "rows", "says"),
    [
        ("loss-curve", changed(lambda s, r: {"train/loss": 7.62 + noise(3, 0.01)[s - 1]}), "never moved: 7.6"),
        ("loss-curve", changed(lambda s, r: {"train/loss": None} if s == 57 else {}), "not a number at step 57"),
        ("loss-curve", changed(lambda s, r: {"train/loss": 4 + s / 40}), "rises from 4"),
        ("unigram", changed(stands_still),
         "frequencies of the tokens alone give 6.000"),
        ("overfitting", changed(turned), "at the end, while the training loss goes on falling"),
        ("overfitting", changed(by_heart), "it knows its text by heart"),
        ("gradient-norm", changed(lambda s, r: {"grad_norm": 1e-9}), "vanishes"),
        ("gradient-norm", changed(lambda s, r: {"grad_norm": 1.02**s * 3 if s < 100 else 1.09**s}), "explodes"),
        ("gradient-norm", changed(lambda s, r: {"grad_norm": 5e4} if s == 120 else {}), r"jumps to 5e\+04 at step 120"),
        ("gradient-norm", changed(lambda s, r: {"grad_norm": None} if s == 9 else {}), "not a number at step 9"),
        ("learning-rate", changed(bent_rate(lambda s: 1e-3)), "it never changes"),
        ("learning-rate", changed(bent_rate(lambda s: SCHEDULE.at(min(2 * s - 1, STEPS - 1)))), "twice as fast"),
        ("learning-rate", changed(bent_rate(lambda s: SCHEDULE.at(s))), "one step early"),
        ("learning-rate", changed(bent_rate(lambda s: 0.0)), "is 0 at every step"),
        ("learning-rate", changed(lambda s, r: {"lr": 2e-3} if s > 90 else {}), "at step 91 the learning rate is 0.002"),
        ("data-hygiene", [*healthy_rows(), *healthy_rows()], "step 1 comes after step 200"),
    ],
)  # fmt: skip
def test_each_sick_curve_is_caught(name, rows, says):
    finding = ask(name, rows)
    assert finding.status == "fail", finding.says
    assert re.search(says, finding.says), finding.says


def test_learning_rates_from_before_a_run_was_taken_up_again_are_not_judged():
    rows = changed(lambda step, row: {"lr": 7e-4} if step <= 80 else {})
    assert ask("learning-rate", rows).status == "fail"
    assert ask("learning-rate", rows, since=80).status == "pass"


def test_a_training_that_was_stopped_while_it_fell_is_not_called_stupid():
    short = [row | {"train/loss": 7.6 - row["step"] / 200, "val/loss": 6.6} for row in healthy_rows()]
    finding = ask("unigram", short)
    assert finding.status == "skip" and "still falling" in finding.says


def test_a_run_that_diverged_says_so():
    finding = ask("loss-curve", healthy_rows(), status="diverged", says="step 201 gave a loss of nan")
    assert finding.status == "fail" and finding.says == "it diverged: step 201 gave a loss of nan"


# Preference training.


def preferring(**bend):
    """A DPO that works: the margin grows, both rewards may fall a little together."""
    rows = []
    for step, jitter in enumerate(noise(5), start=1):
        margin = 1.2 * (1 - math.exp(-step / 60)) + jitter
        row = {
            "step": step, "train/loss": math.log1p(math.exp(-margin)), "rewards/margins": margin,
            "rewards/chosen": 0.4 * margin, "rewards/rejected": -0.6 * margin,
            "rewards/accuracies": min(1.0, max(0.0, 0.5 + 0.35 * (1 - math.exp(-step / 50)) + 2 * jitter)),
        }  # fmt: skip
        rows.append(row | {name: rule(step, row) for name, rule in bend.items()})
    return [{name.replace("__", "/"): value for name, value in row.items()} for row in rows]


def test_a_preference_training_that_works_breaks_no_law():
    assert ask("preference-curve", preferring()).status == "pass", ask("preference-curve", preferring()).says
    assert ask("loss-curve", preferring()).status == "pass"


@pytest.mark.parametrize(
    ("bend", "says"),
    [
        ({"train/loss": lambda s, r: math.log(2) + 1e-4, "rewards/margins": lambda s, r: 1e-4,
          "rewards/accuracies": lambda s, r: 0.0}, "stays at ln 2"),
        ({"rewards/accuracies": lambda s, r: 0.5 + noise(9)[s - 1]}, "win in 0.[45].* of the pairs to the end"),
        ({"rewards/margins": lambda s, r: -r["rewards/margins"]}, "are the two swapped"),
        ({"rewards/chosen": lambda s, r: -s / 60}, "the reward of chosen answers falls"),
    ],
)  # fmt: skip
def test_each_sick_preference_training_is_caught(bend, says):
    finding = ask("preference-curve", preferring(**bend))
    assert finding.status == "fail", finding.says
    assert re.search(says, finding.says), finding.says


def test_rows_of_transformers_and_trl_are_read_under_their_own_names():
    rows = [{"step": n, "loss": 3.0 - n / 50, "grad_norm": 1.0, "learning_rate": 1e-4} for n in range(1, 60)]
    rows += [{"step": n, "eval_loss": 3.2 - n / 50} for n in (20, 40, 59)]
    history = history_of(rows)
    assert history.curve("train/loss")[0][:3] == [1.0, 2.0, 3.0] and len(history.curve("val/loss")[1]) == 3
    assert history.curve("lr")[1][0] == 1e-4


# A run, whole.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short training on the shipped stories."""
    folder = tmp_path_factory.mktemp("doctor")
    settings = resolve(
        "lstm",
        overrides={
            "d_model": 32, "hidden": 64, "n_layers": 1, "data.context_length": 32, "steps": 150, "batch_size": 8,
            "data.tokenizer": "bytes", "lr": 2e-2, "limit_examples": 200, "eval_every": 20, "sample_tokens": 0,
            "checkpoint_every": 0, "out": str(folder / "run"),
        },
    )  # fmt: skip
    return train(settings)


OF_RUNS = ("data-hygiene", "tokenizer", "loss-curve", "unigram", "overfitting", "gradient-norm", "learning-rate")


def test_the_shipped_stories_run_is_healthy(run):
    patient, notes = patient_of(str(run.path))
    findings = {f.law: f for f in examine(patient, [BY_NAME[name] for name in OF_RUNS])}
    assert {name: (f.status, f.says) for name, f in findings.items() if f.status != "pass"} == {}
    assert "as its batches hold" in findings["data-hygiene"].says and notes == ()


def edited(run, tmp_path, *, rows=None, keep_weights=True):
    """A copy of a run with other rows."""
    import shutil

    there = tmp_path / "copy"
    shutil.copytree(run.path, there)
    if rows is not None:
        (there / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if not keep_weights:
        shutil.rmtree(there / "checkpoints")
    return Run.open(there)


def test_a_run_without_weights_is_read_all_the_same(run, tmp_path, capsys):
    rows = [row | {"lr": 1.0} if "lr" in row else row for row in run.metrics()]
    sick = edited(run, tmp_path, rows=rows, keep_weights=False)
    assert main(["doctor", str(sick.path), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    found = {f["law"]: f for f in said["findings"]}
    assert said["verdict"] == "sick" and found["learning-rate"]["status"] == "fail"
    assert found["causality"]["status"] == "skip" and found["causality"]["says"] == "the run has left no checkpoint"
    assert found["data-hygiene"]["status"] == "pass"


def test_tokens_that_a_run_counted_twice_are_caught(run, tmp_path):
    rows = [row | {"tokens": 2 * row["tokens"]} if "tokens" in row else row for row in run.metrics()]
    patient, _ = patient_of(str(edited(run, tmp_path, rows=rows, keep_weights=False).path))
    (finding,) = examine(patient, [BY_NAME["data-hygiene"]])
    assert finding.status == "fail" and "0.50 times as many" in finding.says


def test_rows_alone_are_read_too(run, capsys, tmp_path):
    assert main(["doctor", str(run.path / "metrics.jsonl")]) == 0
    said = capsys.readouterr().out
    assert "loss-curve" in said and "healthy" in said
    state = tmp_path / "trainer_state.json"
    state.write_text(
        json.dumps({"log_history": [{"step": n, "loss": 0.6931, "rewards/margins": 0.0} for n in range(40)]})
    )
    assert main(["doctor", str(state)]) == 1
    assert "stays at ln 2" in " ".join(capsys.readouterr().out.split())
    state.write_text("{}")
    assert main(["doctor", str(state)]) == 2


def test_the_findings_have_the_shape_that_was_agreed(run, capsys, monkeypatch):
    main(["doctor", str(run.path / "metrics.jsonl"), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert {"model", "verdict", "findings"} <= said.keys() and said["verdict"] in ("healthy", "sick")
    assert all({"law", "status", "says", "evidence", "hint", "seconds"} == set(f) for f in said["findings"])
    assert [f["law"] for f in said["findings"]] == [law.name for law in LAWS]


def test_every_law_is_listed_with_one_line(capsys):
    assert main(["ls", "laws", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in listed] == [law.name for law in LAWS]
    assert len({row["name"] for row in listed}) == len(listed)
    assert all(row["says"] and "\n" not in row["says"] and row["look_for"] for row in listed)
