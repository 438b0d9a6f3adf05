"""A benchmark times the real work, stage by stage, tells apart what differs in every round, and keeps what it has when stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from picolab.compare.bench import Progress, bench
from picolab.compare.bench_asked import Asked, Contender, works
from picolab.compare.bench_fits import _need, _sketch
from picolab.compare.bench_result import Facts, Measured, rows_of, told_apart
from picolab.compare.bench_text import Shape
from picolab.compare.bench_work import Decode, Prefill, Training, Work
from picolab.errors import BadSetting, PicolabError, UnknownName
from picolab.measure.arithmetic import arithmetic_of
from picolab.measure.limits import Limits, Sizes
from picolab.models.contract import LanguageModel
from picolab.objectives.next_token import next_token
from picolab.runs.reference import load_plan
from picolab.runs.settings import Settings
from picolab.train.optimizers import adamw
from picolab.weights.checkpoint import save_model
from picolab.zoo import PRESETS, create

CPU = torch.device("cpu")
QUICK: dict[str, Any] = {"batch_size": 2, "length": 8, "seconds": 0.001, "rounds": 1, "vocab_size": 31}
SMALL_SIZES = Sizes(side=16, megabytes=1)
ONE = Limits(dtype="float32", products=1e9, copy=1e9, read=1e9)
NAP = 0.05


@pytest.fixture(autouse=True)
def _no_sweeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting garbage before every peak takes longer than the tiny work that is measured here."""
    monkeypatch.setattr("picolab.measure.memory.give_back_unused", lambda: None)


def shape(**changed: Any) -> Shape:
    usual = {"batch_size": 2, "length": 8, "dtype": "float32", "device": CPU, "compiled": False, "seed": 0}
    return Shape(**{**usual, **changed})


def small(preset: str = "softmax-pico", **fields: Any) -> LanguageModel:
    return create(preset, vocab_size=31, **{"d_model": 16, "n_heads": 2, "d_ff": 16, **fields})


def asked(*models: str, **changed: Any) -> Asked:
    return Asked(models=models, sizes=SMALL_SIZES, **{**QUICK, **changed})


# The stages of a step.


def slowed(function: Callable[..., Any]) -> Callable[..., Any]:
    def slow(*args: Any, **named: Any) -> Any:
        time.sleep(NAP)
        return function(*args, **named)

    return slow


class SlowBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
        time.sleep(NAP)
        return slope


