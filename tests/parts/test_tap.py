import torch
from torch import nn

from picolab.parts.tap import listening, rows_at_a_time, tap, unheard, watched


class Inner(nn.Module):
    def forward(self, x):
        return tap(self, "doubled", x * 2)


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Inner(), Inner()])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return tap(self, "end", x)


def test_a_listener_sees_every_site_by_its_path_in_order():
    seen = {}
    model = Outer()
    with listening(model, lambda site, value: seen.update({site: value.item()})):
        model(torch.tensor(3.0))
    assert seen == {"layers.0.doubled": 6.0, "layers.1.doubled": 12.0, "end": 12.0}


def test_a_listener_may_replace_a_value():
    model = Outer()
    with listening(model, lambda site, value: value + 1, wanted=lambda site: site == "layers.0.doubled"):
        assert model(torch.tensor(3.0)).item() == 14.0
    assert model(torch.tensor(3.0)).item() == 12.0


def test_listening_ends_when_the_block_is_left_by_an_error():
    model = Outer()
    try:
        with listening(model, lambda site, value: 1 / 0):
            model(torch.tensor(3.0))
    except ZeroDivisionError:
        pass
    assert model(torch.tensor(3.0)).item() == 12.0


def test_only_the_sites_of_the_model_listened_to_are_watched():
    model, other = Outer(), Outer()
    with listening(model, lambda site, value: None, wanted=lambda site: site.startswith("layers.1")):
        assert watched(model.layers[1], "doubled")
        assert not watched(model.layers[0], "doubled")
        assert not watched(other.layers[1], "doubled")


def test_rows_are_as_few_as_the_one_who_takes_fewest_and_all_if_somebody_wants_all():
    model = Outer()
    inner = model.layers[0]

    def nothing(site, value):
        return None

    assert rows_at_a_time(inner, "doubled") is None
    with listening(model, nothing, rows=8), listening(model, nothing, rows=5):
        assert rows_at_a_time(inner, "doubled") == 5
        with listening(model, nothing, lambda site: site == "end"):
            assert rows_at_a_time(inner, "doubled") == 5
        with listening(model, nothing):
            assert rows_at_a_time(inner, "doubled") is None


def test_a_pass_unheard_is_heard_by_those_who_listen_to_it_alone():
    model, before, alone = Outer(), [], []
    with listening(model, lambda site, value: before.append(site)):
        with unheard(), listening(model, lambda site, value: alone.append(site)):
            model(torch.tensor(3.0))
        assert (len(before), len(alone)) == (0, 3)
        model(torch.tensor(3.0))
    assert (len(before), len(alone)) == (3, 3)
