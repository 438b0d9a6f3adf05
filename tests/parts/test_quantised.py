"""Matrices kept as codes and scales: near what they were made of, read as they are written, never made into floats as a whole."""

import copy

import gguf
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gguf.quants import dequantize
from torch import nn

from picolab.errors import BadInput
from picolab.parts import quantised
from picolab.parts.embedding import Embedding
from picolab.parts.head import Head
from picolab.parts.quantised import (
    Quantised,
    is_matrix,
    kinds_of,
    linear_plainly,
    quantise,
    refuse_quantised,
    to_float,
)
from picolab.parts.quantised_blocks import INT8, KINDS, Fields, numbers_of
from picolab.weights.row_order import to_halves, to_pairs
from raw_blocks import LargestFloats, near, of_kind, raw_of

BLOCKS = [kind for kind in KINDS if KINDS[kind].numbers > 1]


@pytest.mark.parametrize(("rows", "lanes"), [(1, 1), (5, 7), (37, 64), (130, 17)])
def test_a_number_kept_as_int8_is_off_by_half_its_rows_scale_at_most(rows, lanes, monkeypatch):
    monkeypatch.setattr(quantised, "CHUNK", 100)
    matrix = torch.randn(rows, lanes) * 10.0 ** torch.randint(-6, 6, (rows, 1))
    kept = quantise(matrix)
    off = (to_float(kept) - matrix).abs() / kept.scale[:, None]
    assert off.max() <= 0.5 * (1 + 1e-4)
    assert (rows * lanes < 100) or off.max() > 0.4  # the bound is not a generous one
    torch.testing.assert_close(kept.scale, matrix.abs().amax(1) / 127)
    assert torch.equal(kept.codes.abs().amax(1), torch.full((rows,), 127, dtype=torch.int8))


def test_rows_without_a_scale_stay_what_they_say():
    matrix = torch.tensor([[0.0, 0.0], [1.0, torch.inf], [torch.nan, 2.0], [1e-44, 0.0], [3.0, -4.0]])
    again = to_float(quantise(matrix))
    assert torch.equal(again[0], matrix[0]) and again[1:3].isnan().all() and again[3:].isfinite().all()


@pytest.mark.parametrize("kind", [*BLOCKS, "F16", "BF16"])
def test_blocks_mean_what_the_gguf_package_says(kind):
    raw, ids = raw_of(kind, 19, 512), torch.tensor([[3, 1]])
    expected = dequantize(raw.numpy(), gguf.GGMLQuantizationType[kind])
    fields = KINDS[kind].cut(raw)
    assert np.array_equal(to_float(Quantised(fields, kind)).numpy(), expected)
    picked = Fields(*(None if field is None else field[ids] for field in fields))
    assert np.array_equal(numbers_of(kind, picked).numpy(), expected[ids])
    assert all(f is None or f.untyped_storage().data_ptr() == raw.data_ptr() for f in fields)  # nothing was copied


def test_every_type_of_the_table_is_as_large_as_the_gguf_package_says():
    for name, spec in KINDS.items():
        assert (spec.numbers, spec.size) == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]


@pytest.mark.parametrize("heads", [0, 3])
@pytest.mark.parametrize("kind", [INT8, *KINDS])
def test_a_product_in_pieces_is_the_plain_product(kind, heads, monkeypatch):
    monkeypatch.setattr(quantised, "CHUNK", 2000)
    matrix = of_kind(kind, 18, 256, heads=heads)
    bias, x = torch.randn(18), torch.randn(2, 5, 256)
    layer = nn.Linear(256, 18)
    layer.weight, layer.bias = nn.Parameter(matrix, requires_grad=False), nn.Parameter(bias)
    for some in (x, x[:1, :1], x[0], x[0, 0]):
        assert near(layer(some), linear_plainly(some, matrix, bias))


@pytest.mark.parametrize(
    ("kind", "rows"), [(INT8, 1), (INT8, 3), (INT8, 9), ("F16", 1), ("Q5_1", 2), ("Q4_K", 1), ("Q6_K", 1)]
)
def test_a_compiler_sees_one_graph_that_says_the_same(kind, rows):
    matrix = of_kind(kind, 18, 256)
    layer = nn.Linear(256, 18)
    layer.weight = nn.Parameter(matrix, requires_grad=False)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    x = torch.randn(1, rows, 256)
    with torch.inference_mode():
        assert near(compiled(x), linear_plainly(x, matrix, layer.bias))
    torch._dynamo.reset()


def test_rows_in_pairs_are_put_in_halves_wherever_they_are_used():
    weight = torch.randn(12, 32).half().float()
    paired = Quantised(KINDS["F16"].cut(to_pairs(weight, 2).half().contiguous().view(torch.uint8)), "F16", 2)
    assert torch.equal(to_float(paired), weight)
    x = torch.randn(4, 32)
    torch.testing.assert_close(F.linear(x, paired), F.linear(x, weight))
    assert torch.equal(to_float(quantise(paired)), to_float(quantise(weight)))
    assert torch.equal(to_halves(to_pairs(weight, 2), 2), weight)


