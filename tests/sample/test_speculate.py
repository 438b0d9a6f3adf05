"""Guesses decide how fast a text is written, never what it says."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from picolab.errors import BadData, BadInput, BadSetting
from picolab.models.lstm import LSTM, Config
from picolab.parts.cache import KeyValueCache
from picolab.sample.generate import generate, stream
from picolab.sample.meter import Meter
from picolab.sample.pick import Sampler
from picolab.sample.speculate import LONGEST, ORDER, SHORTEST, Continuations, Lookup, Speculation
from picolab.weights.formats import open_checkpoint

from trained_story import STORIES, needs_stories, reference
from zoo_twins import TWINS, VOCAB, adversarial, some_tokens

GREEDY = Sampler(temperature=0)
DECODERS = [name for name in TWINS if isinstance(adversarial(name).new_cache(1, 1), KeyValueCache)]


def repetitive(seed: int = 0) -> list[int]:
    """A prompt in which much occurs twice, so that there is something to guess."""
    some = some_tokens(batch=1, time=5, seed=seed)[0].tolist()
    return [*some, *some, *some[:2]]


class Told:
    """A corpus that knows what the model will say, but for every third token."""

    def __init__(self, ids):
        self.ids = ids

    def draft(self, ids, most):
        truth = self.ids[len(ids) : len(ids) + most]
        return [token if (len(ids) + at) % 3 else (token + 1) % VOCAB for at, token in enumerate(truth)], LONGEST + 1


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("name", DECODERS)
def test_greedy_texts_are_the_same_with_guesses_right_and_wrong(name, k):
    model, prompt = adversarial(name), repetitive()
    (plain,) = generate(model, None, [prompt], max_new_tokens=12, sampler=GREEDY)
    meter = Meter()
    told = Speculation(k=k, corpus=Told([*prompt, *plain.ids]))
    (guessed,) = generate(model, None, [prompt], max_new_tokens=12, sampler=GREEDY, speculation=told, meter=meter)
    assert guessed == plain
    assert meter.accepted > 0
    if k > 1:
        assert meter.accepted < meter.drafted and meter.passes < len(plain.ids) - 1
    assert meter.tokens_written == len(plain.ids) - 1 == meter.passes + meter.accepted
    (looked_up,) = generate(model, None, [prompt], max_new_tokens=12, sampler=GREEDY, speculation=Speculation(k=k))
    assert looked_up == plain


@pytest.mark.parametrize("sampler", [Sampler(), Sampler(temperature=0.5, top_p=0.9), Sampler(repetition_penalty=1.4)])
def test_with_the_same_seed_guesses_change_no_sampled_text(sampler):
    model, prompts = adversarial("llama"), [repetitive(seed) for seed in range(3)]
    plain = generate(model, None, prompts, max_new_tokens=12, sampler=sampler, seed=5, n=4)
    for corpus in (None, Told([*prompts[0], *plain[0].ids])):
        guessed = generate(
            model,
            None,
            prompts,
            max_new_tokens=12,
            sampler=sampler,
            seed=5,
            n=4,
            speculation=Speculation(corpus=corpus),
        )
        assert guessed == plain


def test_sampled_tokens_keep_their_probabilities():
    """Leviathan et al., appendix A.1: whatever is guessed, the text is distributed as without."""
    model, prompt, sampler = adversarial("gpt2"), repetitive(), Sampler(temperature=1.5, top_k=3)
    likely = generate(model, None, [prompt], max_new_tokens=3, sampler=GREEDY)[0].ids
    speculation = Speculation(k=2, corpus=Told([*prompt, *likely, *likely]))
    texts = generate(model, None, [prompt], max_new_tokens=2, sampler=sampler, n=400, seed=1, speculation=speculation)
    with torch.no_grad():
        first = sampler.distribution(model(torch.tensor([prompt]))[:, -1])[0]
        expected = Counter()
        for token in first.nonzero().flatten().tolist():
            second = sampler.distribution(model(torch.tensor([[*prompt, token]]))[:, -1])[0]
            for other in second.nonzero().flatten().tolist():
                expected[token, other] = 400 * float(first[token] * second[other])
    seen = Counter(text.ids for text in texts)
    assert set(seen) <= set(expected)
    chi2 = sum((seen[pair] - want) ** 2 / want for pair, want in expected.items())
    assert chi2 < 26.1  # 8 degrees of freedom, one in a thousand
    assert len(expected) == 9


@needs_stories
def test_the_trained_model_tells_its_story_in_fewer_passes():
    model, tokenizer = open_checkpoint(STORIES / "stories260K.gguf")
    told = reference()["greedy_ids"]
    corpus = Continuations.of([told[1:]], opening=1, vocab_size=512)  # a corpus that knows the story
    for speculation, at_least in ((Speculation(k=4), 1.2), (Speculation(k=8, corpus=corpus), 4)):
        meter = Meter()
        (text,) = generate(
            model, tokenizer, "", max_new_tokens=len(told) - 1, sampler=GREEDY, speculation=speculation, meter=meter
        )
        assert list(text.ids) == told[1:]
        assert meter.tokens_a_pass is not None and meter.tokens_a_pass > at_least


def test_a_text_ends_where_it_would_have_ended():
    """At a stop string, at its length, at the context's end: also in the middle of an accepted guess."""
    model, prompt = adversarial("llama"), repetitive()
    (plain,) = generate(model, None, [prompt], max_new_tokens=50, sampler=GREEDY)
    assert (plain.reason, len(plain.ids)) == ("context", 24 - 12 + 1)
    for length in range(1, 14):
        for stop in ((), (f",{plain.ids[4]}",)):
            options = {"max_new_tokens": length, "sampler": GREEDY, "stop": stop}
            (expected,) = generate(model, None, [prompt], **options)
            sure = Speculation(k=5, corpus=Told([*prompt, *plain.ids]))
            assert generate(model, None, [prompt], **options, speculation=sure) == [expected]


