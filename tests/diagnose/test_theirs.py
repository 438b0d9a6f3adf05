"""A doctor for somebody's own code: however it takes tokens, hands logits over, and goes wrong."""

import re
import time

import pytest

from picolab.diagnose.laws.catalogue import LAWS
from picolab.diagnose.laws.law import examine
from picolab.diagnose.theirs import patient_of_code
from picolab.errors import BadInput, UnknownName

BY_NAME = {law.name: law for law in LAWS}

BEFORE = """
from types import SimpleNamespace
import time
import torch
from torch import nn
from somebodys_port import Port, Settings, made
"""

STEADY = ("finite", "repeatable", "causality", "prefix", "batch", "positions", "strides")


@pytest.fixture
def code(tmp_path):
    """Write somebody's file; `code("return made()")` is its reference."""

    def write(body, before=""):
        path = tmp_path / "theirs.py"
        lines = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
        path.write_text(f"{BEFORE}{before}\ndef make():\n{lines}\n")
        return f"{path}:make"

    return write


def asked(reference, names, **how):
    patient, notes = patient_of_code(reference, **how)
    return {f.law: f for f in examine(patient, [BY_NAME[name] for name in names])}, notes


WRAPPED = """
port = made()
class Theirs(nn.Module):
    def __init__(self):
        super().__init__()
        self.port = port
    def forward(self, tokens):
        %s
return Theirs()
"""


@pytest.mark.parametrize(
    ("handed", "note"),
    [
        ("return self.port(tokens)", None),
        ("return self.port(tokens), torch.tensor(0.0)", "`[0]`"),
        ("return {'hidden': self.port.embed_tokens(tokens), 'logits': self.port(tokens)}", "`.logits`"),
        ("return SimpleNamespace(logits=self.port(tokens), loss=None)", "`.logits`"),
        ("return self.port(tokens).transpose(0, 1)", "(time, batch, vocab)"),
        ("return self.port(tokens.t()).transpose(0, 1)", "takes tokens as (time, batch)"),
        ("return self.port(tokens)[:, -1]", "of the last token only"),
        ("assert len(tokens) == 1\n        return self.port(tokens)", "one text at a time"),
    ],
)
def test_logits_are_found_by_asking_and_what_was_found_is_said(handed, note, code):
    found, notes = asked(code(WRAPPED % handed), STEADY)
    assert {f.status for f in found.values()} == {"pass"}, [f for f in found.values() if f.status != "pass"]
    assert note is None or any(note in line for line in notes), notes


def test_a_function_of_tokens_is_enough_and_what_needs_weights_says_so(code):
    found, _ = asked(
        code("port = made()\nreturn lambda tokens: port(tokens).detach().numpy()"), [*STEADY, "norms", "overfit"]
    )
    assert {found[name].status for name in STEADY} == {"pass"}
    assert found["norms"].status == "skip" and "is a function, not a module" in found["norms"].says


def test_a_row_that_sees_its_neighbours_is_found_in_somebodys_module_too(code):
    leaks = "logits = self.port(tokens)\n        return logits + 0.01 * logits.mean(0, keepdim=True)"
    found, _ = asked(code(WRAPPED % leaks), ["batch", "causality"])
    assert found["batch"].status == "fail" and found["causality"].status == "pass"


def test_a_cache_and_the_weights_file_are_used_where_they_are_offered(code, tmp_path):
    body = f"""
port = made()
from safetensors.torch import save_file
save_file({{n: p.detach().clone() for n, p in port.named_parameters() if n != "norm.weight"}}, "{tmp_path}/model.safetensors")
port.checkpoint, port.trained = "{tmp_path}", True
return port
"""
    found, _ = asked(code(body), ["cache", "poison", "load-ledger", "two-seeds", "config-ledger"])
    assert {name for name, f in found.items() if f.status == "pass"} == {
        "cache",
        "poison",
        "two-seeds",
        "config-ledger",
    }
    assert "`norm.weight` is no tensor of" in found["load-ledger"].says


