"""`picolab verify`: green for twins in both engines, red for somebody's code that is wrong, and every way to ask wrongly."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from picolab.diagnose import haiku
from picolab.text.bytes import byte_tokenizer
from picolab.weights.checkpoint import save_model
from picolab.weights.gguf.write import write_gguf

from reader_files import bpe, tiny, write_llama2c
from trained_story import STORIES, needs_stories
from zoo_twins import adversarial

QUICK = ("--prompts", "4", "--greedy", "8")
HERE = STORIES.resolve()


@pytest.fixture
def twin(tmp_path):
    """A twin in a folder called `twin`, and as the module `the_twin` for code to take it from."""
    save_model(adversarial("qwen2 plain"), None, tmp_path / "twin")
    module = ModuleType("the_twin")
    module.twin = lambda: adversarial("qwen2 plain")
    sys.modules["the_twin"] = module
    yield "twin"
    del sys.modules["the_twin"]


def test_a_twin_is_the_same_in_both_engines(twin, picolab, tmp_path):
    ran = picolab("verify", twin, *QUICK, "--json", "--out", "verdict.json")
    assert ran.code == 0, ran.err
    document = ran.document
    assert document["verdict"] == "equal" and document["not_compared"] == []
    assert [one["against"] for one in document["comparisons"]] == ["transformers", "llama.cpp"]
    for one in document["comparisons"]:
        assert one["verdict"] == "equal" and one["seed"] == document["seed"]
        assert [check["name"] for check in one["checks"]] == [
            "prefill", "decode", "chunks", "second text", "greedy", "tokenizer",
        ]  # fmt: skip
        decode = one["checks"][1]
        assert decode["status"] == "pass" and 0 <= decode["worst"] < decode["tolerance"]
        assert set(decode["where"]) == {"prompt", "length", "position"}
    assert (tmp_path / "verdict.json").read_text() == ran.out


def test_the_seed_is_drawn_anew_and_repeats_a_verification(twin, picolab):
    words = ("verify", twin, *QUICK, "--against", "transformers", "--json")
    first, other = (picolab(*words).document for _ in range(2))
    assert first["seed"] != other["seed"]
    again = picolab(*words, "--seed", str(first["seed"])).document
    for document in (first, again):
        del document["comparisons"][0]["seconds"]
    assert again == first


def test_the_table_fits_eighty_columns_and_says_what_was_exported(twin, picolab):
    ran = picolab("verify", twin, *QUICK, "--seed", "3")
    lines = ran.out.splitlines()
    assert lines[0].startswith("picolab ") and " against transformers " in lines[0]
    assert lines[1].split() == ["check", "what", "apart", "allowed"]
    assert "prefill      4 prompts, 1 to 24 tokens, at once" in lines[2] and lines[2].endswith("same")
    assert max(len(line) for line in lines[1:8]) <= 80
    assert "greedy: 8 of 8 tokens alike" in lines
    assert "exported to a GGUF file (F32) for llama.cpp, which opens no Hugging Face folder" in lines
    assert sum(line.startswith("equal: picolab ") for line in lines) == 2
    assert "--seed 3 draws the same texts again" in ran.err


@needs_stories
@pytest.mark.parametrize(("name", "engines"), [("stories260K.gguf", 2), ("stories260K.bin", 1)])
def test_the_trained_model_is_the_same_in_both_engines(name, engines, picolab):
    only = () if engines == 2 else ("--against", "llama.cpp")
    ran = picolab("verify", str(HERE / name), *QUICK, "--longest", "30", *only, "--json")
    assert ran.code == 0, ran.out + ran.err
    assert len(ran.document["comparisons"]) == engines
    for one in ran.document["comparisons"]:
        assert one["checks"][-1]["status"] == "pass" and "texts" in one["checks"][-1]["compared"]


@pytest.mark.parametrize("what", ["preset", "gguf", "llama2c"])
def test_every_kind_of_model_is_brought_to_the_other_engines(what, picolab, tmp_path):
    words, model = bpe(), "qwen2-pico"
    if what == "gguf":
        model = "model.gguf"
        write_gguf(tiny("gpt2", words.vocab_size), words, tmp_path / model, kind="F32")
    elif what == "llama2c":
        model = "model.bin"
        write_llama2c(tiny("llama", 300, n_kv_heads=1), tmp_path / model)
    ran = picolab("verify", model, *QUICK, "--longest", "9", "--json")
    assert ran.code == 0, ran.out + ran.err
    assert [one["against"] for one in ran.document["comparisons"]] == ["transformers", "llama.cpp"]
    said = [" ".join(one["notes"]) for one in ran.document["comparisons"]]
    assert "exported to a Hugging Face folder for transformers" in said[0]
    assert ("exported to a GGUF file" in said[1]) == (what != "gguf")


def test_an_engine_that_cannot_run_the_model_is_named_with_the_reason(picolab, tmp_path):
    save_model(adversarial("mistral"), None, tmp_path / "mistral")
    ran = picolab("verify", "mistral", *QUICK)
    assert ran.code == 0
    assert "not compared with llama.cpp: a window of 5 tokens in a context of 24 has no place" in ran.out
    ran = picolab("verify", "mistral", *QUICK, "--against", "llama.cpp")
    assert (ran.code, ran.out) == (2, "") and ran.err.startswith("a window of 5 tokens")
    ran = picolab("verify", "lstm", *QUICK)
    assert ran.code == 2
    reason = "no other engine can run `lstm`: transformers: transformers knows no architecture `lstm`; llama.cpp: "
    assert reason in ran.err


# Somebody's code in the model's place.

BIAS = "    model.blocks[1].attention.q_proj.bias.data.zero_()"
EPS = "    for module in model.modules():\n        if hasattr(module, 'eps'):\n            module.eps = 1e-5"
PAIRS = """
    from picolab.weights.row_order import to_pairs
    for block in model.blocks:
        for name, heads in (("q_proj", 6), ("k_proj", 2)):
            layer = getattr(block.attention, name)
            layer.weight.data, layer.bias.data = to_pairs(layer.weight.data, heads), to_pairs(layer.bias.data, heads)
