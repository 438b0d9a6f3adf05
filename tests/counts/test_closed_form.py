"""Written-down attention: it looks where it was told, stays what it was through training and disk, and starts like its rivals."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from picolab.counts.closed_form import write_attention
from picolab.counts.coherence import coherence, welch
from picolab.counts.count import count_corpus
from picolab.counts.embeddings import NORM, neighbour_embedding, orthogonal_embedding
from picolab.counts.exact import smoothed
from picolab.counts.places import SHARP, WIDEST, Window, fading, place, weights, window_of
from picolab.counts.published import head_of
from picolab.counts.runs import tally
from picolab.counts.shape import Shape
from picolab.counts.sparse import Sparse, leading
from picolab.counts.tables import Table
from picolab.counts.values import KAPPA, RIDGE, following
from picolab.data.prepare import prepare
from picolab.errors import BadCheckpoint, BadData, BadSetting, UnknownName
from picolab.measure.parameters import count_parameters
from picolab.models.counted import ATTENTION, Config
from picolab.parts.rope import Rope, rotate
from picolab.trace.record import record
from picolab.weights.checkpoint import load_model, save_model
from picolab.zoo import build, create

SMALL = {"d_model": 96, "d_ff": 64, "context_length": 64}


@pytest.fixture(scope="module")
def letters():
    return prepare("stories", tokenizer="characters")


@pytest.fixture(scope="module")
def pieces():
    return prepare("stories", tokenizer="bpe-512")


def written(dataset, **settings):
    torch.manual_seed(0)
    model = build("counted", {**SMALL, "vocab_size": dataset.tokenizer.vocab_size, **settings})
    return model, write_attention(model, dataset, seed=0)


def attended(query, key, length):
    """What a head with these constants looks at."""
    width = len(query)
    turn = Rope(length, width, 10000.0)(torch.arange(length)[None])
    q, k = (rotate(x.float().expand(1, length, 1, width), turn)[0, :, 0] for x in (query, key))
    scores = (q @ k.T) / width**0.5
    return scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -torch.inf).softmax(-1)


def looked_at(model, tokens):
    with record(model, "blocks.*.attention.probs") as seen, torch.no_grad():
        model(tokens)
    return [seen[f"blocks.{i}.attention.probs"][0] for i in range(model.config.n_layers)]


@pytest.mark.parametrize("offset", [0, 1, 2, 5, 40])
@pytest.mark.parametrize(("beta", "least"), [(30.0, 1 - 1e-6), (4.0, 0.95)])
def test_a_place_is_where_the_head_looks(offset, beta, least):
    probs = attended(*place(offset, 64, 10000.0, beta), 60)
    assert probs.diagonal(-offset).min() > least
    torch.testing.assert_close(
        probs[offset:].double(), weights(offset, 64, 10000.0, beta, 60)[offset:], atol=3e-4, rtol=0
    )


@pytest.mark.parametrize(
    ("width", "head_dim", "length"), [(7.5, 64, 128), (1.0, 64, 60), (7.5, 8, 128), (30.0, 48, 512)]
)
def test_a_window_fades_as_it_was_told(width, head_dim, length):
    probs = attended(*fading(Window(width), head_dim, 10000.0, length), length).double()
    apart = (probs - weights(Window(width), head_dim, 10000.0, 0.0, length)).abs().sum(-1) / 2
    assert apart.max() < 0.02
    wrong = weights(Window(1.3 * width), head_dim, 10000.0, 0.0, length)
    assert (probs - wrong).abs().sum(-1).max() / 2 > 0.04


def test_a_window_is_as_wide_as_information_fades():
    fades = {offset: 0.2 * np.exp(-offset / 6) for offset in range(1, 6)}
    assert window_of(fades).width == pytest.approx(6)
    assert window_of(fades | {4: -1e-4}).width == pytest.approx(
        6
    )  # corrected for what was never seen, nothing may be less
    assert window_of(dict.fromkeys(range(1, 6), 0.1)).width == WIDEST
    assert window_of(dict.fromkeys(range(1, 6), -0.1)).width == WIDEST


def test_positions_that_all_turn_fast_leave_no_room_for_a_window(pieces, tmp_path):
    model = build("counted", {**SMALL, "vocab_size": pieces.tokenizer.vocab_size, "rope_theta": 3.0})
    counted = []
    with pytest.raises(BadSetting, match="no head can tell near from far"):
        write_attention(model, pieces, folder=tmp_path / "counts", progress=lambda done, total: counted.append(done))
    assert not counted and not (tmp_path / "counts").exists()


@pytest.mark.parametrize("corpus", ["letters", "pieces"])
def test_the_heads_look_where_the_plan_says_after_training_too(corpus, request):
    dataset = request.getfixturevalue(corpus)
    model, notes = written(dataset)
    tokens = torch.from_numpy(dataset.train.ids[:60].astype(np.int64))[None]
    places = re.fullmatch(r"heads look back by (.*) \(layer by layer\)", notes[-1])[1]
    if corpus == "letters":
        assert places == "1, 2; 1, 2"
        looks = [1, 2]
    else:
        near, wide = re.fullmatch(r"(1, (\d+\.\d) wide); \1", places).groups()
        assert 2 < float(wide) < 20
        looks = [1, Window(float(wide))]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    frozen = {name: p.clone() for name, p in model.state_dict().items() if ".attention." in name}
    for _ in range(3):
        model.losses(tokens[:, :-1], tokens[:, 1:]).mean().backward()
        optimizer.step()
    for layer in looked_at(model, tokens):
        for probs, where in zip(layer, looks, strict=True):
            told = weights(where, model.config.head_dim, 10000.0, SHARP, len(probs))
            late = slice(2, None)  # before, a head that looks two back has nowhere to look
            assert (probs - told)[late].abs().sum(-1).max() < (0.05 if isinstance(where, Window) else 1e-5)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in frozen.items())
    assert len(frozen) == 2 * (4 + 2)


def test_what_was_sealed_cannot_be_overwritten_unseen(letters, tmp_path):
    model, _ = written(letters)
    save_model(model, None, tmp_path)
    load_model(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    for name in ("blocks.0.attention.v_proj.weight", "blocks.1.attention.q_bias"):
        save_file({**state, name: state[name] + 1e-6}, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(BadCheckpoint, match="is not the one that was computed from counts"):
            load_model(tmp_path)
    save_file({**state, "final_norm.weight": state["final_norm.weight"] * 2}, tmp_path / "model.safetensors")
    load_model(tmp_path)
    assert load_model(tmp_path, dtype="bfloat16").head.weight.dtype == torch.bfloat16
    with pytest.raises(BadCheckpoint):
        model.load_state_dict(
            build("counted", {**SMALL, "vocab_size": model.config.vocab_size}).state_dict() | {"digest": model.digest}
        )


def test_every_arm_starts_with_the_same_feed_forward_layers(letters):
    arms = {name: written(letters, attention=name)[0] for name in ATTENTION}
    first = arms["usual"].state_dict()
    for name, model in arms.items():
        for key, tensor in model.state_dict().items():
            if ".mlp" in key or "norm" in key or key == "embedding.weight":
                assert torch.equal(tensor, first[key]), (name, key)
    assert len({model.digest.sum().item() for model in arms.values()}) == len(arms)


def test_the_parameters_are_those_of_softmax_pico_and_the_frozen_ones_are_counted_apart():
    softmax, frozen, rival = (
        count_parameters(create(name, vocab_size=50257))
        for name in ("softmax-pico", "counted-pico", "counted-pico-trainable")
    )
    assert softmax.total == frozen.total == rival.total == 6_861_440
    assert (frozen.trainable, frozen.frozen, rival.frozen) == (6_730_368, 131_072, 0)


def test_a_model_that_is_to_learn_on_can(letters):
    model, _ = written(letters, frozen=False)
    tokens = torch.from_numpy(letters.train.ids[:60].astype(np.int64))[None]
    model.losses(tokens[:, :-1], tokens[:, 1:]).mean().backward()
    grads = {name: p.grad.norm().item() for name, p in model.named_parameters()}
    assert all(
        grads[f"blocks.0.attention.{name}"] > 1e-6 for name in ("q_bias", "k_bias", "q_proj.weight", "v_proj.weight")
    )
    assert looked_at(model, tokens)[0][0].diagonal(-1)[3:].min() > 0.9


def test_the_sketch_finds_the_leading_directions():
    from scipy.sparse import random

    blocks = [random(60, 90, density=0.2, random_state=i, format="csr") for i in range(2)]
    dense = torch.cat([torch.from_numpy(b.toarray()).float() for b in blocks], dim=1)
    u, s, v = leading(Sparse(blocks), 12, torch.Generator().manual_seed(0))
    expected = torch.linalg.svdvals(dense)
    torch.testing.assert_close(s, expected[:12], rtol=2e-2, atol=1e-3)
    assert (dense - u * s @ v.T).norm() < 1.02 * expected[12:].norm()
    with pytest.raises(BadData, match="are more than a matrix of 60 x 180 has"):
        leading(Sparse(blocks), 61, torch.Generator())


def test_the_sketch_of_a_matrix_of_small_rank_is_the_matrix():
    from scipy.sparse import csr_matrix

    generator = np.random.default_rng(0)
    dense = generator.integers(0, 3, (200, 4)) @ generator.integers(0, 3, (4, 150)).astype(np.float64)
    u, s, v = leading(Sparse([csr_matrix(dense)]), 20, torch.Generator().manual_seed(0))
    torch.testing.assert_close(u * s @ v.T, torch.from_numpy(dense).float(), atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(u.T @ u, torch.eye(20), atol=1e-4, rtol=0)
    assert s[4] < 1e-3 * s[0]


def test_values_from_counts_are_the_weighted_least_squares_that_a_dense_computation_gives():
    generator, vocab, d_model, head_dim = torch.Generator().manual_seed(0), 40, 12, 8
    counts = torch.randint(0, 4, (vocab, vocab), generator=generator)
    keys = counts.flatten().nonzero()[:, 0].numpy()
    table = Table(Shape.of(1, 0), vocab, keys, counts.flatten().numpy()[keys])
    p = torch.rand(vocab, generator=generator).double()
    p /= p.sum()
    e = torch.randn(vocab, d_model, generator=generator)
    taken, given = following(table, p, e, head_dim, 1.0)
    n = counts.sum(1).double()
    m = ((counts + KAPPA * p) / (n[:, None] + KAPPA)).log() - p.log()
    m -= (m * p).sum(1, keepdim=True)
    x = torch.nn.functional.layer_norm(e.double(), (d_model,))
    w = n / n.sum()

    def loss(product):
        return (w[:, None] * p * (x @ product @ e.double().T - m) ** 2).sum()

    g_x, g_e = x.T @ (w[:, None] * x), e.double().T @ (p[:, None] * e.double())
    eye = torch.eye(d_model).double()
    best = torch.linalg.inv(g_x + RIDGE * g_x.diagonal().mean() * eye) @ (x.T @ ((w[:, None] * m * p) @ e.double()))
    best = best @ torch.linalg.inv(g_e + RIDGE * g_e.diagonal().mean() * eye)
    found = taken @ given / (1.5 * NORM / d_model**0.5)
    assert torch.linalg.matrix_rank(found) == head_dim
    assert loss(best) <= loss(found) < loss(best) + 0.5 * (loss(0 * best) - loss(best))
    full = following(table, p, e, d_model, 1.0)
    torch.testing.assert_close(full[0] @ full[1] / (1.5 * NORM / d_model**0.5), best, rtol=1e-4, atol=1e-5)


def test_neighbours_in_the_text_are_neighbours_in_the_embedding():
    generator = np.random.default_rng(0)
    text = generator.permuted(np.tile([0, 1], 4000))  # 0 and 1 stand in the same places, 2 .. 9 in their own
    text = np.stack([text, generator.integers(2, 6, 8000), generator.integers(6, 40, 8000)], 1).ravel()
    tables = [Table(Shape.of(1, s), 41, *tally(Shape.of(1, s).codes(text, 41))) for s in (0, 1)]
    rows = neighbour_embedding(*tables, 12, torch.Generator().manual_seed(0))
    cosine = rows @ rows.T / NORM**2
    assert cosine[0, 1] > 0.8 and cosine[2, 3] > 0.6 and cosine[0, 3].abs() < 0.4
    torch.testing.assert_close(rows.norm(dim=1), torch.full((41,), NORM))


def test_orthogonal_rows_need_room():
    rows = orthogonal_embedding(7, 9, torch.Generator().manual_seed(0))
    torch.testing.assert_close(rows @ rows.T, NORM**2 * torch.eye(7), atol=1e-6, rtol=0)
    with pytest.raises(Exception, match="cannot be orthogonal"):
        orthogonal_embedding(10, 9, torch.Generator())


@pytest.mark.parametrize("method", ["random", "gram-schmidt", "gradient"])
def test_an_embedding_may_be_spread_out_and_says_how_far(pieces, method):
    settings = {"attention": "zero", "embedding": method, "tied": True}
    model, notes = written(pieces, **settings)
    rows = model.embedding.weight.detach()
    torch.testing.assert_close(rows.norm(dim=1), torch.full((len(rows),), NORM))
    assert model.head.weight is model.embedding.weight
    largest, mean = coherence(rows)
    assert notes[0].startswith(
        f"embedding: {method}, two rows meet at a cosine of at most {largest:.3f}, {mean:.3f} on"
    )
    assert f"{welch(*rows.shape):.3f} is the least possible" in notes[0] and largest > welch(*rows.shape)
    assert torch.equal(rows, written(pieces, **settings)[0].embedding.weight)


def test_the_earlier_recipe_makes_attention_uniform_as_it_did(letters):
    model, notes = written(letters, attention="published", embedding="usual")
    assert notes == ("attention: the earlier recipe, nothing corrected",)
    probs = looked_at(model, torch.from_numpy(letters.train.ids[:60].astype(np.int64))[None])[0][0]
    torch.testing.assert_close(probs[-1], torch.full((60,), 1 / 60), atol=0, rtol=0.15)
    for matrix in ("q_proj", "out_proj"):
        assert getattr(model.blocks[0].attention, matrix).weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_each_correction_of_the_earlier_recipe_changes_what_it_names_and_nothing_else(letters):
    def made(corrected):
        return written(letters, attention="published", corrected=corrected)[0].blocks[0].attention

    plain, turned, large, kept = (made(name) for name in ("", "direction", "scale", "embedding"))
    assert torch.equal(plain.q_proj.weight, turned.k_proj.weight) and torch.equal(
        plain.k_proj.weight, turned.q_proj.weight
    )
    assert torch.equal(plain.v_proj.weight, turned.v_proj.weight) and not torch.equal(
        plain.q_proj.weight, turned.q_proj.weight
    )
    lanes = slice(0, 48)
    for name in ("q_proj", "v_proj"):
        ours, theirs = getattr(plain, name).weight[lanes], getattr(large, name).weight[lanes]
        torch.testing.assert_close(ours / ours.std(), theirs / theirs.std(), rtol=1e-4, atol=1e-5)
        assert theirs.std() > 3 * ours.std()
    model = written(letters, attention="published", corrected="embedding")[0]
    table = count_corpus(letters, [Shape.of(1, 0)])["n1-s0"].matrix().toarray()
    rows = model.embedding.weight[: len(table)].double()
    normal = torch.from_numpy(table / np.sqrt(np.maximum(np.outer(table.sum(1), table.sum(0)), 1)))
    product = (
        model.blocks[0].attention.q_proj.weight[lanes].double().T
        @ model.blocks[0].attention.k_proj.weight[lanes].double()
    )
    whole = torch.linalg.svd(normal)
    expected = rows.T @ (whole.U[:, :48] * whole.S[:48]) @ whole.Vh[:48] @ rows
    assert torch.nn.functional.cosine_similarity(product.flatten(), expected.flatten(), dim=0) > 0.99
    assert not torch.equal(kept.q_proj.weight, plain.q_proj.weight)


def test_a_correction_belongs_to_the_earlier_recipe():
    with pytest.raises(BadSetting, match="concerns the earlier recipe, not attention `counted`"):
        Config(corrected="scale")
    with pytest.raises(UnknownName, match="no correction of the earlier recipe is called `sale`"):
        Config(attention="published", corrected="scale+sale")


def test_a_head_wider_than_what_there_is_to_write_is_refused(letters, tmp_path):
    with pytest.raises(BadSetting, match="head_dim 128 is more than the 96 directions of the stream"):
        written(letters, head_dim=128)
    with pytest.raises(BadData, match="80 directions are more than a matrix of 72 x 72 has"):
        written(letters, attention="published", head_dim=80)
    (tmp_path / "few.txt").write_text(
        "\n\n".join(["abcab" * 9 + "xyzw" * (i % 3) for i in range(40)]), encoding="utf-8"
    )
    few = prepare(str(tmp_path / "few.txt"), tokenizer="bytes", cache_dir=tmp_path / "cache")
    with pytest.raises(BadData, match="32 directions are more than a matrix of 8 x 257 has"):
        written(few, attention="published", n_heads=2, head_dim=32)
    with pytest.raises(
        BadData, match="a head 48 wide asks for more directions than the 8 that the counts `n1-s0` have"
    ):
        written(few)


def test_counts_with_fewer_directions_than_a_head_has_lanes_are_refused():
    counts = np.repeat(np.arange(1, 4)[:, None] * np.array([[1, 2, 3, 1, 2, 3]]), 2, axis=0)  # rank one
    table = Table(Shape.of(1, 0), 6, np.arange(36), counts.ravel())
    with pytest.raises(BadData, match="a head 2 wide asks for more directions than the 1 that the counts `n1-s0` have"):
        head_of({"n1-s0": table}, Shape.of(1, 0), torch.randn(6, 4), 2, torch.Generator().manual_seed(0))


def test_a_text_with_more_tokens_than_the_model_is_refused(letters, pieces):
    with pytest.raises(BadData, match="the text has a vocabulary of 512, and the model one of 72"):
        write_attention(build("counted", {**SMALL, "vocab_size": letters.tokenizer.vocab_size}), pieces)


def test_counts_of_another_text_are_not_written_into_a_model(letters, tmp_path):
    count_corpus(prepare("numeric:counting", tokenizer="characters"), [Shape.of(1, 0)], folder=tmp_path)
    with pytest.raises(BadData, match="are of tokens .* not tokens"):
        write_attention(
            build("counted", {**SMALL, "vocab_size": letters.tokenizer.vocab_size}), letters, folder=tmp_path
        )


def test_a_matrix_with_all_its_zeros_is_refused_with_the_arithmetic():
    table = Table(Shape.of(1, 0), 50257, np.array([3]), np.array([1]))
    with pytest.raises(BadData, match="50,257 tokens by 50,257 at 8 bytes each are 20.2 GB, more than the 1.1 GB"):
        smoothed(table)
    assert table.matrix().nnz == 1


def test_an_unknown_attention_is_refused():
    with pytest.raises(UnknownName, match="no attention is called `conted`"):
        Config(attention="conted")
