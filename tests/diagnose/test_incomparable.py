"""Other tokens end the search, two bundles give leads, and what cannot be compared is told in a sentence."""

import copy
import json
import math

import pytest
import torch

from picolab.cli.console import plain
from picolab.diagnose.diff import diff
from picolab.diagnose.tokens import departure
from picolab.errors import BadInput
from picolab.text.build import build_tokenizer
from picolab.trace.recording import Entry, Recording

from faulty_twins import FEW, TOKENS, causes, example, faulty, twin

HELLO = [256, *b"Hello there"]

KINDS = [
    (HELLO[1:], "bos-missing"),
    ([256, *HELLO], "bos-doubled"),
    ([*HELLO, 256], "end-extra"),
    (HELLO[:-1], "end-missing"),
    ([0, *HELLO[:-1]], "shifted"),
    ([token + 3 for token in HELLO], "numbering"),
    (HELLO[::-1], "reversed"),
    ([*HELLO[:4], 7, *HELLO[5:]], "one"),
    ([*HELLO[:4], 7, *HELLO[4:]], "extra"),
    ([*HELLO[:4], *HELLO[5:]], "missing"),
    ([256, 32, *HELLO[1:]], "space"),
]


@pytest.mark.parametrize(("target", "kind"), KINDS, ids=[kind for _, kind in KINDS])
def test_how_ids_differ_is_named(target, kind):
    assert departure(HELLO, target, build_tokenizer("bytes")).kind == kind
    assert departure(HELLO, list(HELLO)) is None


def test_other_tokens_end_the_search_and_are_the_finding():
    verdict = diff(twin("llama"), faulty("llama"), tokens=TOKENS[1:])
    assert verdict.verdict == "incomparable" and causes(verdict) == ["token-ids"]
    evidence = verdict.born[0].explanations[0].evidence
    assert (evidence["kind"], evidence["position"]) == ("first-extra", 0)
    assert (evidence["reference"], evidence["target"]) == (TOKENS[1], TOKENS[0])
    assert json.loads(json.dumps(plain(verdict), allow_nan=False))["before"] is None


def test_a_token_read_late_shows_in_the_embedding():
    verdict = diff(twin("llama"), faulty("llama", example("llama", "token-ids")))
    assert causes(verdict) == ["token-ids"] and verdict.remaining <= verdict.noise_floor


# Two bundles, no model.


def test_two_bundles_of_one_function_agree():
    assert diff(faulty("llama"), faulty("llama")).verdict == "equal"
    rounded = faulty("llama")
    rounded.entries = [
        Entry(e.site, e.phase, e.step, e.positions, e.dims, e.value * (1 + 1e-7)) for e in rounded.entries
    ]
    assert diff(faulty("llama"), rounded).verdict == "noise"


@pytest.mark.parametrize(
    ("name", "says", "site", "recognised"),
    [
        ("rope-pairing", "", "blocks.0.attention.q_rope", None),
        ("scale-wrong", "", "blocks.0.attention.scores", "scale"),
        ("residual-twice", "after attention the sum", "blocks.1.resid_mid", None),
        ("embed-scale", "", "embed", "scale"),
    ],
)
def test_two_bundles_tell_where_they_part_and_nothing_is_certain(name, says, site, recognised):
    verdict = diff(faulty("llama"), faulty("llama", example("llama", name, says)))
    first = verdict.born[0]
    assert verdict.verdict == "diverged" and verdict.first_divergence == first.site == site
    assert set(causes(verdict)) == {"unknown"} and not any(t.certain for b in verdict.born for t in b.explanations)
    assert recognised is None or recognised in first.explanations[0].evidence["recognised"]


def test_a_sum_that_holds_in_one_bundle_alone_is_told_from_what_it_inherits():
    bends = [example("llama", "activation"), example("llama", "residual-twice", "after attention the sum")]
    verdict = diff(faulty("llama"), faulty("llama", *bends))
    own = [born for born in verdict.born if "its own line does not hold" in born.explanations[0].says]
    assert [born.site.split(".")[-1] for born in own] == ["resid_mid"]
    assert all(born.site.endswith("resid_mid") for born in own)


def test_two_bundles_of_different_tokens_are_incomparable():
    other = faulty("llama")
    other.tokens = other.tokens.roll(1)
    assert causes(diff(faulty("llama"), other)) == ["token-ids"]


