"""`diff --minimise` writes a case that runs by itself; `--self-test` says whether the tool keeps its promises."""

import dataclasses
import importlib
import json
import subprocess
import sys

from picolab.diagnose.self_test import examples, goals_of_diff, try_faults
from picolab.diagnose.tiny import sharp
from picolab.weights.checkpoint import save_model
from picolab.zoo import build


def bend(host, cause):
    return next(b for b in examples(host) if b.cause == cause)


def with_settings(model, **changed):
    """The same weights in a model of other settings."""
    other = build(model.architecture, dataclasses.asdict(model.config) | changed).eval()
    other.load_state_dict(model.state_dict(), strict=False)
    return other


def run(case):
    return subprocess.run([sys.executable, str(case)], capture_output=True, text=True, timeout=100, check=False)


def test_the_case_of_two_checkpoints_runs_by_itself_and_is_quiet_once_the_fault_is_gone(tmp_path, picolab):
    save_model(sharp("llama"), None, tmp_path / "right")
    save_model(with_settings(sharp("llama"), norm_eps=2e-2), None, tmp_path / "wrong")
    words = ("--tokens", "5,17,20,3", "--minimise", "--out", str(tmp_path / "case"), "--json")
    ran = picolab("diff", str(tmp_path / "right"), str(tmp_path / "wrong"), *words)
    assert ran.code == 1 and json.loads(ran.out)["born"][0]["explanations"][0]["cause"] == "norm-eps"
    case = tmp_path / "case" / "case.py"
    failing = run(case)
    assert failing.returncode == 1 and "norm-eps" in failing.stdout, failing.stderr
    assert len(case.read_text().splitlines()) <= 35 and (tmp_path / "case" / "values" / "trace.json").exists()
    settings = tmp_path / "case" / "target" / "config.json"
    settings.write_text((tmp_path / "case" / "reference" / "config.json").read_text())
    assert run(case).returncode == 0


CODE = """
from pathlib import Path
from picolab.weights.checkpoint import load_model
WRONG = True
def make():
    model = load_model(Path(__file__).parent / "right")
    def logits(tokens):
        made = model(tokens)
        return made * 0.5 if WRONG else made
    return logits
"""


def test_the_case_of_somebodys_file_asks_that_file_again(tmp_path, picolab):
    save_model(sharp("gpt2"), None, tmp_path / "right")
    (tmp_path / "port.py").write_text(CODE)
    words = ("--tokens", "5,17,20,3", "--minimise", "--out", str(tmp_path / "case"))
    ran = picolab("diff", str(tmp_path / "right"), f"{tmp_path / 'port.py'}:make", *words)
    assert ran.code == 1 and "logit-scale" in ran.out and "with 1 token at once" in ran.out, ran.err
    case = tmp_path / "case" / "case.py"
    assert run(case).returncode == 1
    (tmp_path / "port.py").write_text(CODE.replace("WRONG = True", "WRONG = False"))
    assert run(case).returncode == 0
    again = picolab("diff", str(tmp_path / "right"), f"{tmp_path / 'port.py'}:make", *words)
    assert again.code == 2 and "is there already" in again.err


def test_the_verb_prints_the_goals_and_its_exit_code_is_the_verdict(picolab, monkeypatch):
    module = importlib.import_module("picolab.diagnose.self_test")
    trial = try_faults("llama", [bend("llama", "rope-theta")])
    missed = dataclasses.replace(trial, detected=False, named=False, told=())
    for trials, code in (([trial], 0), ([missed], 1)):
        goals = goals_of_diff(trials)[:3]
        made = module.SelfTest(of="diff", seed=4, goals=goals, trials=tuple(trials), seconds=0.1)
        monkeypatch.setattr(module, "examine_diff", lambda seed, say, made=made: made)
        ran = picolab("diff", "--self-test", "--seed", "4")
        assert ran.code == code and ("MISSED" in ran.out) == bool(code), ran.out
        assert ("rope-theta" in ran.out) == bool(code)
