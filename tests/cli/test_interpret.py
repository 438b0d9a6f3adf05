"""`picolab interpret`: findings, pictures, numbers and a page; and requests that cannot be met."""

from __future__ import annotations

import json
import os

import pytest

from handmade import copier, tokenizer, with_neurons
from picolab.weights.checkpoint import save_model

DATA = "numeric:counting+alternating:numbers=12:shortest=4:longest=10:documents=200"
PICTURES = {
    "embeddings": {"embedding", "unembedding"},
    "attention": {"attention", "attention-distance"},
    "neurons": {"neurons"},
    "heads": {"heads", "heads-effects"},
    "lens": {"lens", "lens-depth"},
}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "copier"
    save_model(with_neurons(copier()), tokenizer(), folder)
    return str(folder)


@pytest.mark.parametrize("what", [*PICTURES])
def test_every_analysis_leaves_pictures_numbers_and_a_page(what, picolab, model, tmp_path):
    ran = picolab(
        "interpret", what, "--model", model, "--data", DATA, "--out", "out", "--html", "page.html", "--json"
    )  # fmt: skip
    assert ran.code == 0, ran.err
    document = ran.document
    assert document["what"] == what and document["findings"]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {f"{what}.json"} | {f"{n}{s}" for n in PICTURES[what] for s in (".png", ".svg")}
    assert json.loads((tmp_path / "out" / f"{what}.json").read_text())["findings"] == document["findings"]
    assert (tmp_path / "out" / f"{min(PICTURES[what])}.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == len(PICTURES[what])


def test_of_a_head_built_to_copy_the_terminal_says_that_taking_it_out_confirms_it(picolab, model):
    ran = picolab("interpret", "heads", "--model", model, "--data", DATA)
    assert ran.code == 0, ran.err
    said = " ".join(ran.out.split())
    assert "Head 1.0 is called induction" in said
    assert "and taking it out confirms that it matters" in said
    assert "The model needs the look of head 1.0 at" in said


def test_two_calls_with_one_seed_say_the_same(picolab, model):
    words = ("interpret", "neurons", "--model", model, "--data", DATA, "--json")
    assert picolab(*words).out == picolab(*words).out


def test_a_prompt_is_the_text_that_is_shown(picolab, model):
    ran = picolab("interpret", "attention", "--model", model, "--data", DATA, "--prompt", "3 4 5 3 4", "--json")
    assert ran.document["words"] == ["<|endoftext|>", "3", "4", "5", "3", "4"]
    maps = ran.document["maps"]
    assert maps[1][0][5][3] == pytest.approx(1, abs=0.05)  # the second 4 looks at the 5 that followed the first


def test_without_data_a_model_of_numbers_reads_numbers_and_says_so(picolab, tmp_path):
    from picolab.text.integers import range_tokenizer
    from picolab.zoo import create

    save_model(create("softmax-pico", vocab_size=130, seed=1), range_tokenizer(0, 127), tmp_path / "random")
    ran = picolab("interpret", "embeddings", "--model", str(tmp_path / "random"))
    assert ran.code == 0, ran.err
    assert "it was looked at with `numeric`" in ran.err
    assert "do not lie in their order" in " ".join(ran.out.split())  # random weights: the answer is no


def test_without_a_tokenizer_heads_and_given_tokens_can_be_looked_at(picolab, tmp_path):
    save_model(copier(), None, tmp_path / "bare")
    bare = str(tmp_path / "bare")
    assert picolab("interpret", "heads", "--model", bare).code == 0
    ran = picolab("interpret", "lens", "--model", bare, "--tokens", "1,2,3,1,2")
    assert ran.code == 0, ran.err
    ran = picolab("interpret", "embeddings", "--model", bare)
    assert (ran.code, ran.err.splitlines()[0]) == (2, f"`{bare}` has no tokenizer")


@pytest.mark.parametrize(
    ("words", "says", "hint"),
    [
        (["embedings"], "no analysis is called `embedings`", "did you mean `embeddings`?"),
        (["heads", "--model", "lstm"], "a `lstm` has no attention", "heads are those of transformers"),
        (["attention", "--model", "kgram-embed"], "a `kgram` has no attention", "heads are those of transformers"),
        (["lens", "--model", "lstm"], "a `lstm` has no stream that its head could read halfway", "the logit lens"),
        (["heads", "--model", "MODEL", "--data", "numeric:countin"], "no integer family is called `countin`", "`counting`"),
        (["neurons", "--model", "MODEL", "--data", "numeric:counting:numbers=12"], "is one kind of text", "a blend of"),
        (["attention", "--model", "MODEL", "--prompt", "99", "--data", DATA], "`99` is not among the", "integers"),
        (["neurons", "--model", "MODEL", "--prompt", "1 2"], "`--prompt` is one text, and `neurons` looks at many", "--data"),
        (["lens", "--model", "MODEL", "--data", DATA, "--tokens", "1"], "1 token is too few to look at", "two tokens"),
        (["lens", "--model", "MODEL", "--data", DATA, "--tokens", "1,77"], "token 77 is outside the vocabulary of 14", "count"),
        (["lens", "--model", "MODEL", "--data", DATA, "--out", "file"], "`file` cannot be written", "is no folder"),
        (["lens", "--model", "MODEL", "--data", DATA, "--html", "."], "`.` is a folder", "name a file"),
        (["embeddings"], "no model is named and none was trained here", "--model RUN"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_met_gets_one_sentence(words, says, hint, picolab, model, tmp_path):
    (tmp_path / "file").write_text("")
    ran = picolab("interpret", *[model if word == "MODEL" else word for word in words])
    lines = ran.err.splitlines()
    said = next(line for line in lines if says in line)
    assert ran.code == 2 and ran.out == ""
    assert said and hint in lines[-1]
    assert "Traceback" not in ran.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused_before_anything_is_computed(picolab, model, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    ran = picolab("interpret", "lens", "--model", model, "--data", DATA, "--out", "locked/out")
    assert ran.code == 2 and "`locked/out` cannot be written" in ran.err


def test_a_model_that_counts_shows_no_neurons(picolab, tmp_path):
    ran = picolab("interpret", "neurons", "--model", "ngram", "--data", "field_notes=0.5,harbour_diary=0.5")
    assert ran.code == 2
    assert "a `ngram` shows no neurons" in ran.err
