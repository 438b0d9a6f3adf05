"""Texts of different lengths side by side: the numbers of each are those it has alone."""

from __future__ import annotations

import pytest
import torch

from picolab.data.batch import Batch
from picolab.errors import BadInput, BadSetting
from picolab.models import ngram
from picolab.parts.cache import KeyValueCache
from picolab.parts.tap import listening
from picolab.sample import steps
from picolab.sample.compiled import Step
from picolab.sample.generate import Speculation, generate, groups
from picolab.sample.pick import Sampler
from picolab.sample.reader import Reader, can_start_late
from picolab.sample.rows import Row, reach

from zoo_twins import CONTEXT, TWINS, VOCAB, adversarial, some_tokens

GREEDY = Sampler(temperature=0)
LENGTHS = [1, 4, 17, 9, 4]
DECODERS = [name for name in TWINS if isinstance(adversarial(name).new_cache(1, 1), KeyValueCache)]
TOGETHER = [name for name in TWINS if can_start_late(adversarial(name))]


def prompts():
    return [some_tokens(batch=1, time=length, seed=length + at)[0].tolist() for at, length in enumerate(LENGTHS)]


def row(model, ids, max_new_tokens=7):
    return Row(model, None, ids, seed=0, sample=0, stop=(), max_new_tokens=max_new_tokens, ignore_eot=True)


def counted():
    """An n-gram model of random text."""
    model = ngram.NGram(ngram.Config(vocab_size=VOCAB, context_length=CONTEXT, order=4))
    tokens = some_tokens(batch=40)
    model.estimate([Batch(tokens, tokens.roll(-1, 1), torch.zeros_like(tokens))])
    return model.eval()


def test_everything_but_the_lstm_can_start_late():
    assert set(TWINS) - set(TOGETHER) == {"lstm"}
    assert len(DECODERS) >= 19


@pytest.mark.parametrize("name", [*TOGETHER, "ngram"])
@torch.no_grad()
def test_the_logits_of_a_row_are_those_it_has_alone(name):
    model = counted() if name == "ngram" else adversarial(name)
    texts = [[*ids, *some_tokens(batch=1, time=6, seed=at)[0].tolist()] for at, ids in enumerate(prompts())]
    reader = Reader(model, [row(model, ids) for ids in prompts()])
    seen = [reader.begin(prompts())]
    for step in range(6):
        newest = [[text[length + step]] for text, length in zip(texts, LENGTHS, strict=True)]
        seen.append(reader.read(torch.tensor(newest)))
    together = torch.cat(seen, dim=1)
    for at, (text, length) in enumerate(zip(texts, LENGTHS, strict=True)):
        alone = model(torch.tensor([text]))[0, length - 1 :]
        assert (together[at] - alone).norm() < 1e-5 * alone.norm()
        torch.testing.assert_close(together[at], alone, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [*TWINS, "ngram"])
def test_greedy_texts_are_those_written_alone(name):
    model = counted() if name == "ngram" else adversarial(name)
    together = generate(model, None, prompts(), max_new_tokens=12, sampler=GREEDY)
    alone = [generate(model, None, [ids], max_new_tokens=12, sampler=GREEDY)[0] for ids in prompts()]
    assert together == alone
    # 17 tokens and 8 that are read, of 24: the longest row ends before the others, and they go on without it.
    reasons = {"context", "length"} if reach(model) else {"length"}
    assert {text.reason for text in together} == reasons


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_oss", "kgram-conv", "lstm"])
def test_sampled_texts_are_those_written_alone(name):
    model, sampler = adversarial(name), Sampler(temperature=0.8, top_p=0.9, repetition_penalty=1.2)
    together = generate(model, None, prompts(), max_new_tokens=12, sampler=sampler, n=3, seed=4)
    alone = [
        t for ids in prompts() for t in generate(model, None, [ids], max_new_tokens=12, sampler=sampler, n=3, seed=4)
    ]
    assert together == alone
    assert len({text.ids for text in together}) == len(together)


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_padding_is_finite_and_without_weight(name):
    model = adversarial(name)
    cache = model.new_cache(2, 9)
    cache.start_at([0, 5])
    tokens = some_tokens(time=9)
    probs, everything = {}, []
    with listening(model, lambda site, value: everything.append(value.isfinite().all()) or probs.update({site: value})):
        model(tokens, cache=cache)
    # Scores are watched before the mask; whatever else there is, is a number.
    assert all(everything)
    for site, value in probs.items():
        if site.endswith("probs"):
            assert value[1, :, 5:, :5].abs().max() == 0
            assert (value[1, :, 5:].sum(-1) <= 1 + 1e-5).all()


