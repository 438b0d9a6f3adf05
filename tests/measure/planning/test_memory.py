"""The arithmetic of memory beside what autograd keeps, byte by byte, and what real training steps take from the system."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from picolab.measure.parameters import count_parameters
from picolab.measure.planning import memory, saved
from picolab.measure.planning.memory import Layout, Moment, worst_moment
from picolab.measure.planning.saved import Work, kept_by_block, kept_outside
from picolab.measure.planning.shape import TRAITS, shape_of
from picolab.models.contract import LanguageModel
from picolab.parts import attention, cross_entropy
from picolab.zoo import build, settings_of

only_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux keeps a high-water mark that can be set back"
)
PROGRAM = Path(__file__).with_name("real_steps.py")
TYPES = {torch.float32: 4, torch.bfloat16: 2}


def model_of(architecture: str, **settings: Any) -> LanguageModel:
    """A small model in which no two sizes are equal."""
    sizes = {"vocab_size": 97, "context_length": 400, "d_model": 64, "n_layers": 2, "n_heads": 4, "d_ff": 160}
    grouped = {} if architecture == "gpt2" else {"n_kv_heads": 2, "head_dim": 24}
    return build(architecture, {**sizes, **grouped, **settings})


def kept_by_autograd(model: LanguageModel, rows: int, length: int, dtype: torch.dtype) -> int:
    """Bytes that a forward pass keeps for the backward pass, but for parameters, buffers and copies of parameters."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    copies = {tuple(p.shape)[::-1] for p in model.parameters()}
    found: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage().data_ptr()
        if tensor.numel() and address not in own and tuple(tensor.shape) not in copies:
            found[address] = tensor
        return tensor

    tokens = torch.randint(0, model.config.vocab_size, (rows, length))
    mixed = torch.autocast("cpu", dtype, enabled=dtype != torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), mixed:
        model.losses(tokens, tokens, documents=torch.zeros_like(tokens))
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


@pytest.mark.parametrize("architecture", TRAITS)
def test_a_shape_has_the_parameters_of_its_model(architecture: str) -> None:
    for settings in ({}, {"tied": True}, {"tied": False, "n_layers": 3, "context_length": 50}):
        model = model_of(architecture, **settings)
        assert shape_of(architecture, settings_of(model)).parameters == count_parameters(model).total
    if architecture == "gpt2":
        model = model_of(architecture, attention_bias=False)
        assert shape_of(architecture, settings_of(model)).parameters == count_parameters(model).total


@pytest.mark.parametrize("length", [40, 400])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("architecture", TRAITS)
def test_the_formula_is_what_autograd_keeps_to_the_byte(architecture: str, dtype: torch.dtype, length: int) -> None:
    one, two = (kept_by_autograd(model_of(architecture, n_layers=n), 3, length, dtype) for n in (1, 2))
    sizes, work = (
        shape_of(architecture, settings_of(model_of(architecture))),
        Work(rows=3, length=length, width=TYPES[dtype], kind="cpu"),
    )
    assert two - one == work.tokens * kept_by_block(sizes, work).total
    assert one - (two - one) == work.tokens * kept_outside(sizes, work)


def test_the_arithmetic_reads_the_limits_that_the_code_has() -> None:
    assert memory.CHUNK_ELEMENTS == cross_entropy.CHUNK_ELEMENTS and memory.ALIGNED == cross_entropy.ALIGNED
    for length in (362, 363):
        q = torch.empty(1, length, 1, 2, dtype=torch.bfloat16, requires_grad=True)
        assert attention._products_are_faster(q, q) == (length**2 <= saved.SHORT)