# What nothing explains is described.


class Broken:
    cause = "strange"

    def __init__(self, site, change):
        self.site, self.change = site, change

    def applies(self, site, at):
        return site == self.site

    def bend(self, site, value, at):
        return self.change(value.clone())


def third_head(x):
    x[:, :, 2] = x[:, :, 2].cos()
    return x


def late(x):
    x[:, 9:] = x[:, 9:].sin() * 3
    return x


DESCRIBED = [
    ("blocks.1.attention.q_rope", third_head, "only in head 2"),
    ("blocks.1.mlp_norm", late, "only at position 9-12 of 13"),
    ("blocks.1.attention.mixed", lambda x: x + torch.outer(x[0, :, 0], x[0, -1])[None], "rank 1"),
    ("blocks.0.mlp.act", lambda x: x.clamp(-0.3, 0.4), "function of the right number"),
]


@pytest.mark.parametrize(("site", "change", "says"), DESCRIBED, ids=[says for _, _, says in DESCRIBED])
def test_an_unexplained_difference_is_described(site, change, says):
    verdict = diff(twin("llama"), faulty("llama", Broken(site, change)))
    assert verdict.born[0].site == site and verdict.born[0].cause == "unknown"
    assert says in verdict.born[0].explanations[0].says


# Bad input.


def test_numbers_that_are_none_give_a_verdict_whose_json_is_json():
    recorded = faulty("llama", Broken("blocks.1.mlp.up", lambda x: x.log()))
    verdict = diff(twin("llama"), recorded)
    assert verdict.verdict == "diverged"
    json.dumps(plain(verdict), allow_nan=False)
    assert all(math.isfinite(told.explained) for born in verdict.born for told in born.explanations)


def test_a_bundle_without_logits_or_of_one_layer_is_judged_by_what_it_shows():
    inside = FEW - {"logits"}
    assert diff(twin("llama"), faulty("llama", sites=inside)).verdict == "equal"
    sick = diff(twin("llama"), faulty("llama", example("llama", "rope-pairing"), sites=inside))
    assert causes(sick) == ["rope-pairing"] and "no logits" in sick.says
    one = {"blocks.1.attention.q", "blocks.1.resid_post"}
    assert diff(twin("llama"), faulty("llama", sites=one)).verdict == "equal"


def test_decode_steps_of_several_tokens_are_refused_in_a_sentence():
    recorded = faulty("llama")
    recorded.entries = [
        Entry(e.site, e.phase, e.step, (13, 14), e.dims, e.value) if e.phase == "decode" else e
        for e in recorded.entries
    ]
    with pytest.raises(BadInput, match="decode step 0 reads positions 13, 14"):
        diff(twin("llama"), recorded)


def test_models_of_another_vocabulary_or_depth_are_incomparable():
    assert "words" in diff(twin("llama"), _of(vocab_size=50), tokens=TOKENS).says
    assert "blocks" in diff(twin("llama"), _of(n_layers=2), tokens=TOKENS).says


def _of(**changed):
    from picolab.zoo import build

    from zoo_twins import ROTARY

    return build("llama", {**ROTARY, **changed})


def test_a_model_in_training_mode_is_read_as_it_is_used_and_left_as_it_was():
    model = copy.deepcopy(twin("gpt2")).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    assert diff(twin("gpt2"), model, tokens=TOKENS).verdict == "equal" and model.training


def test_any_callable_is_compared_by_its_logits():
    model = twin("llama")
    assert diff(model, lambda tokens: model(tokens), tokens=TOKENS).verdict in ("equal", "noise")

    def random(tokens):
        return torch.randn(*tokens.shape, 43)

    with pytest.raises(BadInput, match="not deterministic"):
        diff(model, random, tokens=TOKENS)

    def raises(tokens):
        raise ValueError("no such thing")

    with pytest.raises(BadInput, match="ValueError: no such thing"):
        diff(model, raises, tokens=TOKENS)


def test_a_type_nobody_knows_is_noted():
    target = faulty("llama")
    target.dtype = "nn"
    assert any("`nn` is no type known here" in note for note in diff(twin("llama"), target).notes)


def test_an_empty_recording_is_incomparable():
    with pytest.raises(BadInput, match="cannot be read at once"):
        diff(twin("llama"), Recording(engine="x"))
