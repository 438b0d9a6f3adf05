"""Right models are found equal in every engine that can hold them; wrong ones different, by the check that should find it."""

import ctypes
import math
import random

import pytest
import torch
from llama_cpp import llama_cpp

from picolab.diagnose.verify import verify
from picolab.diagnose.verify_against import open_elsewhere
from picolab.diagnose.verify_greedy import write_greedily
from picolab.diagnose.verify_noise import measured_noise, rounded_in_file
from picolab.diagnose.verify_read import apart, draw_lengths, in_pieces, longest_text
from picolab.diagnose.verify_result import Asides, Ask, summary
from picolab.diagnose.verify_words import compare_words, corpus
from picolab.errors import BadInput, BadSetting
from picolab.parts.cache import KeyValueCache
from picolab.runs.reference import Opened, open_reference
from picolab.trace.engines.engine import Engine
from picolab.trace.engines.here import Here
from picolab.trace.engines.transformers import Transformers
from picolab.weights.checkpoint import save_model
from picolab.weights.gguf.header import read_header
from picolab.weights.gguf.write import write_gguf
from picolab.weights.row_order import to_pairs
from picolab.zoo import build

from reader_files import bpe, spm, tiny
from zoo_twins import VOCAB, adversarial

IN_TRANSFORMERS = ["gpt2", "llama", "qwen2", "qwen3", "mistral", "nanochat"]
IN_LLAMA_CPP = ["gpt2", "llama", "qwen2 plain", "qwen3", "mistral without window"]

