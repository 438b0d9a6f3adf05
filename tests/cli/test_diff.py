"""`picolab diff` and `picolab doctor` given what people give them: torn bundles, code that raises, hangs, or answers nonsense."""

import json
import shutil
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from picolab.diagnose import target as targets
from picolab.weights.checkpoint import save_model

from zoo_twins import adversarial

TOKENS = "1,5,9,2,7,3,8"
TRACE, TENSORS = "trace.json", "tensors.safetensors"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A reference and a bundle that it recorded of itself."""
    from picolab.cli.app import main

    folder = tmp_path_factory.mktemp("shelf")
    save_model(adversarial("llama"), None, folder / "ref")
    assert main(["trace", "--model", str(folder / "ref"), "--tokens", TOKENS, "--out", str(folder / "bundle")]) == 0
    return folder


@pytest.fixture
def bundle(shelf, tmp_path):
    return shutil.copytree(shelf / "bundle", tmp_path / "bundle")


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def changed(bundle, **top):
    trace = json.loads((bundle / TRACE).read_text())
    (bundle / TRACE).write_text(json.dumps(trace | {k: f(trace) for k, f in top.items()}))


def entries(**fields):
    return lambda trace: [entry | fields for entry in trace["entries"]]


TORN = {
    "half a trace.json": (lambda b: halved(b / TRACE), "trace.json` is not JSON"),
    "half the arrays": (lambda b: halved(b / TENSORS), "tensors.safetensors` cannot be read"),
    "no bytes": (lambda b: (b / TENSORS).write_bytes(b""), "tensors.safetensors` cannot be read"),
    "no arrays": (lambda b: (b / TENSORS).unlink(), "is missing, and the bundle names it"),
    "strange axes": (lambda b: changed(b, entries=entries(dims="foo bar")), "has an axis `foo`"),
    "too few positions": (lambda b: changed(b, entries=entries(positions=[0])), "where time is 1"),
    "another format": (lambda b: changed(b, format=lambda _: "picolab-trace/9"), "says its format is 'picolab-trace/9'"),
    "everything twice": (lambda b: changed(b, entries=lambda t: 2 * t["entries"]), "are both `embed` in prefill 0"),
    "a way out": (lambda b: changed(b, entries=entries(file="../../other.npy")), "is outside the bundle"),
    "nothing": (lambda b: changed(b, entries=lambda _: []), "lists no entries"),
    "strange tokens": (lambda b: changed(b, tokens=lambda t: [[*t["tokens"][0][:-1], 99999]]), "token 99999 is not in"),
}  # fmt: skip


@pytest.mark.parametrize("name", TORN)
def test_a_torn_bundle_is_told_in_one_sentence(name, shelf, bundle, picolab):
    tear, says = TORN[name]
    tear(bundle)
    ran = picolab("diff", str(shelf / "ref"), str(bundle))
    assert ran.code == 2 and says in ran.err.replace("\n", " ") and "Traceback" not in ran.err


def test_other_tokens_are_the_finding(shelf, bundle, picolab):
    changed(bundle, tokens=lambda t: [[9, *t["tokens"][0][1:]]])
    ran = picolab("diff", str(shelf / "ref"), str(bundle))
    assert ran.code == 1 and "token-ids" in ran.out


def test_one_layer_is_compared_as_far_as_it_goes(shelf, bundle, picolab):
    changed(bundle, entries=lambda t: [e for e in t["entries"] if e["site"].startswith("blocks.1.")])
    ran = picolab("diff", str(shelf / "ref"), str(bundle))
    assert ran.code == 0 and "no logits are shown" in ran.out


def test_a_number_that_is_none_with_nothing_wrong_after_it_was_written_down_wrongly(shelf, bundle, picolab):
    arrays = load_file(bundle / TENSORS)
    name = next(name for name in arrays if name.endswith("blocks.1.mlp.up"))
    arrays[name] = arrays[name].copy()
    arrays[name].flat[3] = np.nan
    save_file(arrays, bundle / TENSORS)
    ran = picolab("diff", str(shelf / "ref"), str(bundle))
    assert "blocks.1.mlp.up holds 1 number that is not finite" in ran.out.replace("\n", " ")


CODE = """
import time, torch