@torch.no_grad()
def test_what_stands_in_the_padding_does_not_matter():
    model = adversarial("mistral")
    tokens = some_tokens(batch=2, time=9)
    other = tokens.clone()
    other[1, :5] = (other[1, :5] + 11) % VOCAB
    out = []
    for some in (tokens, other):
        cache = model.new_cache(2, 9)
        cache.start_at([0, 5])
        out.append(model(some, cache=cache))
    assert torch.equal(out[0][1, 5:], out[1][1, 5:]) and torch.equal(out[0][0], out[1][0])
    assert not torch.equal(out[0][1, :5], out[1][1, :5])


def test_prompts_are_read_in_one_pass():
    model = adversarial("llama")
    shapes = []
    original = model.features
    model.features = lambda tokens, **more: shapes.append(tuple(tokens.shape)) or original(tokens, **more)
    generate(model, None, prompts(), max_new_tokens=2, sampler=GREEDY)
    assert shapes == [(5, 17), (5, 1)]


def test_rows_that_have_ended_are_not_written_on():
    model = adversarial("qwen2")
    shapes = []
    original = model.features
    model.features = lambda tokens, **more: shapes.append(tuple(tokens.shape)) or original(tokens, **more)
    ids = prompts()[2]  # 17 tokens: 8 more can be written
    texts = generate(model, None, [ids, [3], ids, ids], max_new_tokens=20, sampler=GREEDY)
    assert [len(text.ids) for text in texts] == [8, 20, 8, 8]
    assert [shape for shape, _ in shapes] == [4] * 8 + [1] * 12


def test_neighbours_in_length_are_read_together():
    model = adversarial("llama")
    rows = [row(model, ids) for ids in prompts()]
    lengths = [[len(r.prompt_ids) for r in group] for group in groups(rows, 2, mixed=True)]
    assert lengths == [[1, 4], [4, 9], [17]]
    lengths = [[len(r.prompt_ids) for r in group] for group in groups(rows, 2, mixed=False)]
    assert lengths == [[1], [4, 4], [9], [17]]


def test_a_cache_refuses_starts_it_cannot_have():
    cache = adversarial("llama").new_cache(2, 9)
    for starts in ([1], [0, -1]):
        with pytest.raises(BadInput, match="are not the starts of 2 rows"):
            cache.start_at(starts)
    cache.advance(3)
    with pytest.raises(BadInput, match="the cache holds 3 positions"):
        cache.start_at([0, 1])
    with pytest.raises(BadInput, match="4 positions cannot be taken back from the 3"):
        cache.take_back(4)


def test_the_context_counts_from_where_the_longest_row_starts():
    model = adversarial("gpt2")
    cache = model.new_cache(2, CONTEXT + 5)
    cache.start_at([5, 9])
    model(some_tokens(time=CONTEXT + 5), cache=cache)
    with pytest.raises(BadInput, match="25 positions are more than the model's context of 24"):
        model(some_tokens(time=1), cache=cache)


@pytest.mark.parametrize("name", ["gpt2", "mistral"])
def test_compiled_steps_write_the_same_texts(name, monkeypatch):
    """The loop around the step; the step itself, compiled, has tests of its own."""
    made = []

    def uncompiled(model, batch_size, capacity):
        made.append((batch_size, capacity))
        return Step(model, batch_size, capacity, compiled=False)

    monkeypatch.setattr(steps, "compiled_step", uncompiled)
    model = adversarial(name)
    for sampler in (GREEDY, Sampler()):
        options = {"max_new_tokens": 12, "sampler": sampler, "n": 2}
        assert generate(model, None, prompts(), **options, compiled=True) == generate(model, None, prompts(), **options)
    # Lengths 1, 4, 9, 17, two texts of each and twice as many of length 4; the longest is read to the context's end.
    assert made == [(2, 24), (4, 24)] * 2
    with pytest.raises(BadSetting, match="a compiled step reads one token at a time"):
        generate(model, None, prompts(), compiled=True, speculation=Speculation())