def test_past_key_values_are_read_on_with(code):
    before = """
class Past(nn.Module):
    def __init__(self):
        super().__init__()
        self.port = made()
    def forward(self, tokens, past_key_values=None, use_cache=False):
        memory = past_key_values or self.port.new_cache(len(tokens), 40)
        return SimpleNamespace(logits=self.port(tokens, cache=memory), past_key_values=memory)
"""
    found, notes = asked(code("return Past()", before), ["cache", "prefix"])
    assert {f.status for f in found.values()} == {"pass"} and any("past_key_values" in note for note in notes)


def test_weights_that_are_drawn_anew_at_each_start_are_named(code):
    body = "torch.manual_seed(1337)\nport = made()\nnn.init.normal_(port.lm_head.weight)\nreturn port"
    found, _ = asked(code(body), ["two-seeds"])
    assert "`lm_head.weight` of 30 weights differ from seed to seed" in found["two-seeds"].says


def test_a_model_that_answers_otherwise_each_time_is_named_and_not_compared(code):
    reference = code(WRAPPED % "return nn.functional.dropout(self.port(tokens), 0.1)")
    found, notes = asked(reference, STEADY)
    assert any("answers the same tokens differently each time" in note for note in notes)
    assert found["repeatable"].status == "fail"
    assert {found[name].status for name in ("causality", "prefix", "batch", "strides")} == {"skip"}


def test_what_hangs_is_interrupted_and_not_asked_again(code):
    hangs = """while tokens.shape[1] > 6:
            try:
                time.sleep(9)
            except Exception:
                pass"""
    reference = code(WRAPPED % f"{hangs}\n        return self.port(tokens)")
    with pytest.raises(BadInput, match=re.escape("on 1 x 7 tokens has not answered within 0.3 s")):
        patient_of_code(reference, seconds=0.3)  # the question whether it is steady
    hangs = hangs.replace("> 6", "== 24")
    started = time.monotonic()
    found, _ = asked(
        code(WRAPPED % f"{hangs}\n        return self.port(tokens)"), ["finite", "causality", "prefix"], seconds=0.5
    )
    assert found["finite"].status == "pass"
    assert "has not answered within 0.5 s" in found["causality"].says
    assert "is not asked any more" in found["prefix"].says
    assert time.monotonic() - started < 9


def test_a_file_that_never_ends_is_interrupted(code):
    with pytest.raises(BadInput, match=r"theirs.py:make` has not answered within 0.3 s"):
        patient_of_code(code("return made()", before="while True:\n    pass"), seconds=0.3)


@pytest.mark.parametrize(
    ("body", "before", "message"),
    [
        ("return made()", "def broken(:", r"line \d+ of .* is not Python"),
        ("return 3", "", "returned an int"),
        (WRAPPED % "raise ValueError('no such luck')", "", "line 15: ValueError: no such luck"),
        (WRAPPED % "return self.port(tokens).sum()", "", "no logits are found"),
        ("port = made()\nport.checkpoint = '/nowhere/at/all'\nreturn port", "", "`checkpoint` is `/nowhere/at/all`"),
    ],
)
def test_what_is_wrong_with_the_code_is_one_sentence(body, before, message, code):
    with pytest.raises(BadInput, match=message):
        patient_of_code(code(body, before))


def test_a_module_that_raises_at_some_length_is_a_finding_with_its_line(code):
    found, _ = asked(
        code(WRAPPED % "assert tokens.shape[1] < 17\n        return self.port(tokens)"), ["finite", "repeatable"]
    )
    assert found["finite"].status == "fail" and "1 x 17 tokens: line 15: AssertionError" in found["finite"].says
    assert found["repeatable"].status == "pass"


def test_weights_on_another_device_get_their_tokens_there(code):
    before = """
class Elsewhere(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(9, 9, device="meta"))
    def forward(self, tokens):
        assert tokens.device.type == "meta"
        return torch.linspace(-1, 1, 81).reshape(9, 9)[torch.zeros(tokens.shape, dtype=torch.int64)]
"""
    patient, _ = patient_of_code(code("return Elsewhere()", before))
    assert patient.vocab_size == 9


def test_the_nearest_function_is_named(code):
    with pytest.raises(UnknownName, match="is called `mak`") as error:
        patient_of_code(code("return made()").replace(":make", ":mak"))
    assert "`make`" in error.value.hint