def test_a_stream_may_guess_too():
    model, prompt = adversarial("llama"), repetitive()
    (plain,) = generate(model, None, [prompt], max_new_tokens=9, sampler=GREEDY)
    sure = Speculation(k=3, corpus=Told([*prompt, *plain.ids]))
    assert "".join(stream(model, None, prompt, max_new_tokens=9, sampler=GREEDY, speculation=sure)) == plain.text


def lookup_plainly(ids, most):
    """What `Lookup` says, by looking at every place of the text."""
    for length in range(min(LONGEST, len(ids)), SHORTEST - 1, -1):
        for start in range(len(ids) - length - 1, -1, -1):
            if ids[start : start + length] == ids[-length:]:
                text = list(ids)
                for at in range(start + length, start + length + most):
                    text.append(text[at])
                return text[len(ids) :], length
    return [], 0


@given(st.lists(st.integers(0, 2), max_size=30), st.integers(0, 9), st.integers(1, 4))
def test_the_longest_end_of_the_text_that_occurred_before_is_found(ids, most, step):
    lookup = Lookup()
    for end in range(0, len(ids) + 1, step):
        lookup.read(ids[:end])
    lookup.read(ids)
    draft, length = lookup.draft(most)
    assert (draft, length) == lookup_plainly(ids, most)


def counts_after(documents, ids):
    """How often each token followed the longest end of `ids` that the corpus knows, and how long that is."""
    for length in range(min(ORDER - 1, len(ids)), SHORTEST - 1, -1):
        counts = Counter(
            document[end]
            for document in documents
            for end in range(length, len(document))
            if document[end - length : end] == ids[-length:]
        )
        if counts:
            return counts, length
    return Counter(), 0


@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=12), min_size=1, max_size=6), st.data())
def test_a_corpus_guesses_what_most_often_followed(documents, data):
    corpus = Continuations.of(documents, opening=0, vocab_size=5)
    ids = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=6))
    counts, expected = counts_after([[0, *document] for document in documents], ids)
    draft, known = corpus.draft(ids, 1)
    assert known == expected and len(draft) == bool(counts)
    if known == ORDER - 1:
        assert counts[draft[0]] == max(counts.values())
    elif known:  # shorter contexts count how many tokens stood before them (Kneser and Ney)
        assert draft[0] in counts
    assert corpus.n_tokens == sum(map(len, documents))


@pytest.mark.parametrize(("often", "seldom"), [(2, 3), (3, 2)])
def test_the_more_frequent_continuation_is_guessed(often, seldom):
    documents = [[1, 1, 1, 1, often]] * 3 + [[1, 1, 1, 1, seldom]] * 2
    corpus = Continuations.of(documents, opening=0, vocab_size=5)
    assert corpus.draft([1, 1, 1, 1], 1) == ([often], 4)
    tied = Continuations.of(documents[1:], opening=0, vocab_size=5)
    assert tied.draft([1, 1, 1, 1], 1) == ([2], 4)


def test_a_longer_guess_is_one_guess_after_another():
    corpus = Continuations.of([[1, 2, 3, 4, 5, 6, 7]], opening=0, vocab_size=9)
    assert corpus.draft([0, 1, 2], 4) == ([3, 4, 5, 6], 3)
    assert corpus.draft([8, 3, 4], 9) == ([5, 6, 7], 2)
    assert corpus.draft([8], 4) == ([], 0)


def test_a_corpus_of_other_ids_or_none_is_refused():
    with pytest.raises(BadData, match="token 9 of the corpus is outside the model's vocabulary of 9"):
        Continuations.of([[1, 9]], opening=0, vocab_size=9)
    with pytest.raises(BadData, match="the corpus is empty"):
        Continuations.of([[]], opening=0, vocab_size=9)


def test_models_that_cannot_forget_do_not_guess():
    for model in (LSTM(Config(vocab_size=VOCAB)), adversarial("kgram-embed")):
        with pytest.raises(BadInput, match=f"`{model.architecture}` cannot take back what it has read"):
            generate(model, None, [[1, 2]], speculation=Speculation())
    with pytest.raises(BadSetting, match="`speculate` is 0"):
        Speculation(k=0)


def test_a_meter_counts_what_was_done():
    meter = Meter()
    texts = generate(adversarial("llama"), None, [[1, 2, 3], [4]], max_new_tokens=6, sampler=GREEDY, meter=meter)
    assert [len(text.ids) for text in texts] == [6, 6]
    assert (meter.tokens_read, meter.tokens_written, meter.passes, meter.tokens_a_pass) == (4, 10, 5, 2.0)
    assert meter.seconds_reading > 0 and meter.writing_speed == 10 / meter.seconds_writing
    assert meter.acceptance is None
    assert json.dumps(texts[0].text)