def raises(tokens): raise RuntimeError("boom\\nand more")
def words(tokens): return "hello"
def nothing(tokens): return None
def whole(tokens): return torch.zeros(*tokens.shape, 43, dtype=torch.long)
def nowhere(tokens): return torch.zeros(*tokens.shape, 43, device="meta")
def leaves(tokens): raise SystemExit(3)
def dice(tokens): return torch.randn(*tokens.shape, 43)
def narrow(tokens): return torch.zeros(*tokens.shape, 40)
def nan(tokens): return torch.full((*tokens.shape, 43), float("nan"))
def sleeps(tokens): time.sleep(60)
def turns(tokens):
    while True: pass

def make_raises(): return raises
def make_words(): return words
def make_nothing(): return nothing
def make_whole(): return whole
def make_nowhere(): return nowhere
def make_leaves(): return leaves
def make_dice(): return dice
def make_narrow(): return narrow
def make_nan(): return nan
def make_sleeps(): return sleeps
def make_turns(): return turns
"""

NONSENSE = {
    "make_raises": (2, "fails on 1 x 3 tokens: line 4: RuntimeError: boom and more"),
    "make_words": (2, "no logits are found in what it returns"),
    "make_nothing": (2, "no logits are found in what it returns"),
    "make_whole": (2, "no logits are found in what it returns"),
    "make_nowhere": (2, "lies on the device `meta`"),
    "make_leaves": (2, "SystemExit: 3"),
    "make_dice": (2, "is not deterministic"),
    "make_narrow": (1, "the reference's vocabulary 43 words"),
    "make_nan": (1, "nonfinite"),
    "raises": (2, "wants `tokens`, and is called without arguments"),
    "missing": (2, "no function in"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_code_that_answers_nonsense_is_told_in_one_sentence(name, shelf, tmp_path, picolab):
    (tmp_path / "mine.py").write_text(CODE)
    code, says = NONSENSE[name]
    ran = picolab("diff", str(shelf / "ref"), f"mine.py:{name}", "--tokens", TOKENS)
    said = (ran.out + ran.err).replace("\n", " ")
    assert ran.code == code and says in said and "Traceback" not in said and "nobody foresaw" not in said


def test_logits_that_are_no_numbers_have_one_cause(shelf, tmp_path, picolab):
    (tmp_path / "mine.py").write_text(CODE)
    verdict = picolab("diff", str(shelf / "ref"), "mine.py:make_nan", "--tokens", TOKENS, "--json").document
    assert [told["cause"] for told in verdict["born"][0]["explanations"]] == ["nonfinite"]


@pytest.mark.parametrize("name", ["make_sleeps", "make_turns"])
def test_code_that_hangs_is_interrupted(name, shelf, tmp_path, picolab, monkeypatch):
    monkeypatch.setattr(targets, "SECONDS", 0.3)
    (tmp_path / "mine.py").write_text(CODE)
    ran = picolab("diff", str(shelf / "ref"), f"mine.py:{name}", "--tokens", TOKENS)
    assert ran.code == 2 and "has not answered within 0.3 s" in ran.err.replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def f(:", "line 1 of `mine.py` is not Python"),
        ("x = 1 / 0", "fails when it is run: line 1: ZeroDivisionError"),
        ("", "has no function `f`, nor any other"),
        (None, "does not exist"),
    ],
)
@pytest.mark.parametrize("verb", ["diff", "doctor"])
def test_a_file_that_is_no_program_is_told_so(verb, text, says, shelf, tmp_path, picolab):
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    words = ["mine.py:f"] if verb == "doctor" else [str(shelf / "ref"), "mine.py:f", "--tokens", TOKENS]
    ran = picolab(verb, *words)
    assert ran.code == 2 and says in ran.err.replace("\n", " ") and "mine" not in sys.modules