"""
STALE = """
    made = model.new_cache
    def new_cache(batch, capacity):
        cache = made(batch, capacity)
        write = cache.extend
        def extend(layer, k, v):
            before = cache.memory[layer, :, :, cache.length].clone()
            found = write(layer, k, v)
            if layer == 1 and cache.length == 3 and k.shape[1] == 1:
                cache.memory[layer, :, :, 3] = before
            return found
        cache.extend = extend
        return cache
    model.new_cache = new_cache
"""
FAR = """
    turn = model.rope.forward
    model.rope.forward = lambda p: turn((p + (p.shape[-1] == 1) * (p > 0)).clamp(max=23))
"""
ECHO = "    return lambda tokens: torch.nn.functional.one_hot(tokens, 43).float()"

CODE = {
    "right": ("", set()),
    "a dropped bias": (BIAS, {"prefill", "decode", "chunks", "second text"}),
    "another norm eps": (EPS, {"prefill", "decode", "chunks", "second text"}),
    "rope in adjacent pairs": (PAIRS, {"prefill", "decode", "chunks", "second text"}),
    "a stale cache slot": (STALE, {"decode"}),
    "a decode position too far": (FAR, {"decode"}),
    "an echo": (ECHO, {"prefill", "decode", "chunks", "second text", "greedy"}),
}


@pytest.mark.parametrize("wrong", CODE)
def test_code_is_held_against_the_model_in_another_engine(wrong, twin, picolab, tmp_path):
    body, must = CODE[wrong]
    (tmp_path / "port.py").write_text(
        f"import torch\nfrom the_twin import twin\nprint('hello')\ndef make():\n    model = twin()\n{body}\n    return model\n"
    )
    engines = () if wrong in ("right", "an echo") else ("--against", "transformers")
    ran = picolab("verify", twin, "--run", "port.py:make", *QUICK, *engines, "--json")
    assert ran.code == (1 if must else 0), ran.err
    assert ran.document["verdict"] == ("different" if must else "equal")
    assert "hello" in ran.err and "it was run, with your rights" in ran.err
    for one in ran.document["comparisons"]:
        failing = {check["name"] for check in one["checks"] if check["status"] == "fail"}
        assert must <= failing
        assert ("prefill" in failing) == ("prefill" in must)
        assert one["here"] == "`port.py:make`" and one["checks"][0]["tolerance"] == (
            1e-4 if one["against"] == "transformers" else 1e-3
        )


def test_code_without_a_cache_is_compared_with_picolab_itself_if_asked(twin, picolab, tmp_path):
    (tmp_path / "port.py").write_text(
        "from the_twin import twin\ndef make():\n    model = twin()\n    return lambda t: (model(t), None)\n"
    )
    ran = picolab("verify", twin, "--run", "port.py:make", *QUICK, "--against", "picolab")
    assert ran.code == 0, ran.err
    assert "it has no cache: the whole text is read again at every step" in ran.err
    assert ran.out.startswith("`port.py:make` against picolab ")


def test_a_difference_is_told_in_the_table_and_the_verdict(twin, picolab, tmp_path):
    (tmp_path / "port.py").write_text(f"import torch\ndef make():\n{ECHO}\n")
    ran = picolab("verify", twin, "--run", "port.py:make", *QUICK, "--against", "transformers")
    assert ran.code == 1
    assert "DIFFERS" in ran.out and "positions differ" in ran.out
    assert ran.out.splitlines()[-1].startswith("different: `port.py:make` and transformers ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "no model or run is called `nothing`"),
        (["twin", "--against", "lama.cpp"], "no engine is called `lama.cpp`"),
        (["twin", "--against", "picolab"], "picolab would be compared with itself"),
        (["twin", "--prompts", "0"], "`prompts` is 0, not a whole number from 1 up"),
        (["twin", "--tolerance", "-1"], "`tolerance` is -1.0, not a number from 0 up"),
        (["twin", "--seed", "-1"], "`seed` is -1, not a whole number from 0 up"),
        (["port.py:make"], "`port.py:make` is code of its own, and a model of picolab's is meant here"),
        (["twin", "--run", "port.py"], "`port.py` does not exist"),
        (["twin", "--run", "broken.py:make"], "line 1 of `broken.py` is not Python: invalid syntax"),
        (["twin", "--run", "twin"], "`twin` is not somebody's code"),
        (["twin", "--haiku"], "`twin` has no tokenizer"),
    ],
)
def test_a_wrong_request_is_a_sentence(words, message, twin, picolab, tmp_path):
    (tmp_path / "broken.py").write_text("def make(:\n")
    ran = picolab("verify", *words)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err and "Traceback" not in ran.err


# The haiku.


@pytest.mark.parametrize("passes", [True, False])
def test_a_haiku_is_judged_and_the_exit_code_says_so(passes, picolab, tmp_path, monkeypatch):
    words = byte_tokenizer()
    save_model(tiny("gpt2", words.vocab_size, context_length=400), words, tmp_path / "talker")

    def written(engine, tokenizer, request, seed, converses):
        word = next(word for word in map(haiku.in_words, range(60)) if haiku.occurrences(request, word))
        if not passes:
            return "!" * 60
        other = "Snow, and then silence" if len(word) % 2 else "Boats go out at dawn"
        return f"{other}:\n{word} bells {'ring' if word < 'm' else 'call'} from the {word[0]} hill\nwhile the {word[-1]} sleeps"

    monkeypatch.setattr(haiku, "_written", written)
    ran = picolab("verify", "talker", "--haiku", "--json")
    document = ran.document
    assert document["verdict"] == ("pass" if passes else "fail") and ran.code == (0 if passes else 1), document
    assert [one["name"] for one in document["haiku"]["assertions"]] == ["the word", "diverse", "its own", "changes"]
    ran = picolab("verify", "talker", "--haiku")
    assert ran.code == (0 if passes else 1)
    assert ("passed: " if passes else "failed: the word, diverse, changes") in ran.out


def test_a_random_model_fails_the_haiku(picolab):
    ran = picolab("verify", "qwen2-pico", "--haiku", "--seed", "1")
    assert ran.code == 1 and "asked for `" in ran.out and "NO" in ran.out
