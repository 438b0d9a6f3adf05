"""Somebody's own code in a model's place: however it hands its logits over, and however it goes wrong."""

import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch

from picolab.errors import BadInput, UnknownName
from picolab.runs.foreign import is_code, open_callable
from picolab.runs.foreign_engine import Foreign
from picolab.runs.reference import open_reference
from picolab.trace.engines.engine import Engine
from picolab.trace.engines.here import Here

from zoo_twins import VOCAB, adversarial, some_tokens

TWIN = "qwen3"

BEGINS = """
from types import SimpleNamespace
import torch
from the_twin import MODEL
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for ports, which all find the twin under the name of a module."""
    twin = ModuleType("the_twin")
    twin.MODEL = adversarial(TWIN)
    sys.modules["the_twin"] = twin
    yield tmp_path_factory.mktemp("ports")
    del sys.modules["the_twin"]


@pytest.fixture
def port(folder):
    """Write a port and open it: `port("return MODEL")`."""

    def write(body: str, *, before: str = "", name: str = "port.py", **how) -> Foreign:
        path = folder / name
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        path.write_text(f"{BEGINS}{before}\ndef make():\n{lines}\n")
        return Foreign(open_callable(f"{path}:make"), **how)

    return write


@cache
def of_the_twin():
    """A text and its logits."""
    tokens = some_tokens(batch=1, time=9)[0].tolist()
    return tokens, Here(adversarial(TWIN)).read(tokens)


def reads_as_the_twin(engine, tolerance=5e-6):
    """Whether an engine's logits are the twin's, at once, one by one and after `forget`."""
    tokens, expected = of_the_twin()
    for pieces in ([tokens], [[t] for t in tokens], [tokens[:5], tokens[5:6], tokens[6:]]):
        engine.forget()
        found = torch.cat([engine.read(piece) for piece in pieces])
        assert found.dtype == torch.float32 and found.shape == expected.shape
        assert (found - expected).abs().max() < tolerance * expected.abs().max()


WAYS = {
    "a module": "return MODEL",
    "a function": "return lambda tokens: MODEL(tokens)",
    "a pair with the loss": "return lambda tokens: (MODEL(tokens), torch.tensor(0.3))",
    "a pair with nothing": "return lambda tokens: (MODEL(tokens), None)",
    "hidden states first": "return lambda tokens: (MODEL.features(tokens), MODEL(tokens))",
    "an object with .logits": "return lambda tokens: SimpleNamespace(logits=MODEL(tokens), loss=None)",
    "a dict": 'return lambda tokens: {"loss": None, "logits": MODEL(tokens)}',
    "a dict of a dict": 'return lambda tokens: {"hidden": MODEL.features(tokens), "out": {"logits": MODEL(tokens)}}',
    "time first": "return lambda tokens: MODEL(tokens).transpose(0, 1)",
    "vocab in the middle": "return lambda tokens: MODEL(tokens).transpose(1, 2)",
    "numpy": "return lambda tokens: MODEL(tokens).numpy()",
    "double precision": "return lambda tokens: MODEL(tokens).double()",
    "one text, no batch axis": "def one(tokens):\n    assert len(tokens) == 1\n    return MODEL(tokens)[0]\nreturn one",
    "one text, batch axis": "def one(tokens):\n    assert len(tokens) == 1\n    return MODEL(tokens)\nreturn one",
    "the last token, with an axis": "return lambda tokens: (MODEL(tokens)[:, [-1]], None)",
    "the last token, without": "return lambda tokens: MODEL(tokens)[:, -1]",
    "the last token of one text": "def one(tokens):\n    assert len(tokens) == 1\n    return MODEL(tokens)[0, -1]\nreturn one",
}


@pytest.mark.parametrize("way", WAYS)
def test_logits_are_found_however_they_are_handed_over(way, port):
    engine = port(WAYS[way], vocab_size=VOCAB)
    assert isinstance(engine, Engine)
    assert engine.vocab_size == VOCAB
    assert engine.way == ("cache" if way == "a module" else "whole")
    reads_as_the_twin(engine)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "hidden states first"])
