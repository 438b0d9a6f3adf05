"""The writing loop: what it reads, where it stops, and that company changes nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from picolab.errors import BadInput, BadSetting
from picolab.models import gpt2, kgram, llama, lstm
from picolab.sample.generate import Generation, generate, stream
from picolab.sample.pick import Sampler
from picolab.sample.stop import Cut
from picolab.text.build import build_tokenizer

TOKENIZER = build_tokenizer("bytes", list)
GREEDY = Sampler(temperature=0)


def transformer(context_length=40, **more):
    torch.manual_seed(5)
    model = gpt2.GPT2(
        gpt2.Config(vocab_size=257, context_length=context_length, d_model=24, n_layers=2, n_heads=3, d_ff=40, **more)
    )
    for weight in model.parameters():  # far from uniform, so that greedy text is not one token for ever
        torch.nn.init.normal_(weight, std=0.4)
    return model


MODEL = transformer()


class Script(kgram.KGram):
    """A model that writes one text, byte by byte, and then ends it, whatever the prompt; it reads for ever."""

    def __init__(self, text: bytes):
        super().__init__(kgram.Config(vocab_size=TOKENIZER.vocab_size, hidden=4, d_embed=4))
        self.ids = [*text, TOKENIZER.eot]
        self.written = 0

    def new_cache(self, batch_size, capacity):
        self.written = 0
        return super().new_cache(batch_size, capacity)

    def forward(self, tokens, *, cache=None, documents=None):
        super().forward(tokens, cache=cache)
        logits = torch.zeros(*tokens.shape, self.config.vocab_size)
        logits[..., self.ids[self.written]] = 100.0
        self.written += 1
        return logits


def greedy_without_cache(model, ids, max_new_tokens):
    ids = list(ids)
    for _ in range(max_new_tokens):
        with torch.no_grad():
            ids.append(int(model.eval()(torch.tensor([ids]))[0, -1].argmax()))
    return ids


@pytest.mark.parametrize(
    "model",
    [
        MODEL,
        llama.Llama(
            llama.Config(vocab_size=257, context_length=40, d_model=24, n_layers=2, n_heads=6, n_kv_heads=2, d_ff=40)
        ),
        kgram.KGram(kgram.Config(vocab_size=257, k=3)),
        lstm.LSTM(lstm.Config(vocab_size=257)),
    ],
    ids=["gpt2", "llama", "kgram", "lstm"],
)
def test_reading_on_from_a_cache_writes_what_reading_all_again_would(model):
    prompt = [TOKENIZER.eot, *b"harbour"]
    whole = greedy_without_cache(model, prompt, 20)
    (written,) = generate(model, TOKENIZER, [prompt], max_new_tokens=20, sampler=GREEDY)
    expected = whole[len(prompt) :]
    if TOKENIZER.eot in expected:
        expected = expected[: expected.index(TOKENIZER.eot)]
    assert list(written.ids) == expected


def test_a_text_prompt_is_opened_as_documents_are():
    (as_text,) = generate(MODEL, TOKENIZER, "harbour", max_new_tokens=9, sampler=GREEDY)
    (as_ids,) = generate(MODEL, TOKENIZER, [TOKENIZER.eot, *b"harbour"], max_new_tokens=9, sampler=GREEDY)
    assert as_text.ids == as_ids.ids
    assert as_text.prompt == "harbour"


def test_an_empty_prompt_begins_a_document():
    assert len(generate(MODEL, TOKENIZER, "", max_new_tokens=5, sampler=Sampler(top_k=5))[0].ids) > 0


@pytest.mark.parametrize("sampler", [GREEDY, Sampler(), Sampler(top_p=0.8, repetition_penalty=1.5)])
def test_a_text_is_the_same_alone_and_in_company(sampler):
    prompts = ["sea", "a", "boat", "sun", "", "a"]
    together = generate(MODEL, TOKENIZER, prompts, max_new_tokens=12, sampler=sampler, seed=3, n=3)
    alone = [
        text for p in prompts for text in generate(MODEL, TOKENIZER, p, max_new_tokens=12, sampler=sampler, seed=3, n=3)
    ]
    two_by_two = generate(MODEL, TOKENIZER, prompts, max_new_tokens=12, sampler=sampler, seed=3, n=3, batch_size=2)
    assert together == alone == two_by_two
    assert [text.prompt for text in together] == [p for p in prompts for _ in range(3)]


def test_seeds_and_samples_differ_and_repeat():
    texts = generate(MODEL, TOKENIZER, "sea", max_new_tokens=12, n=4, seed=0)
    texts += generate(MODEL, TOKENIZER, "sea", max_new_tokens=12, n=4, seed=1)
    assert len({text.ids for text in texts}) == 8
    assert texts[:4] == generate(MODEL, TOKENIZER, "sea", max_new_tokens=12, n=4, seed=0)


def test_what_dice_elsewhere_do_changes_nothing():
    before = generate(MODEL, TOKENIZER, "sea", max_new_tokens=12)
    torch.rand(7)
    state = torch.get_rng_state()
    assert generate(MODEL, TOKENIZER, "sea", max_new_tokens=12) == before
    assert torch.equal(state, torch.get_rng_state())


def test_the_end_of_text_ends_the_text():
    (written,) = generate(Script(b"the end"), TOKENIZER, "x", max_new_tokens=50)
    assert written == Generation(prompt="x", text="the end", ids=tuple(b"the end"), reason="eot")


def test_a_text_that_was_not_ended_has_the_length_asked_for():
    (written,) = generate(Script(b"no end in sight"), TOKENIZER, "x", max_new_tokens=6)
    assert (written.text, written.reason) == ("no end", "length")


def test_a_stop_string_ends_the_text_before_it():
    (written,) = generate(Script(b"one. two. three."), TOKENIZER, "x", stop=["wo.", "three"])
    assert (written.text, written.reason) == ("one. t", "stop")
    assert bytes(written.ids) == b"one. two."


def test_rows_that_ended_do_not_stop_the_others():
    texts = generate(MODEL, TOKENIZER, ["sea"], n=40, max_new_tokens=30, sampler=Sampler(temperature=3.0))
    assert {text.reason for text in texts} == {"eot", "length"}
    assert all(len(text.ids) == 30 for text in texts if text.reason == "length")


def test_where_the_context_ends_the_text_ends_and_says_so():
    model = Script(b"x" * 1000)
    assert generate(model, TOKENIZER, "a", max_new_tokens=900)[0].reason == "length"  # a k-gram reads for ever
    for text in generate(transformer(10), TOKENIZER, "abcd", max_new_tokens=50, n=20, sampler=Sampler(top_k=200)):
        # 10 positions are read, and the last of them still says what follows.
        assert text.reason == "eot" or (text.reason == "context" and 5 + len(text.ids) == 10 + 1)


def test_length_is_the_reason_where_both_end_at_once():
    assert generate(transformer(10), TOKENIZER, "abcdefghi", max_new_tokens=1, sampler=GREEDY)[0].reason == "length"


def test_a_prompt_longer_than_the_context_is_refused():
    with pytest.raises(BadInput) as caught:
        generate(transformer(10), TOKENIZER, "abcdefghij")
    assert str(caught.value) == "the prompt has 11 tokens, its opening included, and the model reads 10"
    (fits,) = generate(transformer(10), TOKENIZER, "abcdefghi", max_new_tokens=5, sampler=GREEDY)
    assert (fits.reason, len(fits.ids)) == ("context", 1)


@given(text=st.text(max_size=20), stop=st.lists(st.text("ab.é", min_size=1, max_size=3), max_size=2))
def test_a_stream_is_the_text_in_whole_characters(text, stop):
    model = Script(text.encode())
    pieces = stream(model, TOKENIZER, "p", stop=stop)
    given = []
    while True:
        try:
            given.append(next(pieces))
        except StopIteration as end:
            result = end.value
            break
    first = len(text)
    ends = [end for end in range(len(text) + 1) if any(s in text[:end] for s in stop)]
    if ends:  # of several stop strings the one that is complete first counts
        first = min(at for s in stop if (at := text[: ends[0]].find(s)) >= 0)
    assert "".join(given) == result.text == text[:first]
    assert all(given)
    assert result.reason == ("stop" if ends else "eot")
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(given) or "\N{REPLACEMENT CHARACTER}" in text
    assert result == generate(model, TOKENIZER, "p", stop=stop)[0]


def test_a_stream_hands_a_piece_out_before_the_text_is_finished():
    model = Script(b"word by word")
    pieces = stream(model, TOKENIZER, "p")
    assert next(pieces) == "w"
    assert model.written == 1


def test_half_a_character_at_the_end_is_shown_as_such():
    (written,) = generate(Script("é".encode()[:1]), TOKENIZER, "x")
    assert written.text == "\N{REPLACEMENT CHARACTER}"


@given(
    text=st.text("ab", max_size=12),
    stop=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 12)),
)
def test_a_cut_text_is_the_text_before_the_first_stop_string(text, stop, cuts):
    cut = Cut(stop)
    ends = sorted({min(c, len(text)) for c in cuts} | {0, len(text)})
    out = ""
    for start, end in pairwise(ends):
        out += cut.push(text[start:end])
        assert text.startswith(out)
        if cut.found:
            break
    out += cut.finish()
    # Of several stop strings the one that is complete first counts, as it must in a stream.
    complete = min((text.find(s) + len(s) for s in stop if s in text), default=None)
    if complete is None:
        assert out == text
    else:
        assert cut.found and not any(s in out for s in stop)


def test_an_empty_stop_string_is_refused():
    with pytest.raises(BadSetting, match="a stop string is empty"):
        generate(MODEL, TOKENIZER, "x", stop=[""])


def test_the_model_is_left_in_the_mode_it_came_in_and_dropout_sleeps():
    model = transformer(dropout=0.5).train()
    first = generate(model, TOKENIZER, "sea", max_new_tokens=8)
    assert model.training
    assert generate(model, TOKENIZER, "sea", max_new_tokens=8) == first
    pieces = stream(model, TOKENIZER, "sea", max_new_tokens=8)
    next(pieces)
    assert model.training and not torch.is_inference_mode_enabled() and torch.is_grad_enabled()


def test_an_opening_end_of_text_is_not_held_against_the_closing_one():
    hesitant = Script(b"")
    scores = torch.zeros(257)
    scores[ord("a")], scores[TOKENIZER.eot] = 1.0, 1.5
    hesitant.forward = lambda tokens, cache=None: scores.expand(*tokens.shape, 257)
    sampler = Sampler(temperature=0, repetition_penalty=2.0)
    assert generate(hesitant, TOKENIZER, "b", max_new_tokens=4, sampler=sampler)[0].reason == "eot"


def test_a_row_of_the_head_that_stands_for_no_token_is_never_picked():
    rounded_up = Script(b"")
    rounded_up.forward = lambda tokens, cache=None: torch.arange(320.0).expand(*tokens.shape, 320)
    assert generate(rounded_up, TOKENIZER, "b", sampler=GREEDY)[0].reason == "eot"


@pytest.mark.parametrize("name", ["max_new_tokens", "n", "batch_size"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(BadSetting, match=f"`{name}` is 0, not a whole number from 1 up"):
        generate(MODEL, TOKENIZER, "x", **{name: 0})


def test_ids_the_model_does_not_know_are_refused():
    with pytest.raises(BadInput, match="token 300 is not in the model's vocabulary of 257"):
        generate(MODEL, TOKENIZER, [[5, 300]])
    with pytest.raises(BadInput, match="the prompt has no token"):
        generate(MODEL, TOKENIZER, [[]])