GPT2 = {"vocab_size": 1000, "d_model": 128, "n_layers": 2, "n_heads": 2, "d_ff": 512, "context_length": 512}
LLAMA = {
    "vocab_size": 1000,
    "d_model": 128,
    "n_layers": 4,
    "n_heads": 4,
    "n_kv_heads": 2,
    "d_ff": 384,
    "context_length": 512,
}
NANOCHAT = {"vocab_size": 2048, "d_model": 256, "n_layers": 2, "n_heads": 2, "d_ff": 1024, "context_length": 512}
REAL: dict[str, tuple[dict[str, Any], str]] = {
    "softmax-pico, a large vocabulary": (
        {
            "architecture": "gpt2",
            "rows": 8,
            "length": 128,
            "settings": GPT2 | {"vocab_size": 50257, "attention_bias": False},
        },
        "logits",
    ),
    "gpt2, few tokens": (
        {
            "architecture": "gpt2",
            "rows": 2,
            "length": 64,
            "settings": GPT2 | {"d_model": 384, "n_layers": 6, "n_heads": 6, "d_ff": 1536},
        },
        "optimizer",
    ),
    "llama, recomputed": (
        {"architecture": "llama", "rows": 12, "length": 256, "settings": LLAMA | {"n_layers": 6}, "recompute": True},
        "recomputed",
    ),
    "gpt2, many tokens": (
        {"architecture": "gpt2", "rows": 12, "length": 160, "settings": GPT2 | {"n_layers": 4}},
        "activations",
    ),
    "llama, long rows": (
        {
            "architecture": "llama",
            "rows": 3,
            "length": 512,
            "settings": LLAMA | {"d_model": 32, "n_layers": 8, "d_ff": 32},
        },
        "masks",
    ),
    "nanochat, in pieces": (
        {"architecture": "nanochat", "rows": 8, "length": 128, "settings": NANOCHAT, "accumulate": 4},
        "optimizer",
    ),
    "nanochat, capped logits": (
        {
            "architecture": "nanochat",
            "rows": 4,
            "length": 128,
            "settings": NANOCHAT | {"d_model": 128, "vocab_size": 9000},
        },
        "logits",
    ),
}
"""Cases in which one thing dominates: its name."""


SHARED: dict[str, dict[str, Any]] = {
    "ddp in pieces": {"rows": 16, "strategy": "ddp", "accumulate": 4},
    "fsdp, few rows": {"rows": 4, "strategy": "fsdp"},
    "fsdp, many rows": {"rows": 16, "strategy": "fsdp"},
}
"""Cases for two processes, all of the model below."""

SHARED_MODEL = LLAMA | {"vocab_size": 4000, "d_model": 256, "n_kv_heads": 4, "d_ff": 768}


def taken_by(processes: int, cases: list[dict[str, Any]], folder: Path) -> list[int]:
    """Bytes that real steps of the cases took in the first of so many processes."""
    file = folder / "cases.json"
    file.write_text(json.dumps(cases), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(processes)}
    # Blocks above 64 kB go back to the system when freed: what a process holds is then what its tensors hold.
    quiet = os.environ | meeting | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    started = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=quiet | {"RANK": str(rank)},
        )
        for rank in range(processes)
    ]
    said = [process.communicate() for process in started]
    assert not any(process.returncode for process in started), said
    found: list[int] = json.loads(said[0][0])
    return found


def estimated(case: dict[str, Any], *, devices: int = 1) -> Moment:
    """The worst moment of a case by arithmetic."""
    sizes = shape_of(case["architecture"], settings_of(build(case["architecture"], case["settings"])))
    pieces = case.get("accumulate", 1)
    work = Work(rows=case["rows"] // pieces // devices, length=case["length"], width=4, kind="cpu")
    layout = Layout(
        devices=devices, strategy=case.get("strategy", "ddp"), pieces=pieces, recompute=case.get("recompute", False)
    )
    return worst_moment(sizes, work, layout)


def assert_within_15_percent(names: Iterable[str], estimates: list[Moment], taken: list[int]) -> None:
    for name, moment, real in zip(names, estimates, taken, strict=True):
        print(f"{name:32} {real / 1e6:7.1f} MB  {moment.n_bytes / 1e6:7.1f} MB  {moment.n_bytes / real - 1:+.1%}")
    wrong = [n for n, m, real in zip(names, estimates, taken, strict=True) if abs(m.n_bytes / real - 1) > 0.15]
    assert not wrong


@only_linux
def test_the_estimate_is_within_15_percent_of_what_real_steps_take(tmp_path: Path) -> None:
    cases = [case for case, _ in REAL.values()]
    estimates = [estimated(case) for case in cases]
    for (name, (_, dominant)), moment in zip(REAL.items(), estimates, strict=True):
        assert max(moment.lines, key=lambda line: line.n_bytes).name == dominant, name
    assert_within_15_percent(REAL, estimates, taken_by(1, cases, tmp_path))


@only_linux
def test_so_it_is_for_two_processes_with_copies_and_with_shards(tmp_path: Path) -> None:
    cases = [{"architecture": "llama", "settings": SHARED_MODEL, "length": 128, **case} for case in SHARED.values()]
    estimates = [estimated(case, devices=2) for case in cases]
    assert {line.name for moment in estimates for line in moment.lines} >= {"buckets", "gathered", "scattering"}
    assert_within_15_percent(SHARED, estimates, taken_by(2, cases, tmp_path))