def test_the_vocabulary_need_not_be_known(way, port):
    assert port(WAYS[way]).vocab_size == VOCAB


@pytest.mark.parametrize("vocab", [2, 3, 5])
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (0, 2, 1), (2, 0, 1)])
def test_a_vocabulary_as_large_as_a_batch_or_a_text_is_no_riddle(vocab, axes, port):
    engine = port(f"""
def logits(tokens):
    counted = torch.arange(tokens.shape[1]).float()[None, :, None] + 100 * torch.arange({vocab}).float()
    return counted.expand(len(tokens), -1, -1).permute({axes})
return logits""")
    assert engine.vocab_size == vocab
    assert torch.equal(engine.read([0, 1, 1, 0, 1]), torch.arange(5.0)[:, None] + 100 * torch.arange(float(vocab)))


READER = """
class Reader:
    context_length = 20
    def forget(self):
        self.cache = MODEL.new_cache(1, 20)
    def read(self, tokens):
        assert isinstance(tokens, list) and isinstance(tokens[0], int)
        return MODEL(torch.tensor([tokens]), cache=self.cache)[0].numpy()%s
"""
PAST = """
class Past(torch.nn.Module):
    def forward(self, tokens, past_key_values=None, use_cache=False):
        past = MODEL.new_cache(1, 24) if past_key_values is None else past_key_values
        if not use_cache:
            return SimpleNamespace(logits=MODEL(tokens))
        return %s
"""


@pytest.mark.parametrize(
    ("before", "body", "way"),
    [
        (READER % "", "return Reader()", "reads"),
        (READER % "[-1]", "return Reader()", "reads"),
        (PAST % "SimpleNamespace(logits=MODEL(tokens, cache=past), past_key_values=past)", "return Past()", "past"),
        (PAST % '{"logits": MODEL(tokens, cache=past), "past_key_values": past}', "return Past()", "past"),
        ("", "return MODEL", "cache"),
    ],
)
def test_a_model_reads_on_in_its_own_way(before, body, way, port):
    engine = port(body, before=before, vocab_size=VOCAB)
    assert engine.way == way
    reads_as_the_twin(engine)


def test_with_a_cache_of_its_own_nothing_is_read_twice(port):
    engine = port("return MODEL", vocab_size=VOCAB)
    seen = []
    hook = engine.code.call.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    engine.forget()
    engine.read([1, 2, 3])
    engine.read([4])
    hook.remove()
    assert seen == [3, 1]


def test_neighbouring_files_are_imported_and_its_dataclasses_work(folder, port):
    (folder / "beside_it.py").write_text("ONE = 1\n")
    before = (
        "from dataclasses import dataclass\nimport beside_it\n@dataclass\nclass Sizes:\n    one: int = beside_it.ONE\n"
    )
    assert port("assert Sizes().one == 1\nreturn MODEL", before=before, vocab_size=VOCAB).vocab_size == VOCAB
    del sys.modules["beside_it"]


def test_a_class_and_a_module_that_is_there_are_taken_too(folder):
    path = folder / "given.py"
    path.write_text(
        f"{BEGINS}class Net(type(MODEL)):\n    def __init__(self):\n        super().__init__(MODEL.config)\n"
    )
    for name in ("MODEL", "Net"):
        assert Foreign(open_callable(f"{path}:{name}"), vocab_size=VOCAB).way == "cache"


