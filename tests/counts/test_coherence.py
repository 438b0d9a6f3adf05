"""No method passes the bound; those that work for it come nearer to it than chance."""

import pytest
import torch

from picolab.counts import coherence as c
from picolab.errors import BadSetting, UnknownName


def test_coherence_is_that_of_all_pairs(monkeypatch):
    rows = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    unit = rows / rows.norm(dim=1, keepdim=True)
    pairs = (unit @ unit.T).abs()[~torch.eye(50, dtype=torch.bool)]
    monkeypatch.setattr(c, "BLOCK", 8)
    largest, mean = c.coherence(3 * rows)
    assert largest == pytest.approx(pairs.max().item(), rel=1e-5) and mean == pytest.approx(
        pairs.mean().item(), rel=1e-5
    )


@pytest.mark.parametrize("method", c.METHODS)
def test_no_method_passes_the_bound(method):
    made = c.spread(method, 96, 24)
    torch.testing.assert_close(made.rows.norm(dim=1), torch.ones(96))
    assert made.welch == pytest.approx(((96 - 24) / (24 * 95)) ** 0.5)
    assert made.welch <= made.largest < 1 and made.mean < made.largest


def test_work_pays():
    reached = {method: c.spread(method, 96, 24).largest for method in c.METHODS}
    assert reached["gradient"] < 0.75 * reached["random"] and reached["annealing"] < 0.9 * reached["random"]


def test_where_there_is_room_all_are_orthogonal():
    made = c.spread("gram-schmidt", 24, 24)
    assert made.welch == 0 and made.largest < 1e-6


def test_orthogonal_within_a_basis():
    rows = c.spread("gram-schmidt", 60, 24).rows
    torch.testing.assert_close(rows[24:48] @ rows[24:48].T, torch.eye(24), atol=1e-5, rtol=0)


def test_an_unknown_method_is_refused():
    with pytest.raises(UnknownName, match="no way to spread vectors is called `gram`"):
        c.spread("gram", 10, 4)
    with pytest.raises(BadSetting):
        c.spread("random", 1, 4)
