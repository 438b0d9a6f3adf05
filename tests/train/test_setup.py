"""From settings to a task, on the shipped data."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from picolab.errors import BadData, BadInput, BadSetting, UnknownName
from picolab.runs.folder import Run
from picolab.runs.settings import Settings, resolve
from picolab.train.events import Reading, Started
from picolab.train.loop import train
from picolab.train.setup import build_model, dataset_of, fingerprint, next_token_task, settle


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICOLAB_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def small(**changes: Any) -> Settings:
    return resolve(
        overrides={"data": "numeric", "steps": 3, "context_length": 32, "batch_size": 4, "d_model": 16, "d_ff": 32}
        | changes
    )


def test_the_task_is_what_the_settings_say() -> None:
    task = next_token_task(small(tokenizer="integers"))
    assert task.batch(0).tokens.shape == (4, 32) and task.model.config.context_length == 32
    assert task.model.config.vocab_size == task.tokenizer.vocab_size  # type: ignore[union-attr]
    assert task.settings.data.context_length == 32 and task.settings.optimizer.warmup == 0
    assert task.facts["tokenizer_fingerprint"] and task.facts["splits"]
    json.dumps(task.facts)


def test_a_token_budget_becomes_steps() -> None:
    task = next_token_task(small(steps="none", tokens=5000))
    read = sum(task.batch(step).scored for step in range(task.steps))
    assert abs(read - 5000) < 2 * task.tokens_per_step


def test_the_seed_decides_init_and_order_and_leaves_the_split() -> None:
    one, same, other = (next_token_task(small(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(one.batch(5).tokens, same.batch(5).tokens)
    assert not torch.equal(one.batch(5).tokens, other.batch(5).tokens)
    assert torch.equal(one.model.head.weight, same.model.head.weight)
    assert not torch.equal(one.model.head.weight, other.model.head.weight)
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(one.validation, other.validation, strict=True))


def test_fewer_training_documents_leave_what_is_held_out_and_the_tokenizer_alone() -> None:
    whole, few = (dataset_of(small(data="stories", **more)) for more in ({}, {"train_examples": 7}))
    assert few.train.n_documents == 7 < whole.train.n_documents
    assert few.tokenizer.fingerprint == whole.tokenizer.fingerprint
    assert [few.train.document(i).tolist() for i in range(7)] == [whole.train.document(i).tolist() for i in range(7)]  # type: ignore[union-attr]
    assert few.train.n_tokens == sum(len(whole.train.document(i)) + 1 for i in range(7))  # type: ignore[union-attr]
    assert np.array_equal(few.validation.ids, whole.validation.ids)  # type: ignore[union-attr]
    assert fingerprint(few) != fingerprint(whole)
    task = next_token_task(small(data="stories", train_examples=1, tokenizer="bytes"))
    text = whole.tokenizer.decode(whole.train.document(0).tolist())  # type: ignore[union-attr]
    seen = {int(i) for step in range(5) for i in task.batch(step).tokens.flatten()}
    assert seen <= {*text.encode(), task.tokenizer.eot}  # type: ignore[union-attr]
    with pytest.raises(BadData, match="9999999 training documents are asked for, and `3seqs` has"):
        dataset_of(small(data="3seqs", train_examples=9999999))
    with pytest.raises(BadSetting, match="does not say how many documents of each part of a blend"):
        dataset_of(small(data="stories=0.5,numeric=0.5", train_examples=9))


@pytest.mark.parametrize("data", ["numeric", "stories"])
@pytest.mark.parametrize("tokenizer", ["auto", "bytes"])
def test_bytes_of_all_validation_batches_are_those_of_the_text(data: str, tokenizer: str) -> None:
    from picolab.data.prepare import prepare

    task = next_token_task(small(data=data, tokenizer=tokenizer, limit_examples="200", eval_batches="none"))
    store = prepare(data, tokenizer=tokenizer, limit_examples=200).validation
    assert sum(batch.scored for batch in task.validation) == store.n_tokens
    assert task.validation_bytes == store.n_bytes


def test_all_of_an_architecture_is_written_down_and_builds_the_same_model() -> None:
    model = build_model(small(), vocab_size=11)
    settled = settle(small(), model, rows=32, steps=200)
    assert settled.optimizer.warmup == 20 and settled.optimizer.min_lr == pytest.approx(1e-4)
    again = build_model(settled, vocab_size=11)
    assert dataclasses.asdict(again.config) == dataclasses.asdict(model.config)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"model.preset": "lstn"}, UnknownName, "no preset is called `lstn`"),
        ({"model.n_layerz": "3"}, UnknownName, "no setting of gpt2 is called `n_layerz`"),
        ({"n_heads": "3"}, BadSetting, "d_model 16 is not a multiple of n_heads 3"),
        (
            {"model.context_length": "16"},
            BadSetting,
            "`data.context_length` 32 is longer than the model's context of 16",
        ),
        ({"model.vocab_size": "5"}, BadSetting, "`model.vocab_size` 5 is smaller than the tokenizer's 11"),
    ],
)
def test_a_model_that_cannot_be_is_refused(changes: dict[str, str], kind: type[BadInput], message: str) -> None:
    with pytest.raises(kind, match=message):
        build_model(small(**changes), vocab_size=11)


def test_a_real_run_is_repeated_from_its_own_settings(tmp_path: Path) -> None:
    first = train(small(out=str(tmp_path / "a"), tokenizer="bytes", sample_tokens="5"))
    again = train(resolve(config_file=first.path / "settings.yaml", overrides={"out": str(tmp_path / "b")}))
    assert [row.get("train/loss") for row in first.metrics()] == [row.get("train/loss") for row in again.metrics()]
    assert first.samples == again.samples != []
    assert Run.open(again.path).meta["data"] == first.meta["data"]
    assert all(row["val/bits_per_byte"] > 0 for row in first.metrics() if "val/loss" in row)


def test_a_run_does_not_go_on_with_text_that_has_changed(tmp_path: Path) -> None:
    corpus = tmp_path / "text.txt"
    corpus.write_text("\n\n".join(f"This is story {number}, and it ends." for number in range(60)))
    run = train(small(data=str(corpus), out=str(tmp_path / "run"), tokenizer="bytes", sample_tokens="0"))
    longer = run.settings.changed(training={"steps": 5})
    assert train(longer, resume=run).metrics()[-1]["step"] == 5
    corpus.write_text(corpus.read_text().replace("story 7,", "story 8,"))
    with pytest.raises(BadData, match="has changed since"):
        train(longer.changed(training={"steps": 7}), resume=run)


def test_an_unknown_preset_or_setting_is_refused_before_the_corpus_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PICOLAB_HOME", str(tmp_path / "home"))
    read: list[int] = []
    settings = resolve(overrides={"data": "stories-shipped", "steps": 1})
    for model, says in (
        ({"preset": "lstn"}, "no preset is called `lstn`"),
        ({"d_modle": 8}, "no setting of .* is called `d_modle`"),
    ):
        wrong = settings.changed(model=model)
        with pytest.raises(UnknownName, match=says):
            next_token_task(wrong, reading=lambda done, total: read.append(done))
    assert not read


def test_a_corpus_that_is_read_for_a_run_is_heard_of_by_who_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PICOLAB_HOME", str(tmp_path / "home"))
    small = {
        "model.preset": "lstm",
        "data": "stories-shipped",
        "tokenizer": "bytes",
        "steps": 1,
        "out": str(tmp_path / "run"),
    }
    told: list[Any] = []
    train(resolve(overrides=small), report=told.append)
    reading = [event for event in told if isinstance(event, Reading)]
    assert reading and reading[0].done == 0 and reading[-1].done == reading[-1].total
    assert told.index(reading[-1]) < next(i for i, event in enumerate(told) if isinstance(event, Started))