QUICK = {"prompts": 4, "greedy": 12}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A twin in another engine, opened once: `elsewhere("llama", "llama.cpp")`."""
    made = {}

    def get(name, engine):
        if (name, engine) not in made:
            folder = tmp_path_factory.mktemp("twin")
            save_model(adversarial(name), None, folder / "model")
            opened = open_reference(folder / "model")
            made[name, engine] = open_elsewhere(engine, opened, folder, seed=0, longest=24, code=False)
        return made[name, engine]

    return get


def verified(here, there, seed=None, **ask):
    """A quick verification with texts that are new every time, unless a seed is given."""
    seed = random.randrange(1 << 32) if seed is None else seed
    return verify(here, there.engine, Ask(**{**QUICK, "tolerance": there.tolerance, **ask}, seed=seed))


def failing(verification):
    return [check.name for check in verification.checks if check.status == "fail"]


# The same model.


@pytest.mark.parametrize(
    ("name", "engine"),
    [*((name, "transformers") for name in IN_TRANSFORMERS), *((name, "llama.cpp") for name in IN_LLAMA_CPP)],
)
def test_a_right_model_is_the_same_function_in_another_engine(name, engine, elsewhere):
    there = elsewhere(name, engine)
    found = verified(Here(adversarial(name)), there)
    assert (found.verdict, failing(found)) == ("equal", []), found
    assert [check.name for check in found.checks] == [
        "prefill", "decode", "chunks", "second text", "greedy", "tokenizer",
    ]  # fmt: skip
    assert there.tolerance == (1e-5 if engine == "transformers" else 1e-3)
    assert all(check.worst < check.tolerance for check in found.checks if check.worst is not None)
    assert "12 of 12 tokens alike" in found.check("greedy").says
    assert found.check("prefill").compared == "4 prompts, 1 to 24 tokens, at once"
    assert found.check("tokenizer").status == "skip" and "no tokenizer" in found.check("tokenizer").says


def test_the_same_seed_draws_the_same_texts_and_another_draws_others(elsewhere):
    there = elsewhere("gpt2", "transformers")
    read = []

    class Listening(Here):
        def read(self, tokens):
            read.append(list(tokens))
            return super().read(tokens)

    runs = []
    for seed in (5, 5, 6):
        read.clear()
        verified(Listening(adversarial("gpt2")), there, seed=seed)
        runs.append([*read])
    assert runs[0] == runs[1] != runs[2]


# A wrong model, and the check that finds it.


class Stale(KeyValueCache):
    """The step at position 3 does not write its keys in the second layer."""

    def extend(self, layer, k, v):
        if layer == 1 and self.length == 3 and k.shape[1] == 1:
            self.memory[layer, 1][:, 3:4] = v
            return self.memory[layer, 0][:, :4], self.memory[layer, 1][:, :4]
        return super().extend(layer, k, v)


def with_rope_in_pairs(model):
    for block in model.blocks:
        for weight, heads in ((block.attention.q_proj.weight, 6), (block.attention.k_proj.weight, 2)):
            weight.data = to_pairs(weight.data, heads)
    return Here(model)


def without_a_bias(model):
    model.blocks[1].attention.q_proj.bias.data.zero_()
    return Here(model)


def with_a_stale_slot(model):
    c = model.config
    model.new_cache = lambda batch, capacity: Stale.of(
        model.head.weight, c.n_layers, batch, capacity, c.n_kv_heads, c.head_dim
    )
    return Here(model)


def with_another_eps(model):
    for module in model.modules():
        if hasattr(module, "eps"):
            module.eps = 1e-5
    return Here(model)


def with_a_step_too_far(model):
    turn = model.rope.forward
    model.rope.forward = lambda positions: turn(
        (positions + (positions.shape[-1] == 1) * (positions > 0)).clamp(max=23)
    )
    return Here(model)


class Echo(Here):
    def read(self, tokens):
        return torch.nn.functional.one_hot(torch.tensor(tokens), self.vocab_size).float()


class Forgetful(Here):
    """Every piece is read as if nothing had been read before it."""

    def read(self, tokens):
        self.forget()
        return super().read(tokens)


class Hasty(Here):
    """Where so many tokens have been read before, it does not look whether they were the same."""

    known = torch.empty(0)
    at = 0

    def forget(self):
        self.at = 0

    def read(self, tokens):
        end = self.at + len(tokens)
        if end > len(self.known):
            if self.at == 0:
                super().forget()
                self.known = super().read(tokens)
            else:
                self.known = torch.cat([self.known[: self.at], super().read(tokens)])
        found, self.at = self.known[self.at : end], end
        return found


class NotFinite(Here):
    def read(self, tokens):
        logits = super().read(tokens).clone()
        logits[-1, 7] = math.nan if len(tokens) == 24 else logits[-1, 7]
        return logits


EVERYWHERE = {"prefill", "decode", "chunks", "second text"}

WRONG = {
    "rope in adjacent pairs": ("llama", with_rope_in_pairs, EVERYWHERE, {"greedy"}),
    "a dropped bias": ("qwen2 plain", without_a_bias, EVERYWHERE, {"greedy"}),
    "another norm eps": ("llama", with_another_eps, EVERYWHERE, {"greedy"}),
    "a stale cache slot": ("llama", with_a_stale_slot, {"decode"}, {"chunks", "second text", "greedy"}),
    "a decode position too far": ("llama", with_a_step_too_far, {"decode"}, {"chunks", "second text", "greedy"}),
    "a cache that is ignored": ("llama", Forgetful, {"decode", "chunks", "second text", "greedy"}, set()),
    "an echo": ("llama", Echo, EVERYWHERE | {"greedy"}, set()),
    "one number that is none": ("llama", NotFinite, {"prefill"}, set()),
}
"""What is wrong: the twin, how it is made so, the checks that must fail, and those that may."""


@pytest.mark.parametrize("engine", ["transformers", "llama.cpp"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_model_is_found_by_the_check_that_should(wrong, engine, elsewhere):
    name, made, must, may = WRONG[wrong]
    found = verified(made(adversarial(name)), elsewhere(name, engine))
    assert found.verdict == "different"
    assert must <= set(failing(found)) <= must | may
    for check in found.checks:
        if check.status == "fail" and check.name != "greedy":
            assert check.worst > 2 * check.tolerance, check


def test_what_is_left_of_an_earlier_text_is_found(elsewhere):
    lengths = draw_lengths(random.Random(3), 4, 24)
    assert len(set(lengths)) == 4
    found = verified(Hasty(adversarial("llama")), elsewhere("llama", "transformers"), seed=3, greedy=0)
    assert failing(found) == ["second text"]
    assert "something is left in the cache" in found.says


def test_the_place_of_the_worst_position_is_the_right_one(elsewhere):
    there = elsewhere("llama", "transformers")

    class OffAt(Here):
        def read(self, tokens):
            logits = super().read(tokens).clone()
            if len(tokens) == 24:
                logits[17, 5] += 0.01 * logits[17].abs().max()
            return logits

    check = verified(OffAt(adversarial("llama")), there).check("prefill")
    assert (check.where.prompt, check.where.length, check.where.position) == (3, 24, 17)
    assert check.worst == pytest.approx(0.01, rel=0.05)
    assert check.says.endswith("apart at prompt 3 (24 tokens), position 17; 1 of " + check.says.split("; 1 of ")[1])


@pytest.mark.parametrize("side", ["here", "there"])
def test_numbers_that_are_none_are_named_on_either_side(side, elsewhere):
    engines = [NotFinite(adversarial("llama")), Here(adversarial("llama"))]
    here, there = engines if side == "here" else reversed(engines)
    check = verify(here, there, Ask(tolerance=1e-5, seed=1, **QUICK)).check("prefill")
    assert check.status == "fail" and check.worst == math.inf
    assert check.says == f"a logit {side} is not a finite number at prompt 3 (24 tokens), position 23"


def test_it_is_said_where_texts_are_shorter_than_the_context(elsewhere):
    there = elsewhere("llama", "transformers")
    assert verified(Here(adversarial("llama")), there).notes == ()
    (note,) = verified(Here(adversarial("llama")), there, longest=5, greedy=0).notes
    assert note.startswith("texts had 5 tokens at most, and the context is 24")


def test_a_vocabulary_of_another_size_is_another_model():
    found = verify(Here(tiny("llama", 40)), Here(tiny("llama", 43)), Ask(tolerance=1e-5, seed=1, **QUICK))
    assert found.check("vocabulary").says.startswith("40 logits a position here, 43 there")
    assert "not the same vocabulary" in found.says


def test_an_engine_that_answers_for_one_token_only_is_refused():
    class Last(Here):
        def read(self, tokens):
            return super().read(tokens)[-1:]

    with pytest.raises(BadInput, match=r"gives logits of shape \(1, 43\) for 9 tokens"):
        verify(Last(tiny("llama", 43)), Here(tiny("llama", 43)), Ask(tolerance=1e-5, seed=1, prompts=1))


# The pieces.


def test_the_distance_is_relative_to_each_position_of_the_reference():
    theirs = torch.tensor([[1.0, -4.0], [0.5, 0.25], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    ours = torch.tensor([[1.0, -4.4], [0.5, 0.5], [0.0, 0.0], [0.0, 1e-9], [math.inf, 1.0]])
    assert apart(ours, theirs).tolist() == pytest.approx([0.1, 0.5, 0.0, math.inf, math.inf])


def test_lengths_begin_with_one_token_and_end_at_the_context():
    for count in range(1, 9):
        lengths = draw_lengths(random.Random(count), count, 24)
        assert len(lengths) == count and max(lengths) == 24 and lengths == sorted(lengths)
        assert count < 2 or lengths[0] == 1
    assert set(draw_lengths(random.Random(0), 6, 1)) == {1}


def test_texts_are_as_long_as_both_can_read_and_memory_allows():
    small, large = Here(tiny("llama", 40)), Here(adversarial("llama"))
    assert longest_text(small, large, 512) == 9
    assert longest_text(large, large, 5) == 5
    large.vocab_size = 1 << 22
    assert longest_text(large, large, 512) == 8


def test_pieces_are_the_text_cut():
    text = tuple(range(24))
    for seed in range(20):
        pieces = in_pieces(text, random.Random(seed))
        assert [token for piece in pieces for token in piece] == [*text]
        assert all(1 <= len(piece) <= 8 for piece in pieces)


class Table(Here):
    """The same logits at every step, moved by what is given."""

    def __init__(self, logits, moved=0.0):
        self.name, self.vocab_size, self.context_length = "table", len(logits), None
        self.logits = torch.tensor(logits)
        self.moved = torch.tensor(moved)

    def forget(self):
        pass

    def read(self, tokens):
        return (self.logits + self.moved).repeat(len(tokens), 1)


@pytest.mark.parametrize(
    ("logits", "moved", "measured", "wrong", "excused"),
    [
        ([1.0, 2.0, 1.9999], 0.0, 1e-4, 0, 0),
        ([1.0, 2.0, 1.9999], [0.0, -1e-4, 1e-4], 0.0, 0, 3),  # apart by 5e-5, so noise is 1e-4; the margin is 5e-5
        ([1.0, 2.0, 1.9], [0.0, -0.1, 0.1], 0.0, 3, 0),  # the engines are apart, but by more than is allowed
        ([1.0, 2.0, 1.999], [0.0, -2e-3, 0.0], 0.0, 3, 0),
    ],
)
def test_a_choice_is_excused_only_where_the_margin_is_below_the_noise(logits, moved, measured, wrong, excused):
    here, there = Table(logits, moved), Table(logits)
    found = write_greedily(here, there, [0], 3, measured=measured, tolerance=2e-4)
    assert (len(found.wrong), len(found.excused)) == (wrong, excused)
    assert found.noise <= 2e-4


def test_a_wrong_choice_is_told_with_its_margin(elsewhere):
    there = elsewhere("llama", "transformers")

    class Swapped(Here):
        def read(self, tokens):
            logits = super().read(tokens).clone()
            top = logits[-1].topk(2).indices
            logits[-1, top] = logits[-1, top.flip(0)]
            return logits

    check = verified(Swapped(adversarial("llama")), there, tolerance=10.0).check("greedy")
    assert check.says.startswith("0 of 12 tokens alike; the rest is excused") and check.status == "pass"
    check = verified(Swapped(adversarial("llama")), there).check("greedy")
    assert check.says.startswith("0 of 12 tokens alike; at step 0 token") and check.status == "fail"
    assert "which prefers it by" in check.says


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tolerance": -1.0}, "`tolerance` is -1.0, not a number from 0 up"),
        ({"tolerance": math.nan}, "`tolerance` is nan"),
        ({"prompts": 0}, "`prompts` is 0, not a whole number from 1 up"),
        ({"greedy": -1}, "`greedy` is -1, not a whole number from 0 up"),
        ({"longest": 0}, "`longest` is 0"),
    ],
)
def test_a_wrong_question_is_refused(wrong, message):
    with pytest.raises(BadSetting, match=message):
        Ask(**{"tolerance": 1e-5, "seed": 0, **wrong})


# Rounded weights.


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    """A model 256 wide in four types of file."""
    folder = tmp_path_factory.mktemp("quantised")
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "context_length": 24, "d_model": 256, "n_layers": 2, "n_heads": 4, "d_ff": 256}
    model = build("llama", {**sizes, "n_kv_heads": 2})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=1.2 * parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 1.0)
    for kind in ("F32", "F16", "BF16", "Q8_0"):
        write_gguf(model, None, folder / f"{kind}.gguf", kind=kind)
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M, 1
    paths = [str(folder / f"{kind}.gguf").encode() for kind in ("F32", "Q4_K")]
    assert llama_cpp.llama_model_quantize(*paths, ctypes.byref(settings)) == 0
    return folder


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_K"])
def test_where_weights_are_rounded_the_noise_is_measured_and_faults_still_show(kind, quantised, tmp_path):
    opened = open_reference(quantised / f"{kind}.gguf")
    there = open_elsewhere("llama.cpp", opened, tmp_path, seed=1, longest=24, code=False)
    assert f"rounds what enters matrices of {kind}" in there.notes[0]
    found = verified(Here(opened.model), there, longest=24)
    assert found.verdict == "equal", found
    worst = max(check.worst or 0.0 for check in found.checks)
    assert there.tolerance / 12 < worst < there.tolerance
    for block in opened.model.blocks:
        weight = block.attention.q_proj.weight
        weight.data = to_pairs(weight.data, 4)
    assert failing(verified(Here(opened.model), there, longest=24))[:4] == [
        "prefill",
        "decode",
        "chunks",
        "second text",
    ]


def test_in_float32_files_nothing_is_rounded(quantised):
    assert rounded_in_file(read_header(quantised / "F32.gguf")) == {}
    kinds = rounded_in_file(read_header(quantised / "Q8_0.gguf"))
    assert {kind.name for kind in kinds.values()} == {"Q8_0"} and "head.weight" in kinds
    opened = open_reference(quantised / "F32.gguf")
    assert measured_noise(opened.model, {}, 0, longest=5) == 0.0
    assert 1e-3 < measured_noise(opened.model, kinds, 0, longest=5) < 0.3


# Files and engines.


def test_a_gguf_file_is_opened_by_transformers_own_reader_where_it_reads_all_of_it(tmp_path):
    for name, says in (("llama", None), ("qwen2 scaled by yarn", "passes over the rope scaling"), ("qwen3", "cannot")):
        write_gguf(adversarial(name), None, tmp_path / "model.gguf")
        opened = open_reference(tmp_path / "model.gguf")
        there = open_elsewhere("transformers", opened, tmp_path / "out", seed=0, longest=24, code=False)
        if says is None:
            assert there.notes == () and "rules of its own" in there.no_words
        else:
            assert "exported to a Hugging Face folder" in there.notes[0] and says in there.notes[0]
        assert verified(Here(opened.model), there, longest=24).verdict == "equal"


@pytest.mark.parametrize(
    ("model", "engine", "message"),
    [
        ("lstm", "transformers", "transformers knows no architecture `lstm`"),
        ("lstm", "llama.cpp", "GGUF has no name for the architecture `lstm`"),
        ("qwen2-pico", "picolab", "picolab would be compared with itself"),
        ("qwen2-pico", "llamacpp", "no engine is called `llamacpp`"),
    ],
)
def test_an_engine_that_cannot_run_the_model_says_why(model, engine, message, tmp_path):
    with pytest.raises(BadInput) as error:
        open_elsewhere(engine, open_reference(model), tmp_path, seed=0, longest=24, code=False)
    assert message in str(error.value)


def test_code_that_is_not_ours_may_sum_in_another_order(tmp_path):
    opened = open_reference("qwen2-pico", vocab_size=40)
    assert open_elsewhere("picolab", opened, tmp_path, seed=0, longest=9, code=True).tolerance == 1e-4
    assert open_elsewhere("llama.cpp", opened, tmp_path, seed=0, longest=9, code=True).tolerance == 1e-3


# Tokenizers.


@pytest.mark.parametrize("make", [bpe, spm])
@pytest.mark.parametrize("engine", ["transformers", "llama.cpp"])
def test_a_right_tokenizer_is_the_same_in_another_engine(make, engine, tmp_path):
    words = make()
    model = tiny("llama", words.vocab_size + 5)
    save_model(model, words, tmp_path / "model")
    opened = open_reference(tmp_path / "model")
    there = open_elsewhere(engine, opened, tmp_path, seed=0, longest=9, code=False)
    here = Here(model, words)
    rng = random.Random()
    readable = [token for token in range(words.vocab_size) if words.token_bytes(token)]
    texts = corpus(rng, ("<s>", "<|endoftext|>"))
    found = compare_words(here, there.engine, texts, rng, readable, tidied=there.tidied)
    assert found.disputes == () and found.refused == 0
    assert found.texts > 600 and found.lists - found.broken > 0


class Trimming(Here):
    def encode(self, text):
        return super().encode(text.lstrip())


class Special(Here):
    def encode(self, text):
        return super().encode(text.replace("<|endoftext|>", ""))


class Joining(Here):
    def decode(self, ids):
        return "".join(super(Joining, self).decode([i]) for i in ids)


class Composing(Here):
    def encode(self, text):
        return super().encode(text.replace("e\u0301", "é"))


@pytest.mark.parametrize("wrong", [Trimming, Special, Joining, Composing])
def test_a_wrong_tokenizer_is_found(wrong, tmp_path):
    words = bpe()
    model = tiny("gpt2", words.vocab_size)
    here, there = wrong(model, words), Here(model, words)
    found = verify(here, there, Ask(tolerance=1e-5, seed=1, **QUICK), Asides(readable=range(words.eot)))
    assert failing(found) == ["tokenizer"]
    assert "the same function of the tokens, but texts become other tokens" in found.says
    assert " differ, first " in found.check("tokenizer").says
    if wrong is Composing:
        ask, asides = Ask(tolerance=1e-5, seed=1, **QUICK), Asides(readable=range(words.eot), composed=True)
        assert verify(here, there, ask, asides).verdict == "equal"


def test_the_corpus_holds_what_breaks_tokenizers():
    texts = corpus(random.Random(0), ("<|mine|>",))
    whole = "".join(texts)
    assert {chr(code) for code in range(256)} <= set(whole)
    assert "" in texts and any("<|mine|>" in text for text in texts)
    assert {"\U0010ffff", "\u2028", "👍🏽"[1], "ท", "한", "漢"} <= set(whole)
    assert not any("\ud800" <= c <= "\udfff" for c in whole)
    assert corpus(random.Random(0)) == corpus(random.Random(0)) != corpus(random.Random(1))


def test_the_verdict_says_where_to_look_first(elsewhere):
    there = elsewhere("llama", "transformers")
    for wrong, says in (
        ("an echo", "already where they are read at once"),
        ("a stale cache slot", "look at the cache and at positions"),
    ):
        name, made, _, _ = WRONG[wrong]
        assert says in verified(made(adversarial(name)), there).says
    good = verified(Here(adversarial("llama")), there)
    assert "compute the same function" in good.says and "1.0e-05 is allowed" in good.says
    assert summary("a", "b", good.checks).startswith("a and b compute")


def test_engines_are_engines(elsewhere):
    assert isinstance(elsewhere("llama", "transformers").engine, Transformers)
    assert isinstance(elsewhere("llama", "llama.cpp").engine, Engine)
    assert isinstance(Opened(model=tiny("llama", VOCAB), tokenizer=None, source="x").model, torch.nn.Module)
