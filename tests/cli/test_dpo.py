"""`picolab dpo` on tiny work: a base is trained or given, the table at the end, how it goes on, what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

NUMBERS = "numeric:counting:numbers=24:documents=300"
SMALL = ["--d-model", "16", "--d-ff", "32", "--n-heads", "2", "--context-length", "24"]
QUICK = [
    "--pairs",
    "60",
    "--set",
    "dpo.held_out=20",
    "--eval-batches",
    "2",
    "--sample-tokens",
    "4",
    "--batch-size",
    "4",
]


def test_a_base_is_trained_then_taught_and_the_result_is_told_at_80_columns(picolab):
    ran = picolab("dpo", "--data", NUMBERS, *SMALL, *QUICK, "--base-steps", "10", "--steps", "4", "--out", "mine")
    assert ran.code == 0, ran.err
    assert "first the base: softmax-pico learns" in ran.err and "held-out pairs 50.0% right" in ran.err
    lines = ran.out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("worse side"))
    table = lines[start : lines.index("", start)]
    assert table[0].split() == ["worse", "side", "pairs", "reward", "right", "likelier", "before", "after"]
    assert table[-1].split()[0] == "all" and all(len(line) <= 80 for line in table)
    for said in (
        "finished: all 4 steps are done",
        "Plain text costs ",
        "(KL)",
        "sample before, step 0",
        "sample after, step 4",
    ):
        assert said in ran.out
    assert Path("mine", "report.html").exists() and Path("mine-base", "settings.yaml").exists()
    page = Path("mine", "report.html").read_text(encoding="utf-8")
    assert "held-out pairs, by how their worse side was made" in page.lower()

    again = picolab(
        "dpo", "--model", "mine-base", "--data", NUMBERS, *QUICK, "--context-length", "24", "--steps", "2", "--json"
    )
    assert again.code == 0, again.err
    document = again.document
    assert document["base"] == "mine-base" and document["step"] == 2
    assert document["changes"]["kinds"][-1]["name"] == "all"
    assert document["changes"]["kinds"][-1]["pairs"] == 20

    gone_on = picolab("train", "--resume", document["run"], "--steps", "3", "--json")
    assert gone_on.code == 0 and gone_on.document["step"] == 3 and "changes" in gone_on.document, gone_on.err
    assert picolab("generate", "--model", document["run"], "--prompt", "2 3", "--max-new-tokens", "2").code == 0
    for words in (["--base-steps", "5"], ["--d-model", "8"], ["--tokenizer", "bytes"]):
        refused = picolab("dpo", "--model", "mine-base", "--data", NUMBERS, *words)
        assert refused.code == 2 and "is trained already" in refused.err


def a_file(path: Path, rows: list[object]) -> str:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


PAIRS: list[object] = [
    {"prompt": f"{i} {i + 1}", "chosen": f" {i + 2} {i + 3}", "rejected": f" {i + 3} {i}"} for i in range(40)
]


def test_pairs_of_a_file_are_learned_with_a_base_of_their_better_texts(picolab, tmp_path):
    file = a_file(tmp_path / "pairs.jsonl", PAIRS)
    ran = picolab("dpo", "--data", file, *SMALL, *QUICK, "--base-steps", "4", "--steps", "2", "--tokenizer", "bytes")
    assert ran.code == 0, ran.err
    assert "\nall " in ran.out and "as given" not in ran.out, "one kind needs no line of its own"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--beta", "0"], "`beta` is 0"),
        (["--beta", "-2"], "`beta` is -2"),
        (["--kinds", "lop"], "no mistake in integers is called `lop`"),
        (
            ["--set", "dpo.response_tokens=30"],
            "`response_tokens` 30 and a prompt are more than the model's context of 24",
        ),
        (["--variant", "kto"], "`dpo.variant` is `kto`"),
        (["--eval-every", "0"], "leaves nothing to compare with"),
        (["--data", "{torn}"], "line 41 of"),
        (["--data", "{missing}"], "line 41 of"),
        (["--data", "{long}"], "more than the context of 24"),
        (["--data", "nowhere.jsonl"], "there is no file `nowhere.jsonl`"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_before_anything_is_trained(picolab, tmp_path, words, says):
    files = {
        "torn": a_file(tmp_path / "torn.jsonl", [*PAIRS, '{"prompt": "a", "cho']),
        "missing": a_file(tmp_path / "missing.jsonl", [*PAIRS, {"prompt": "a", "chosen": " b"}]),
        "long": a_file(tmp_path / "long.jsonl", [*PAIRS, {"prompt": "1", "chosen": " 2" * 40, "rejected": " 3"}]),
    }
    asked = [word.format(**files) for word in words]
    data = [] if "--data" in asked else ["--data", NUMBERS]
    ran = picolab(
        "dpo", *data, *SMALL, *QUICK, "--base-steps", "4", "--tokenizer", "bytes" if data == [] else "auto", *asked
    )
    assert ran.code == 2 and says in ran.err and "hint: " in ran.err, ran.err
    assert not Path("runs").exists()
    assert "Traceback" not in ran.err


def test_ctrl_c_saves_and_what_goes_on_ends_where_one_run_would(picolab, tmp_path):
    base = picolab("train", "--data", NUMBERS, *SMALL, "--steps", "5", "--out", "base", "--sample-tokens", "0")
    assert base.code == 0, base.err
    words = [
        "dpo",
        "--model",
        "base",
        "--data",
        NUMBERS,
        *QUICK,
        "--context-length",
        "24",
        "--steps",
        "3000",
        "--warmup",
        "2",
    ]
    program = [sys.executable, "-m", "picolab", *words, "--eval-every", "3000", "--out", "mine"]
    stopped = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OMP_NUM_THREADS": "1",
    })  # fmt: skip
    metrics = tmp_path / "mine" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
        time.sleep(0.05)
    stopped.send_signal(signal.SIGINT)
    out, err = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, err
    assert "interrupted: everything up to step" in out and "picolab dpo --resume mine" in out
    step = json.loads(metrics.read_text().splitlines()[-1])["step"]
    gone_on = picolab("dpo", "--resume", "mine", "--steps", str(step + 2), "--json")
    assert gone_on.code == 0 and gone_on.document["step"] == step + 2, gone_on.err