def test_it_is_said_that_code_was_run(port):
    code = port("return MODEL", vocab_size=VOCAB).code
    assert len(code.notes) == 1 and "it was run, with your rights" in code.notes[0]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (None, "make", "`{path}` does not exist"),
        ("def make(:\n", "make", "line 1 of `{path}` is not Python: invalid syntax"),
        ("x = 1\n\0", "make", "`{path}` is not Python: source code string cannot contain null bytes"),
        ("x = 1\nimport no\n", "make", "`{path}` fails when it is run: line 2: ModuleNotFoundError: No module named 'no'"),
        ("import sys\nsys.exit(3)\n", "make", "`{path}` fails when it is run: line 2: SystemExit: 3"),
        ("def make(): pass\n", "", "`{path}:` does not say which function"),
        ("def make(): pass\n", "maker", "no function in `{path}` is called `maker`"),
        ("x = 1\n", "make", "`{path}` has no function `make`, nor any other"),
        ("make = 5\n", "make", "`make` in `{path}` is an int, not a function"),
        ("def make(tokens): pass\n", "make", "`make` in `{path}` wants `tokens`, and is called without arguments"),
        ("def make():\n    return {}[1]\n", "make", "`make` in `{path}` fails: line 2: KeyError: 1"),
        ("def make():\n    assert False\n", "make", "`make` in `{path}` fails: line 2: AssertionError"),
        ("def make(): pass\n", "make", "`make` in `{path}` returned nothing (None)"),
        ("def make(): return [1]\n", "make", "`make` in `{path}` returned a list"),
    ],
)  # fmt: skip
def test_what_goes_wrong_in_the_file_is_one_sentence_with_its_line(content, name, message, tmp_path):
    path = tmp_path / "port.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadInput) as error:
        open_callable(f"{path}:{name}")
    assert str(error.value) == message.format(path=path)
    assert "\n" not in str(error.value)


def test_the_nearest_function_is_named(tmp_path):
    (tmp_path / "port.py").write_text("from os.path import join\ndef make_it(): pass\ndef _made(): pass\n")
    with pytest.raises(UnknownName) as error:
        open_callable(f"{tmp_path / 'port.py'}:make")
    assert error.value.hint == "did you mean `make_it`?"
    with pytest.raises(BadInput) as error:
        open_callable(f"{tmp_path / 'port.py'}")
    assert error.value.hint == f"`{tmp_path / 'port.py'}:make_it`?"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return lambda tokens: 1 / 0", "fails on 1 x 3 tokens: line 7: ZeroDivisionError: division by zero"),
        ("return lambda tokens: 'text'", "no logits are found in what it returns for 3 x 5 tokens: no numbers"),
        ("return lambda tokens: tokens", "no logits are found in what it returns for 3 x 5 tokens: no numbers"),
        ("return lambda tokens: torch.zeros(7, 7)", "no logits are found in what it returns for 3 x 5 tokens: (7, 7)"),
        (
            "return lambda tokens: (MODEL.features(tokens), MODEL.features(tokens)[..., :9])",
            "several things in what it returns for 3 x 5 tokens could be logits: (3, 5, 36), (3, 5, 9)",
        ),
    ],
)
def test_what_it_returns_is_looked_at_before_it_is_used(body, message, port):
    with pytest.raises(BadInput) as error:
        port(body)
    assert str(error.value).endswith(message)
    assert "port.py:make`" in str(error.value)


def test_a_failure_while_reading_names_its_line(port):
    engine = port(
        "def logits(tokens):\n    assert tokens.shape[1] < 8, 'too  long.'\n    return MODEL(tokens)\nreturn logits"
    )
    engine.read([1, 2, 3])
    with pytest.raises(BadInput, match=r"fails on 1 x 9 tokens: line 8: AssertionError: too long$"):
        engine.read([1] * 6)


def test_logits_that_change_their_shape_are_refused(port):
    engine = port("return lambda tokens: MODEL(tokens[:, :6])")
    with pytest.raises(BadInput, match=r"gives logits of shape \(6, 43\) where \(9, 43\) is meant"):
        engine.read([1] * 9)


def test_tokens_that_it_cannot_read_never_reach_it(port):
    engine = port("return MODEL", vocab_size=VOCAB)
    assert engine.context_length == 24
    with pytest.raises(BadInput, match="token 43 is outside"):
        engine.read([43])
    with pytest.raises(BadInput, match="25 positions are more than the model's context of 24"):
        engine.read([1] * 25)
    with pytest.raises(BadInput, match="has no tokenizer"):
        engine.encode("a")


def test_where_a_model_of_picolab_is_meant_code_is_refused_with_a_hint(folder):
    for word in (f"{folder}/port.py:make", "port.py"):
        assert is_code(word)
        with pytest.raises(BadInput, match="is code of its own, and a model of picolab's is meant") as error:
            open_reference(word)
        assert f"--run {word}" in error.value.hint
    assert not is_code("runs/x") and not is_code(Path("a.gguf"))
