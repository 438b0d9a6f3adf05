"""`picolab plan` as a person meets it: a table that adds up, commands that run, refusals in a sentence."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

from picolab.cli.flags import settings_given
from picolab.runs.settings import resolve

ONE_B = ("plan", "--params", "1B", "--tokens", "20B", "--gpus", "8")
BYTES = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


def settings_of(command: str):
    """The settings that a shown `train` line asks for."""
    words = shlex.split(command.replace("\\\n", " "))
    words = words[words.index("train") + 1 :]
    return resolve(overrides=settings_given(None, **dict(zip([w[2:] for w in words[::2]], words[1::2], strict=True))))


def test_a_plan_is_told_line_by_line_and_adds_up(picolab):
    ran = picolab(*ONE_B, "--price", "2.5")
    assert (ran.code, ran.err) == (0, "")
    table = ran.out.split("memory of each device")[1].split("\n\n")[0]
    sizes = [float(n) * BYTES[unit] for n, unit in re.findall(r"^  [a-z ]{12} *([\d.]+) (\w+)  ", table, re.MULTILINE)]
    assert len(sizes) >= 8 and sum(sizes[:-1]) == pytest.approx(sizes[-1], rel=0.02)
    first = re.search(r"weights +([\d.]+) GB  ([\d,]+) x 4 B", table)
    assert float(first[1]) * 1e9 == pytest.approx(4 * int(first[2].replace(",", "")), rel=0.02)
    for word in (
        "991,238,144 parameters",
        "fits into",
        "8 x 989 TFLOP/s",
        "assumed",
        "x 2.5 =",
        "disk",
        "torchrun --standalone",
    ):
        assert word in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80


def test_the_same_as_json(picolab):
    told, document = picolab(*ONE_B).out, picolab(*ONE_B, "--json").document
    assert document["memory"]["bytes"] == sum(line["n_bytes"] for line in document["memory"]["lines"])
    assert document["memory"]["fits"] and document["time"]["mfu_is_assumed"] and document["money"] is None
    assert document["commands"]["start"] in told and f"{document['parameters']:,}" in told
    assert {way["strategy"] for way in document["other_ways"]} == {"ddp", "fsdp"}


@pytest.mark.parametrize(
    "words",
    [ONE_B, (*ONE_B, "--device", "a10"), ("plan", "--model", "gpt2-small", "--tokens", "1B", "--n-layers", "4")],
)
def test_the_command_shown_asks_for_the_run_planned(picolab, words):
    document = picolab(*words, "--json").document
    settings, step = settings_of(document["commands"]["start"]), document["step"]
    t = settings.training
    assert (t.batch_size, t.accumulate, t.recompute) == (step["rows"], step["pieces"], step["recompute"])
    assert settings.data.context_length == step["length"] and t.tokens == document["tokens"]
    assert t.batch_size % (document["devices"] * t.accumulate) == 0
    assert t.strategy == (step["strategy"] or "ddp") and t.dtype == document["dtype"]
    if "--params" in words:
        shape = document["shape"]
        for name in ("d_model", "n_layers", "n_heads", "d_ff"):
            assert settings.model.overrides[name] == shape[name]
    else:
        assert settings.model.overrides == {"n_layers": 4}


def test_a_planned_run_can_be_run(picolab, tmp_path):
    words = ("--model", "softmax-pico", "--tokens", "2k", "--device", "cpu", "--vocab-size", "320", "--length", "32")
    planned = picolab(
        "plan", *words, "--batch-tokens", "256", "--data", "stories-shipped", "--dtype", "float32", "--json"
    )
    command = shlex.split(planned.document["commands"]["start"].replace("\\\n", " "))
    assert command[0] == "picolab" and planned.document["device"]["name"] == "cpu"
    ran = picolab(*command[1:], "--sample-tokens", "0", "--json")
    assert ran.code == 0, ran.err
    assert ran.document["parameters"] == planned.document["parameters"]
    assert ran.document["step"] == pytest.approx(planned.document["steps"], abs=2)


def test_what_does_not_fit_is_said_with_what_would_help(picolab):
    ran = picolab("plan", "--params", "3B", "--tokens", "1T", "--gpus", "2", "--device", "a10")
    assert ran.code == 0 and "DOES NOT FIT" in ran.out
    assert "nothing fits: more devices (--gpus), larger ones (--device), shorter rows (--length)" in ran.out
    whole = picolab("plan", "--params", "70B", "--tokens", "1T", "--gpus", "64", "--device", "h200")
    assert "nothing fits: fsdp shards a model that is first whole on each device (--device)" in whole.out
    forced = picolab(*ONE_B, "--strategy", "ddp", "--accumulate", "1", "--device", "a10")
    assert "leave out --accumulate, --recompute and --strategy" in forced.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tokens", "1B"), "`--params` or `--model`: neither is given"),
        (("--tokens", "1B", "--params", "1B", "--model", "gpt2-small"), "`--params` or `--model`: both are given"),
        (("--tokens", "1B", "--params", "1B", "--n-layers", "3"), "`--n-layers` beside `--params`"),
        (("--tokens", "1B", "--model", "gpt2-small", "--lr", "3"), "`lr` changes no plan"),
        (("--tokens", "1B", "--model", "lstm"), "the memory of `lstm` follows no formula known here"),
        (("--tokens", "1B", "--params", "1B", "--device", "h300"), "no device is called `h300`"),
        (("--tokens", "x", "--params", "1B"), "`--tokens` is `x`, not a number"),
        (("--tokens", "1B", "--params", "1B", "--length", "0"), "`--length` 0 leaves nothing to predict"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(picolab, words, message):
    ran = picolab("plan", *words)
    assert (ran.code, ran.out) == (2, "") and ran.err.startswith(message + "\n") and "hint: " in ran.err


def test_arithmetic_does_not_wait_for_torch():
    script = "import sys; from picolab.cli.app import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script, *ONE_B], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "torchrun" in done.stdout, done.stderr
