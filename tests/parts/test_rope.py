import pytest
import torch

from picolab.parts.rope import Rope, rotate, rotate_plainly


@pytest.mark.parametrize("head_dim", [2, 6, 10])
@pytest.mark.parametrize("theta", [137.0, 10000.0, 1e6])
def test_the_fast_rotation_is_complex_multiplication(head_dim, theta):
    x = torch.randn(2, 17, 3, head_dim)
    positions = torch.randint(0, 50, (2, 17))
    fast = rotate(x, Rope(50, head_dim, theta)(positions))
    torch.testing.assert_close(fast, rotate_plainly(x, positions, theta), atol=1e-5, rtol=1e-5)


def test_a_score_depends_on_the_distance_only():
    rope = Rope(200, 8, 137.0)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(i, j):
        return (rotate(q, rope(torch.tensor([[i]]))) * rotate(k, rope(torch.tensor([[j]])))).sum()

    torch.testing.assert_close(score(5, 3), score(105, 103), atol=1e-4, rtol=1e-4)
    assert (score(5, 3) - score(5, 2)).abs() > 1e-3


def test_rotation_keeps_lengths_and_position_zero_keeps_everything():
    x = torch.randn(2, 7, 3, 10)
    rope = Rope(9, 10, 137.0)
    turned = rotate(x, rope(torch.arange(2, 9)[None]))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(rotate(x[:, :1], rope(torch.zeros(1, 1, dtype=torch.long))), x[:, :1])


def test_the_pairs_are_lane_i_and_lane_half_plus_i():
    x = torch.zeros(1, 1, 1, 6)
    x[..., 1] = 1.0
    turned = rotate(x, Rope(9, 6, 137.0)(torch.tensor([[4]])))[0, 0, 0]
    assert turned.nonzero().flatten().tolist() == [1, 4]


def test_turning_back_undoes_the_turn():
    x = torch.randn(1, 5, 2, 6)
    positions = torch.arange(5)[None]
    there, back = Rope(5, 6, 137.0)(positions), Rope(5, 6, 137.0, backwards=True)(positions)
    torch.testing.assert_close(rotate(rotate(x, there), back), x)
