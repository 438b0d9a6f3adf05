"""Time, money, disk and what fits: each figure beside another way to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from picolab.errors import BadSetting, UnknownName
from picolab.measure.parameters import count_parameters
from picolab.measure.planning.hardware import GPUS, Device
from picolab.measure.planning.here import this_cpu
from picolab.measure.planning.memory import Layout, moments
from picolab.measure.planning.plan import Plan, Request, count, plan
from picolab.measure.planning.preset import preset_shape
from picolab.measure.planning.saved import Work
from picolab.measure.planning.shape import llama_of, shape_of
from picolab.zoo import PRESETS, build, create, settings_of

GB = 1e9


def asked(parameters: float = 1e9, **more: Any) -> Request:
    given = {"tokens": 20e9, "devices": 8, "device": GPUS["h100"], **more}
    return Request(shape=llama_of(parameters), preset="llama3-lite", changes={}, **given)


def on(device: str = "h100", **changes: Any) -> Device:
    return replace(GPUS[device], **changes)


@pytest.mark.parametrize("parameters", [5e6, 2e7, 1.24e8, 1e9, 7e9, 7e10])
def test_a_size_picks_a_llama_of_that_size(parameters: float) -> None:
    shape = llama_of(parameters)
    assert shape.parameters == pytest.approx(parameters, rel=0.1)
    assert shape.d_model == shape.n_heads * shape.head_dim and shape.head_dim in (64, 128)
    if parameters >= 1e8:
        assert 60 < shape.d_model / shape.n_layers < 200
    if parameters < 3e7:
        fields = ("vocab_size", "context_length", "d_model", "n_layers", "n_heads", "d_ff", "tied")
        model = build("llama", {name: getattr(shape, name) for name in fields})
        assert count_parameters(model).total == shape.parameters


@pytest.mark.parametrize("preset", ["softmax-pico", "qwen2-pico", "nanochat-d4"])
def test_a_preset_has_its_own_shape(preset: str) -> None:
    shape = preset_shape(preset, {"vocab_size": 311, "n_layers": 3})
    model = create(preset, vocab_size=311, n_layers=3)
    assert (
        shape == shape_of(model.architecture, settings_of(model)) and shape.parameters == count_parameters(model).total
    )


def test_what_no_formula_is_known_for_is_refused_by_name() -> None:
    for preset in ("lstm", "linear-pico", "gpt-oss"):
        with pytest.raises(
            BadSetting, match=f"^the memory of `{PRESETS[preset].architecture}` follows no formula known"
        ):
            preset_shape(preset, {})
    with pytest.raises(UnknownName):
        preset_shape("gpt-9", {})
    with pytest.raises(BadSetting, match=r"^no Llama with a vocabulary of 32,000 has about 10,000 parameters$"):
        llama_of(1e4)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "nanochat"])
def test_the_operations_are_those_that_pytorch_counts(architecture: str) -> None:
    sizes = {"vocab_size": 96, "context_length": 64, "d_model": 64, "n_layers": 2, "n_heads": 4, "d_ff": 160}
    model = build(architecture, sizes)
    tokens = torch.randint(0, 96, (3, 64))
    with FlopCounterMode(display=False) as counter:
        model.losses(tokens, tokens, documents=torch.zeros_like(tokens)).sum().backward()
    shape = shape_of(architecture, settings_of(model))
    by_kernel = counter.get_flop_counts()["Global"]
    products = sum(n for kernel, n in by_kernel.items() if "attention" not in str(kernel))
    assert products == tokens.numel() * (shape.flops(64) - 12 * 2 * 64 * 64)
    # The kernel's backward pass computes the scores once more, which the convention leaves out.
    attention = sum(by_kernel.values()) - products
    assert attention in (0, 14 * 2 * 64 * 64 * tokens.numel())


def test_time_and_money_follow_from_operations_and_peak() -> None:
    made = plan(asked(mfu=0.4, price=2.5))
    six = 6 * made.shape.parameters * 20e9
    assert six < made.flops < 1.15 * six
    assert made.seconds == pytest.approx(made.flops / (8 * 989e12 * 0.4))
    assert made.device_hours == pytest.approx(8 * made.seconds / 3600)
    assert made.money == pytest.approx(2.5 * made.device_hours)
    assert made.steps * made.batch_tokens >= 20e9 > (made.steps - 1) * made.batch_tokens
    assert made.step_seconds * made.steps == pytest.approx(made.seconds)
    again = plan(asked(mfu=0.4, recompute=True))
    assert again.seconds == pytest.approx(made.seconds * 4 / 3) and again.way.layout.recompute
    assert plan(asked()).money is None and plan(asked()).mfu == 0.35


def test_disk_is_checkpoints_and_tokens() -> None:
    made = plan(asked())
    assert made.checkpoint_bytes == 12 * made.shape.parameters and made.checkpoints_bytes == 4 * made.checkpoint_bytes
    assert made.data_bytes == 2 * 20e9
    large = Request(
        shape=llama_of(1e9, vocab_size=100_000), preset="x", changes={}, tokens=20e9, devices=8, device=on()
    )
    assert plan(large).data_bytes == 4 * 20e9


def test_the_first_way_that_fits_is_taken() -> None:
    roomy, tight = plan(asked(device=on(n_bytes=500 * GB))), plan(asked(device=on("a10")))
    assert (roomy.way.layout.strategy, roomy.way.layout.pieces, roomy.way.layout.recompute) == ("ddp", 1, False)
    assert tight.way.layout.strategy == "fsdp" and tight.way.fits
    assert tight.way.worst.n_bytes <= on("a10").usable < plan(asked(device=on("a10"), strategy="ddp")).way.worst.n_bytes
    pieces = plan(asked(device=on(n_bytes=60 * GB)))
    assert pieces.way.layout.pieces > 1 and pieces.way.fits
    assert pieces.way.rows * pieces.way.layout.pieces * 8 == pieces.rows
    fewer = plan(
        asked(device=on(n_bytes=60 * GB), pieces=pieces.way.layout.pieces // 2, recompute=False, strategy="ddp")
    )
    assert not fewer.way.fits, "half as many pieces would have done"


def test_what_fits_nowhere_shows_what_needs_least() -> None:
    made = plan(asked(7e10, device=on("rtx4090")))
    assert not made.way.fits and all(not way.fits for way in made.other)
    assert made.way.worst.n_bytes == min(way.worst.n_bytes for way in (made.way, *made.other))


def test_each_remedy_needs_less_memory() -> None:
    shape, work = llama_of(1e9), Work(rows=8, length=2048, width=2, kind="cuda")

    def need(work: Work = work, **layout: Any) -> int:
        return max(m.n_bytes for m in moments(shape, work, Layout(**layout)))

    plain = need(devices=8)
    assert need(devices=8, recompute=True) < plain
    assert need(devices=8, strategy="fsdp") < plain
    assert need(replace(work, rows=1), devices=8, pieces=8) < plain
    assert need(devices=64, strategy="fsdp") < need(devices=8, strategy="fsdp")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"devices": 0}, "`--gpus` is 0"),
        ({"tokens": 0.5}, "`--tokens` is 0.5"),
        ({"tokens": float("inf")}, "`--tokens` is inf"),
        ({"mfu": 1.5}, "`--mfu` 1.5 is no share"),
        ({"mfu": float("nan")}, "`--mfu` nan is no share"),
        ({"price": -1.0}, "`--price` -1 is no price"),
        ({"price": float("nan")}, "`--price` nan is no price"),
        ({"length": 1}, "`--length` 1 leaves nothing to predict"),
        ({"devices": 12}, "`--gpus` 12 do not fill machines of 8"),
        ({"pieces": 0}, "`--accumulate` is 0"),
        ({"batch_tokens": 4096}, "`--batch-tokens` 4,096 is less than a row of 2,048 for each of 8 devices and pieces"),
        ({"devices": 1, "strategy": "fsdp"}, "`--strategy fsdp` has nothing to shard over with one device"),
        ({"device": replace(GPUS["h100"], kind="cpu")}, "`--gpus` 8 on `cpu`"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadSetting) as error:
        plan(asked(**change))
    assert str(error.value) == says and error.value.hint


def test_numbers_are_read_as_people_write_them() -> None:
    found = [count(text, "tokens") for text in ("1B", "350M", "20e9", "65536", "1.5k", "2T", "1,000,000")]
    assert found == [1e9, 350e6, 20e9, 65536, 1500, 2e12, 1e6]
    for wrong in ("", "B", "-5", "1e400", "many", "0", "1.2.3", "nan"):
        with pytest.raises(BadSetting, match=r"^`--tokens` is"):
            count(wrong, "tokens")


def test_remarks_warn_of_what_the_figures_hide() -> None:
    assert any(r.startswith("1.01 tokens a parameter") for r in plan(asked(tokens=1e9)).remarks)
    small = plan(asked(batch_tokens=8 * 2048))
    assert any("optimizer's pass" in r for r in small.remarks) and any(
        "2,048 tokens a device" in r for r in small.remarks
    )
    assert not plan(asked()).remarks


def test_this_processor_is_measured() -> None:
    cpu = this_cpu()
    assert cpu.kind == "cpu" and 1e9 < cpu.flops["float32"] < 1e14 and 1e8 < cpu.bytes_per_second < 1e13
    made: Plan = plan(Request(shape=llama_of(5e6), preset="x", changes={}, tokens=1e6, devices=1, device=cpu))
    assert made.seconds > 0 and made.way.fits
