"""`picolab generate`: prompts from everywhere, conversations, guesses, and every way to ask wrongly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from picolab.cli import flags
from picolab.sample.pick import Sampler
from picolab.sample.speculate import Speculation
from picolab.text.bytes import byte_tokenizer
from picolab.text.tokenizer import Tokenizer
from picolab.weights.checkpoint import save_model
from picolab.zoo import build

from trained_story import STORIES, needs_stories, reference

TEMPLATE = (
    "{% if messages[0].role == 'system' %}[{{ messages[0].content }}]{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{% if not m.content %}{{ raise_exception('Say something!') }}{% endif %}"
    "{{ bos_token + m.role + ': ' + m.content + eos_token }}{% endfor %}"
)
GREEDY = ("--temperature", "0")
HERE = STORIES.resolve()


def tiny(context_length=64):
    torch.manual_seed(3)
    settings = {"vocab_size": 257, "context_length": context_length, "d_model": 16, "n_layers": 2, "n_heads": 2}
    model = build("llama", {**settings, "d_ff": 24})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.fixture
def folder(tmp_path):
    """A checkpoint that reads bytes and has a chat template."""
    own = byte_tokenizer()
    save_model(tiny(), Tokenizer(own.inner, kind="bytes", eot=own.eot, chat_template=TEMPLATE), tmp_path / "talker")
    return "talker"


@pytest.fixture
def mute(tmp_path):
    """A checkpoint without a tokenizer."""
    save_model(tiny(), None, tmp_path / "mute")
    return "mute"


@pytest.fixture(scope="module")
def told():
    """Read while relative paths still hold."""
    return reference()


@needs_stories
@pytest.mark.parametrize("name", ["stories260K.gguf", "stories260K.bin"])
def test_the_trained_model_tells_the_reference_story(name, told, picolab):
    model = str(HERE / name)
    ran = picolab("generate", "--model", model, *GREEDY, "--max-new-tokens", "200")
    assert ran.code == 0, ran.err
    assert told["text"].startswith(ran.out.rstrip("\n")) and len(ran.out) > 400
    whole = str(len(told["greedy_ids"]) - 1)
    ran = picolab("generate", "--model", model, *GREEDY, "--max-new-tokens", whole, "--json", "--speculate")
    (text,) = ran.document["texts"]
    assert text["ids"] == told["greedy_ids"][1:]
    assert text["text"] == told["text"]


@needs_stories
def test_a_corpus_may_be_guessed_from_and_the_speed_is_told(told, picolab, tmp_path):
    (tmp_path / "texts.txt").write_text(told["text"] + "\n")
    words = ["generate", "--model", str(HERE / "stories260K.gguf"), *GREEDY]
    plain = picolab(*words)
    guessed = picolab(*words, "--speculate", "4", "--speculate-from", "texts.txt")
    assert guessed.out == plain.out
    assert plain.err.splitlines()[-2] == "[100 tokens; --max-new-tokens reached]"
    assert plain.err.splitlines()[-1].startswith("[read 1 tokens at ")
    assert " a second; wrote 99 at " in plain.err and "guesses" not in plain.err
    assert "tokens of `texts.txt` as well" in guessed.err and "guesses right]" in guessed.err
    speed = picolab(*words, "--speculate-from", "texts.txt", "--json").document["speed"]
    assert speed["tokens_written"] == 99 == speed["passes"] + speed["accepted"]
    assert speed["tokens_a_pass"] > 1.5


def test_the_usual_number_of_guesses_is_the_same_everywhere():
    assert int(flags.ALONE["--speculate"]) == Speculation().k


def test_prompts_come_from_a_file_and_are_written_together(folder, picolab, tmp_path):
    (tmp_path / "prompts.txt").write_text("sea\n\na longer prompt\n")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "sea"}\n{"prompt": "a longer prompt", "note": 1}\n')
    words = ["generate", "--model", folder, "--max-new-tokens", "5", "--ignore-eot", "--out", "texts.txt"]
    lines = picolab(*words, "--prompts", "prompts.txt", "--json")
    assert lines.code == 0, lines.err
    named = picolab(*words, "--prompts", "prompts.jsonl", "--json")
    texts = lines.document["texts"]
    assert texts == named.document["texts"]
    assert [text["prompt"] for text in texts] == ["sea", "a longer prompt"]
    for text in texts:
        (alone,) = picolab(*words, "--prompt", text["prompt"], "--json").document["texts"]
        assert alone == text
    shown = picolab(*words, "--prompts", "prompts.txt", "--n", "2").out
    assert [line[:10] for line in shown.splitlines() if line.startswith("---")] == [
        "--- 1 of 4", "--- 2 of 4", "--- 3 of 4", "--- 4 of 4",
    ]  # fmt: skip
    assert (tmp_path / "texts.txt").read_text(errors="replace").count("a longer prompt") == 2


def test_a_model_without_a_tokenizer_reads_and_writes_ids(mute, picolab, tmp_path):
    words = ["generate", "--model", mute, *GREEDY, "--max-new-tokens", "4"]
    ran = picolab(*words, "--tokens", "5,17,200")
    assert ran.code == 0, ran.err
    ids = [int(token) for token in ran.out.strip().split(",")]
    assert ids[:3] == [5, 17, 200] and len(ids) == 7
    document = picolab(*words, "--tokens", "5, 17 200", "--json").document
    assert document["texts"][0]["ids"] == ids[3:]
    further = picolab(*words, "--tokens", ran.out.strip()).out
    assert further.startswith(ran.out.strip() + ",")
    (tmp_path / "ids.json").write_text("[[5, 17, 200], [9]]")
    texts = picolab(*words, "--tokens", "ids.json", "--json").document["texts"]
    assert texts[0]["ids"] == ids[3:] and texts[1]["prompt"] == "9"
    (tmp_path / "ids.json").write_text("[5, 17, 200]")
    assert picolab(*words, "--tokens", "ids.json").out == ran.out


def test_ids_are_read_as_they_are_where_there_is_a_tokenizer(folder, picolab):
    words = ["generate", "--model", folder, *GREEDY, "--max-new-tokens", "4", "--json"]
    (as_text,) = picolab(*words, "--prompt", "sea").document["texts"]
    (as_ids,) = picolab(*words, "--tokens", "256," + ",".join(map(str, b"sea"))).document["texts"]
    (unopened,) = picolab(*words, "--tokens", ",".join(map(str, b"sea"))).document["texts"]
    assert as_text == as_ids
    assert unopened["prompt"] == "sea" and unopened["ids"] != as_text["ids"]


def test_a_conversation_is_put_as_the_model_knows_it(folder, picolab):
    words = ["generate", "--model", folder, *GREEDY, "--max-new-tokens", "6", "--ignore-eot"]
    eot = 256
    ids = [*b"[Be brief]", eot, *b"user: ", *b"hi <|endoftext|>", eot]
    document = picolab(*words, "--chat", "--system", "Be brief", "--prompt", "hi <|endoftext|>", "--json").document
    (expected,) = picolab(*words, "--tokens", ",".join(map(str, ids)), "--json").document["texts"]
    (text,) = document["texts"]
    assert text["ids"] == expected["ids"]
    assert text["prompt"] == "hi <|endoftext|>"
    answer = picolab(*words, "--chat", "--system", "Be brief", "--prompt", "hi <|endoftext|>").out
    assert answer == text["text"] + "\n"


def test_the_end_of_a_turn_ends_the_text_unless_it_is_ignored(folder, picolab, monkeypatch):
    monkeypatch.setattr(Sampler, "pick", lambda self, logits, *_: torch.tensor([256] * len(logits)))
    words = ["generate", "--model", folder, "--chat", "--prompt", "hi", "--max-new-tokens", "6", "--json"]
    (text,) = picolab(*words).document["texts"]
    assert (text["ids"], text["reason"]) == ([], "eot")
    (text,) = picolab(*words, "--ignore-eot").document["texts"]
    assert (text["ids"], text["text"], text["reason"]) == ([256] * 6, "", "length")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prompt", "a", "--tokens", "1"], "`--prompt` and `--tokens` both say what to continue"),
        (["--prompts", "none.txt"], "`none.txt`: no such file or directory"),
        (["--prompts", "empty.txt"], "`empty.txt` holds no prompt"),
        (["--prompts", "bad.jsonl"], "line 3 of `bad.jsonl` is not JSON: Expecting ',' delimiter at column 16"),
        (["--prompts", "unnamed.jsonl"], "line 2 of `unnamed.jsonl` has no text called `prompt`"),
        (["--prompts", "latin.txt"], "`latin.txt` is not UTF-8 text: invalid continuation byte at byte 1"),
        (["--tokens", "one"], "`--tokens one` are no token ids"),
        (["--tokens", "5,-1"], "`--tokens 5,-1` are no token ids"),
        (["--tokens", "none.json"], "`none.json`: no such file or directory"),
        (["--tokens", "words.json"], "`words.json` does not hold lists of whole numbers"),
        (["--tokens", "bad.json"], "`bad.json` is not JSON: Expecting value at column 5"),
        (["--tokens", "5,300"], "token 300 is not in the vocabulary of 257"),
        (["--prompt", "x" * 64], "the prompt has 65 tokens, its opening included, and the model reads 64"),
        (["--system", "a", "--prompt", "b"], "`--system` is for models that converse"),
        (["--chat"], "`--chat` has nothing to answer"),
        (["--chat", "--tokens", "1"], "`--chat` makes the tokens itself, and `--tokens` brings them"),
        (["--chat", "--prompt", ""], "the chat template refuses the conversation: Say something!"),
        (["--speculate", "0"], "`speculate` is 0, not a whole number from 1 up"),
        (["--speculate-from", "storys"], "no file, folder or corpus is called `storys`"),
        (["--max-new-tokens", "0"], "`max_new_tokens` is 0, not a whole number from 1 up"),
    ],
)
def test_a_wrong_request_is_a_sentence(words, message, folder, picolab, tmp_path):
    (tmp_path / "empty.txt").write_text("\n  \n")
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a"}\n\n{"prompt": "b" "c"}\n')
    (tmp_path / "unnamed.jsonl").write_text('{"prompt": "a"}\n{"text": "b"}\n')
    (tmp_path / "latin.txt").write_bytes(b"z\xe9bre\n")
    (tmp_path / "words.json").write_text('["five"]')
    (tmp_path / "bad.json").write_text("[5, ")
    ran = picolab("generate", "--model", folder, *words)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err.splitlines()
    assert "hint: " in ran.err or "none." in message


def test_without_a_tokenizer_or_a_template_it_says_what_to_do(mute, picolab):
    ran = picolab("generate", "--model", mute, "--prompt", "a")
    assert ran.code == 2 and "`mute` has no tokenizer" in ran.err
    ran = picolab("generate", "--model", mute, "--tokenizer", "bytes", "--chat", "--prompt", "a")
    assert ran.code == 2 and "the model has no chat template" in ran.err
    ran = picolab("generate", "--model", "lstm", "--speculate", "--prompt", "a")
    assert ran.code == 2 and "`lstm` cannot take back what it has read" in ran.err


@pytest.mark.parametrize("more", [[], ["--n", "2"], ["--json"], ["--speculate"]])
def test_what_was_written_before_an_interruption_is_shown(more, folder, picolab, monkeypatch, tmp_path):
    words = ["generate", "--model", folder, "--prompt", "sea", *GREEDY, "--ignore-eot", "--out", "t.txt", *more]
    whole = picolab(*words, "--max-new-tokens", "6")
    picked = Sampler.pick
    calls = []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return picked(*arguments)

    monkeypatch.setattr(Sampler, "pick", interrupted)
    ran = picolab(*words, "--max-new-tokens", "6")
    assert ran.code == 130
    if "--json" in more:
        (text,) = ran.document["texts"]
        assert (text["reason"], len(text["ids"])) == ("interrupted", 3)
        assert text["ids"] == whole.document["texts"][0]["ids"][:3]
    else:
        assert "3 tokens; interrupted" in ran.out + ran.err
        assert "sea" in ran.out and ran.out != whole.out
    assert (tmp_path / "t.txt").read_text(errors="replace").startswith("sea")


def test_ctrl_c_ends_a_long_text_and_keeps_it(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OMP_NUM_THREADS": "1"}
    words = ["generate", "--model", "kgram-embed", "--prompt", "sea", "--max-new-tokens", "10000000", "--ignore-eot"]
    with subprocess.Popen(
        [sys.executable, "-m", "picolab", *words, "--out", "text.txt"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as writing:  # fmt: skip
        assert writing.stdout is not None and writing.stderr is not None
        begun = writing.stdout.read(40)
        writing.send_signal(signal.SIGINT)
        out = begun + writing.stdout.read()
        said = writing.stderr.read().decode()
        assert writing.wait(timeout=60) == 130
    assert out.startswith(b"sea") and "tokens; interrupted]" in said and "Traceback" not in said
    assert (tmp_path / "text.txt").read_bytes() == out


def test_json_is_one_document(folder, picolab):
    document = json.loads(picolab("generate", "--model", folder, "--prompt", "a", "--n", "2", "--json").out)
    assert list(document) == ["model", "source", "seed", "sampler", "texts", "speed"]
    assert set(document["texts"][0]) == {"prompt", "text", "ids", "reason"}