@pytest.mark.parametrize("kind", [INT8, "Q8_0", "Q4_K"])
def test_an_embedding_reads_the_rows_asked_for_and_no_other(kind):
    matrix, ids = of_kind(kind, 400, 256), torch.tensor([[3, 399, 3], [0, 1, 2]])
    for embedding in (Embedding(400, 256, tied=True), nn.Embedding(400, 256)):
        embedding.weight = nn.Parameter(matrix, requires_grad=False)
        with LargestFloats() as made:
            rows = embedding(ids)
        assert torch.equal(rows, to_float(matrix)[ids])
        assert made.numbers == ids.numel() * 256


@pytest.mark.parametrize("kind", [INT8, "Q8_0", "Q6_K"])
def test_no_float_copy_of_the_whole_exists_while_it_is_used(kind, monkeypatch):
    monkeypatch.setattr(quantised, "CHUNK", 4096)
    matrix = of_kind(kind, 100, 256)
    head = Head(256, 100)
    head.weight = nn.Parameter(matrix, requires_grad=False)
    with LargestFloats() as made, torch.inference_mode():
        head(torch.randn(1, 3, 256))
    assert 0 < made.numbers <= 4096
    with LargestFloats() as made:
        assert quantise(matrix).kind == INT8
    assert 0 < made.numbers <= 4096


def test_whoever_asks_is_told_of_a_float_matrix_where_it_always_was():
    layer = nn.Linear(32, 6)
    before = layer.weight.detach().clone()
    layer.weight = nn.Parameter(quantise(before), requires_grad=False)
    weight = layer.weight
    assert (weight.dtype, weight.shape, weight.device, weight.numel()) == (torch.float32, (6, 32), before.device, 192)
    assert weight.new_zeros(2).dtype == torch.float32
    assert list(layer.state_dict()) == ["weight", "bias"] and isinstance(layer.state_dict()["weight"], Quantised)
    assert repr(weight.data) == "Quantised(6 x 32, int8)" and weight.bytes_kept == 6 * 32 + 6 * 4
    for other in (copy.deepcopy(layer), copy.deepcopy(layer).to("cpu")):
        assert isinstance(other.weight, Quantised) and other.weight.codes.data_ptr() != weight.codes.data_ptr()
        assert torch.equal(other(torch.ones(32)), layer(torch.ones(32)))
    # Any other operation has all numbers for as long as it runs.
    assert torch.equal(weight.abs().sum(1), to_float(weight).abs().sum(1))
    assert torch.equal(weight.to(torch.bfloat16), to_float(weight).bfloat16())
    torch.testing.assert_close(torch.ones(3, 32) @ weight.T, F.linear(torch.ones(3, 32), weight))


def test_a_gradient_flows_through_it_to_what_came_before():
    matrix, x = of_kind(INT8, 18, 256), torch.randn(3, 256, requires_grad=True)
    (gradient,) = torch.autograd.grad(F.linear(x, matrix).square().sum(), x)
    y = x.detach().requires_grad_()
    (expected,) = torch.autograd.grad(F.linear(y, to_float(matrix)).square().sum(), y)
    assert near(gradient, expected)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (lambda layer: layer.requires_grad_(), "trained"),
        (lambda layer: layer.weight.requires_grad_(True), "trained"),
        (lambda layer: setattr(layer.weight, "requires_grad", True), "trained"),
        (lambda layer: nn.Parameter(layer.weight.data), "trained"),
        (lambda layer: layer.weight.data.add_(1), "changed"),
        (lambda layer: layer.load_state_dict(nn.Linear(32, 6).state_dict()), "changed"),
        (lambda layer: layer.to(torch.bfloat16), "changed"),
        (lambda layer: layer.weight.numpy(), "read as an array"),
        (lambda layer: refuse_quantised(layer, "written"), "written"),
        (lambda layer: F.embedding(torch.tensor([1]), layer.weight, max_norm=1.0), "read as an embedding"),
    ],
)
def test_what_needs_the_float_numbers_is_refused(how, says):
    layer = nn.Linear(32, 6)
    layer.weight = nn.Parameter(quantise(layer.weight.detach()), requires_grad=False)
    before = layer.weight.codes.clone()
    with pytest.raises((BadInput, RuntimeError), match=f"weights kept as int8 cannot be {says}"):
        how(layer)
    assert torch.equal(layer.weight.codes, before)


def test_matrices_are_what_layers_embeddings_and_heads_multiply_by():
    assert (
        is_matrix(nn.Linear(2, 2), "weight")
        and is_matrix(Head(2, 2), "weight")
        and is_matrix(nn.Embedding(2, 2), "weight")
    )
    assert not is_matrix(nn.Linear(2, 2), "bias") and not is_matrix(nn.LayerNorm(2), "weight")
    layer = nn.Linear(32, 6)
    assert kinds_of(layer) == []
    layer.weight = nn.Parameter(quantise(layer.weight.detach()), requires_grad=False)
    assert kinds_of(layer) == ["int8"]