def slow_down(stage: str, model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> Training:
    if stage == "loss":
        monkeypatch.setattr(type(model.head), "losses", slowed(type(model.head).losses))
    work = Training(model, shape())
    if stage == "data":
        monkeypatch.setattr(work.loader, "batch", slowed(work.loader.batch))
    elif stage == "forward":
        model.features = slowed(model.features)  # type: ignore[method-assign]
    elif stage == "backward":
        features = model.features
        model.features = lambda *args, **named: SlowBackward.apply(features(*args, **named))  # type: ignore[method-assign]
    elif stage == "optimizer":
        monkeypatch.setattr(work.stepper.optimizer, "step", slowed(work.stepper.optimizer.step))
    return work


@pytest.mark.parametrize("slow", Training.stages)
def test_what_is_slow_shows_in_its_own_stage_and_nowhere_else(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    work = slow_down(slow, small(), monkeypatch)
    work()
    steps = [work() for _ in range(3)]
    least = {stage: min(step[stage] for step in steps) for stage in work.stages}
    assert least[slow] >= NAP
    assert max(seconds for stage, seconds in least.items() if stage != slow) < NAP / 2


def test_the_stages_add_up_to_the_step() -> None:
    work = Training(small(), shape())
    work()
    missing = []
    for _ in range(5):
        began = time.perf_counter()
        stages = work()
        missing.append(time.perf_counter() - began - sum(stages.values()))
        assert set(stages) == set(work.stages)
    assert min(missing) >= 0
    assert min(missing) < 0.002


def test_the_step_is_that_of_training() -> None:
    """Against AdamW by hand on the same rows: the same weights after three steps."""
    work, model = Training(small(), shape()), small().train()
    optimizer = adamw(model, Settings().changed(optimizer={"lr": 1e-4, "min_lr": 1e-4}).optimizer)
    for step in range(3):
        work()
        next_token(model, work.loader.batch(step)).mean.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(work.model.get_parameter(name), parameter, msg=name)
    assert not torch.equal(work.model.head.weight, small().head.weight)


def test_every_row_is_one_document_as_long_as_the_row() -> None:
    batch = Training(small(), shape(batch_size=3)).loader.batch(0)
    assert batch.tokens.shape == (3, 8)
    assert batch.scored == 24
    assert (batch.documents == batch.documents[:, :1]).all()


# Reading and writing.


def test_prompts_are_read_and_written_on_up_to_the_length() -> None:
    model, seen = small().eval(), []
    features = model.features

    def watched(tokens: torch.Tensor, **named: Any) -> torch.Tensor:
        seen.append((tokens.shape, named["cache"].length))
        return features(tokens, **named)

    model.features = watched  # type: ignore[method-assign]
    assert Prefill(model, shape())().keys() == {"prefill"}
    assert seen == [((2, 8), 0)]
    seen.clear()
    work = Decode(model, shape())
    assert work().keys() == {"decode"}
    assert seen == [((2, 4), 0), *(((2, 1), past) for past in (4, 5, 6, 7))]
    assert (work.tokens, work.steps) == (8, 4)


def test_one_step_of_writing_reads_all_weights_and_each_rows_keys_and_values() -> None:
    model = small()
    work = Decode(model, shape(batch_size=3))
    weights = 4 * (sum(p.numel() for p in model.parameters()) - model.position_embedding.weight.numel())
    keys_and_values = sum(2 * 2 * 16 * 4 * past for past in (5, 6, 7, 8))  # two layers, both kinds, 16 lanes of 4 bytes
    assert work.bytes_moved == 4 * weights + 3 * keys_and_values


def test_a_text_that_would_end_early_is_written_on() -> None:
    model = small().eval()
    with torch.no_grad():
        model.head.weight[0] = 9.0  # the end-of-text token
    assert Decode(model, shape())()["decode"] > 0


# Rounds and rows.


class Fake(Work):
    """A work with figures of its own."""

    stages = ("decode",)
    steps = 4

    def __init__(self) -> None:
        self.model, self.tokens = small(), 8

    def __call__(self) -> Mapping[str, float]:
        raise AssertionError("its figures are given")

    @property
    def flops(self) -> float:
        return 8e6

    @property
    def bytes_moved(self) -> float:
        return 4e6


def measured(name: str, *seconds: float) -> Measured:
    return Measured(
        name=name,
        source=name,
        what="decode",
        facts=Facts.of(Fake()),
        peak_bytes=5,
        rounds=[{"decode": s} for s in seconds],
    )


def test_a_row_is_the_round_in_the_middle_and_its_shares_of_the_limits() -> None:
    first = measured("a", 0.02, 0.01, 0.04, 0.03, 0.05)
    (row,) = rows_of([first], ONE)
    assert row.tokens_per_second == pytest.approx(8 / 0.03)
    assert (row.low, row.high) == (pytest.approx(8 / 0.05), pytest.approx(8 / 0.01))
    assert row.spread == pytest.approx((8 / 0.01 - 8 / 0.05) / (8 / 0.03))
    assert (row.step_tokens, row.step_seconds) == (2, pytest.approx(0.03 / 4))
    assert sum(row.stages.values()) == pytest.approx(row.step_seconds)
    assert row.flops_per_token == 1e6
    assert row.share_of_products == pytest.approx(8e6 / 0.03 / 1e9)
    assert (row.bytes_per_token, row.share_of_read) == (5e5, pytest.approx(4e6 / 0.03 / 1e9))
    assert row.share_of_copy is None


def test_models_are_told_apart_where_one_was_faster_in_every_round() -> None:
    # A machine that slows down by half: no round of one model compares with another round of the other.
    a, b = measured("a", 1.0, 1.2, 1.4, 1.8, 2.0), measured("b", 1.1, 1.3, 1.5, 1.9, 2.1)
    c = measured("c", 1.1, 1.1, 1.5, 1.9, 2.1)
    rows = {row.model: row for row in rows_of([a, b, c], ONE)}
    assert rows["b"].told_apart is True
    assert rows["b"].ratio == pytest.approx(1.4 / 1.5, abs=0.02)
    assert rows["b"].ratio_high < 1
    assert rows["c"].told_apart is False
    assert rows["c"].ratio_low < 1 < rows["c"].ratio_high
    assert rows["a"].same_as == ("c",)
    assert rows["b"].same_as == ("c",)
    assert rows["a"].ratio is None


def test_few_rounds_tell_nothing_apart() -> None:
    assert not told_apart([2, 2, 2, 2], [1, 1, 1, 1])
    assert told_apart([2, 2, 2, 2, 2], [1, 1, 1, 1, 1])


def test_rounds_are_taken_by_all_and_a_model_slowed_down_is_slow_in_each(monkeypatch: pytest.MonkeyPatch) -> None:
    from picolab.models.lstm import LSTM

    monkeypatch.setattr(LSTM, "features", slowed(LSTM.features))
    result = bench(asked("softmax-pico:d_model=16", "softmax-pico:d_model=16", "lstm", what=("prefill",), rounds=5))
    assert [row.model for row in result.rows] == ["softmax-pico:d_model=16", "softmax-pico:d_model=16 #2", "lstm"]
    assert [row.rounds for row in result.rows] == [5, 5, 5]
    assert result.rows[2].high <= 16 / NAP
    assert max(row.high for row in result.rows[:2]) > 16 / NAP


# Everything that has a name.

TINY = {"kgram": "hidden=8,d_embed=8", "lstm": "d_model=8,hidden=8", "ngram": "order=3"}
DECODER = "d_model=16,n_heads=2,n_kv_heads=2,n_layers=1,d_ff=16"


def test_every_preset_trains_reads_and_writes() -> None:
    words = [f"{name}:{TINY.get(preset.architecture, DECODER)}" for name, preset in PRESETS.items()]
    words = [word.replace("n_kv_heads=2,", "") if "qwen2" not in word else word for word in words]
    result = bench(asked(*words))
    assert result.skipped == ()
    for what in ("train", "prefill", "decode"):
        rows = [row for row in result.rows if row.what == what]
        assert [row.model for row in rows] == words
        for row in rows:
            assert row.tokens_per_second > 0
            counts = row.model.startswith("ngram")
            assert (row.flops_per_token is None) == counts
            assert (row.bytes_per_token is None) == (counts or what != "decode")
            assert bool(row.notes) == (
                counts or (what != "train" and row.model.startswith(("kgram", "lstm", "linear")))
            )
            stages = {"train": ("data", "count") if counts else Training.stages}.get(what, (what,))
            assert tuple(row.stages) == stages


def test_weights_may_be_kept_in_halves() -> None:
    words = [f"{name}:d_model=16,n_layers=1,d_ff=16,n_heads=2" for name in ("counted-pico", "gpt-oss")]
    rows = bench(asked(*words, dtype="bfloat16")).rows
    assert len(bench(asked("ngram", dtype="bfloat16", what=("decode",))).rows) == 1  # counts have one form
    whole = bench(asked(*words)).rows
    assert [row.what for row in rows] == ["train", "train", "prefill", "prefill", "decode", "decode"]
    assert rows[4].bytes_per_token == pytest.approx(whole[4].bytes_per_token / 2)


def test_a_saved_model_is_measured_and_left_as_it_was(tmp_path: Path) -> None:
    save_model(small(), None, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    before = file.read_bytes()
    result = bench(asked(str(tmp_path / "model"), vocab_size=None))
    assert [row.what for row in result.rows] == ["train", "prefill", "decode"]
    assert result.rows[0].flops_per_token == arithmetic_of(small()).training(8) / 8
    assert file.read_bytes() == before


def test_what_a_model_cannot_do_is_said_by_name() -> None:
    result = bench(asked("lstm", what=("decode",), compiled=True))
    assert result.rows == ()
    (skipped,) = result.skipped
    assert (skipped.model, skipped.what) == ("lstm", "decode")
    assert "cannot be compiled: what it remembers is not a list of keys and values" in skipped.says
    result = bench(asked("softmax-pico", dtype="int8", what=("train", "prefill")))
    assert [(row.model, row.what) for row in result.rows] == [("softmax-pico", "prefill")]
    assert result.skipped[0].says == "no model is trained in int8"


# Stopped, or refused.


def test_what_was_measured_is_kept_when_somebody_has_enough() -> None:
    def stop(progress: Progress) -> None:
        if progress.says.startswith("prefill: round 3"):
            raise KeyboardInterrupt

    threads = torch.get_num_threads()
    result = bench(asked("lstm", "kgram-conv", rounds=4, threads=1), stop)
    assert result.interrupted
    assert [(row.model, row.what, row.rounds) for row in result.rows] == [
        ("lstm", "train", 4),
        ("kgram-conv", "train", 4),
        ("lstm", "prefill", 2),
        ("kgram-conv", "prefill", 2),
    ]
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("words", "changed", "message"),
    [
        (["softmx-pico"], {}, "no model or run is called `softmx-pico`"),
        (["softmax-pico"], {"length": 257}, "`length` 257 is beyond the context of `softmax-pico`, 256 tokens"),
        (["softmax-pico"], {"batch_size": 0}, "`batch_size` is 0, and 1 is the least"),
        (["softmax-pico"], {"seconds": 0.0}, "`seconds` is 0, no time to measure in"),
        (["softmax-pico"], {"device": "cuda:97"}, "device `cuda:97` is not here"),
        (["softmax-pico"], {"dtype": "int8", "what": ("train",)}, "no model is trained in int8"),
        (["softmax-pico:d_modl=8"], {}, "no setting of gpt2 is called `d_modl`"),
        ([], {}, "no model is given"),
        (["softmx-pico"], {"vocab_size": None}, "no model or run is called `softmx-pico`"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], changed: dict[str, Any], message: str) -> None:
    with pytest.raises(PicolabError, match=message.replace("(", r"\(")) as refused:
        bench(asked(*words, **changed))
    assert refused.value.exit_code == 2
    assert refused.value.hint


@pytest.mark.parametrize(
    ("preset", "lanes"),
    [
        ("mingpt", 6 * (384 + 384 + 384 + 1536)),
        ("lstm", 128 + 4 * 256 + 256),
    ],  # what enters matrices, and an LSTM's gates
)
def test_what_does_not_fit_is_refused_with_the_arithmetic(
    preset: str, lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("picolab.compare.bench_fits.free_memory", lambda: 1_000_000_000)
    held = 16 * sum(p.numel() for p in create(preset, vocab_size=31).parameters())
    with pytest.raises(BadSetting) as refused:
        bench(asked("kgram-embed", preset, batch_size=1_000, length=256))
    says = str(refused.value)
    assert says.startswith("train needs at least ")
    assert f"of it {(held + 256_000 * 4 * lanes) / 1e9:.2f} GB for `{preset}`: {held // 16:,} parameters in " in says
    assert f", and 1,000 x 256 tokens of {4 * lanes:,} bytes; 1.00 GB are free" in says


def test_what_is_said_to_be_needed_is_no_more_than_what_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a model large enough for a peak that is not noise: 10 MB of weights, four times that in training."""
    monkeypatch.undo()  # memory that other tests freed is given back first
    contender = Contender("lstm", "lstm", "float32", {"vocab_size": 8192})
    result = bench(asked("lstm", vocab_size=8192, batch_size=4, length=64, what=("train",)))
    need = _need("train", asked("lstm"), contender, load_plan("lstm", vocab_size=8192), _sketch(contender))
    least = need.own_bytes + 4 * 64 * need.token_bytes
    assert least < result.rows[0].peak_bytes < 2 * least


def test_works_are_named_one_by_one_or_all() -> None:
    assert works("all") == ("train", "prefill", "decode")
    assert works("decode, train") == ("train", "decode")
    with pytest.raises(UnknownName, match=r"^no work is called `trian`$"):
        works("trian")
