"""Neurons built by hand: one opens for one family, one never, one always; and labels that mean nothing."""

import numpy as np
import pytest
import torch
from scipy.stats import f_oneway

from handmade import copier, tokenizer, with_neurons
from picolab.errors import BadInput, PicolabError
from picolab.interpret.activity import activity_of
from picolab.interpret.chance import p_value, shuffles
from picolab.interpret.neurons import eta_squared, neurons_of, says
from picolab.interpret.texts import Texts, batches, texts_of
from picolab.zoo import create

EOT = 12


def two_kinds(count=12, seed=0):
    """Texts of the numbers 0 to 5, and of 6 to 11, with different lengths."""
    rng = np.random.default_rng(seed)
    ids, group = [], []
    for kind in (0, 1):
        for _ in range(count):
            numbers = rng.integers(6, size=int(rng.integers(3, 9))) + 6 * kind
            ids.append((EOT, *numbers.tolist()))
            group.append(kind)
    return Texts(ids=tuple(ids), group=tuple(group), names=("low", "high"), source="two kinds")


@pytest.fixture(scope="module")
def found():
    return neurons_of(with_neurons(copier()), two_kinds(), seed=0)


def test_a_neuron_that_opens_for_one_kind_is_the_most_selective_and_named_for_it(found):
    best = found.top[0]
    assert (best.name, best.group) == ("0.0", "low")
    assert best.selectivity > 0.99
    assert best.q < 0.05 and found.best_p == 0.001
    assert "Neuron 0.0 is the most selective" in says(found)[1] and "for low" in says(found)[1]


def test_dead_and_always_open_neurons_are_counted(found):
    # Of 32 neurons, 0.0 and 0.3 open at times and 0.2 always; a weight and a bias of 0 leave the others at 0.
    assert (found.count, found.dead, found.always_on) == (32, 29, 1)
    assert "29 of 32 neurons are dead" in says(found)[2]


def test_a_neuron_that_never_changes_is_not_selective(found):
    assert found.selectivity[1] == 0 and found.p[1] == 1


def test_the_strongest_contexts_show_the_token_that_opened_the_neuron(found):
    seven = next(neuron for neuron in found.top if neuron.name == "0.3")
    for context in seven.contexts:
        assert context.tokens[context.at] == 7 and context.group == "high"


def test_means_leave_out_the_opening_and_padding():
    model, texts = with_neurons(copier()), two_kinds()
    activity = activity_of(model, texts)
    for row, ids in enumerate(texts.ids):
        alone = activity_of(model, Texts(ids=(ids,), group=(0,), names=("a",), source="a"))
        assert np.allclose(activity.means[row], alone.means[0], atol=1e-6)
        assert activity.peak_at[row, 0] >= 1


def test_eta_squared_agrees_with_the_analysis_of_variance():
    rng = np.random.default_rng(0)
    group = rng.integers(3, size=40)
    values = rng.normal(size=(40, 5)) + group[:, None] * np.array([0, 0.1, 0.5, 1, 3])
    eta = eta_squared(values, group[None])[0]
    f = eta / (1 - eta) * (40 - 3) / (3 - 1)
    assert f == pytest.approx(f_oneway(*(values[group == i] for i in range(3))).statistic)


def test_shuffled_kinds_give_p_that_are_uniform():
    rng = np.random.default_rng(1)
    group = np.repeat([0, 1, 2], 10)
    values = rng.normal(size=(30, 600))
    p = p_value(eta_squared(values, group[None])[0], eta_squared(values, group[shuffles(30, 0, 199)]))
    for share in (0.05, 0.25, 0.5, 0.75):
        assert abs((p <= share).mean() - share) < 4 * np.sqrt(share * (1 - share) / 600)


def test_a_random_model_and_random_kinds_find_nothing():
    torch.manual_seed(0)
    model = create("softmax-pico", vocab_size=14, seed=3, d_model=16, n_heads=2, d_ff=64)
    rng = np.random.default_rng(2)
    ids = tuple((EOT, *rng.integers(12, size=6).tolist()) for _ in range(40))
    texts = Texts(ids=ids, group=tuple(i % 2 for i in range(40)), names=("a", "b"), source="nothing")
    found = neurons_of(model, texts)
    assert found.selective == 0
    assert "No neuron stands out" in says(found)[1]


def test_the_twin_with_random_weights_is_told_beside():
    texts, model = two_kinds(), with_neurons(copier())
    assert neurons_of(model, texts, untrained=model).random == 0.0  # most of these neurons do nothing
    assert "with random weights" in says(neurons_of(model, texts, untrained=model))[0]


def test_one_kind_of_text_cannot_be_compared():
    texts = two_kinds().of("low")
    with pytest.raises(BadInput, match="one kind of text"):
        neurons_of(copier(), texts)


def test_a_kind_of_a_single_text_cannot_be_compared():
    texts = Texts(ids=((1, 2), (1, 3), (4, 5)), group=(0, 0, 1), names=("a", "b"), source="c")
    with pytest.raises(BadInput, match="`b` has 1 text"):
        neurons_of(copier(), texts)


@pytest.mark.parametrize("preset", ["lstm", "kgram-embed", "qwen2-pico"])
def test_other_families_have_neurons_too(preset):
    found = neurons_of(create(preset, vocab_size=14, seed=0).eval(), two_kinds())
    assert found.count > 0
    assert (found.always_on is None) == (preset == "lstm")


def test_a_gated_neuron_is_open_where_its_gate_is():
    model = create("qwen2-pico", vocab_size=14, seed=0, d_model=32, n_heads=2, n_kv_heads=2, d_ff=8, n_layers=1).eval()
    with torch.no_grad():
        model.blocks[0].mlp.gate_proj.weight.zero_()
    assert (activity_of(model, two_kinds()).open == 0).all()  # a gate of 0 is not above 0


def test_numeric_texts_are_grouped_by_the_rule_that_explains_them():
    spec = "numeric:counting+alternating+random-walk:numbers=12:shortest=4:longest=8:documents=300"
    texts = texts_of(spec, copier(), tokenizer(), each=20)
    assert texts.names == ("counting", "alternating", "random-walk")
    for ids, group in zip(texts.ids, texts.group, strict=True):
        assert ids[0] == EOT
        steps = np.diff(ids[1:])
        assert ((steps == 1).all()) == (texts.names[group] == "counting")
    assert len(set(texts.ids)) == len(texts.ids)  # one text counts once


def test_blended_texts_are_grouped_by_source():
    model = create("softmax-pico", vocab_size=258, seed=0)
    from picolab.text.build import build_tokenizer

    texts = texts_of("field_notes=0.5,harbour_diary=0.5", model, build_tokenizer("bytes"), each=5, longest=20)
    assert texts.names == ("field_notes", "harbour_diary")
    assert texts.group == (0,) * 5 + (1,) * 5
    assert texts.longest == 20


def test_an_unknown_family_is_refused_with_the_nearest():
    with pytest.raises(PicolabError, match="no integer family is called `countin`") as caught:
        texts_of("numeric:countin", copier(), tokenizer())
    assert "counting" in caught.value.hint


def test_padding_is_no_target():
    (batch,) = batches([(1, 2, 3), (4, 5)])
    assert batch.targets.tolist() == [[5, -1, -1], [2, 3, -1]]
    assert batch.rows == (1, 0)
