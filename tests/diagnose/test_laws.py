"""Every law holds of every healthy twin, and each is broken by a patient of its own."""

import re

import pytest
import torch
from torch import nn

from picolab.diagnose.laws.catalogue import LAWS
from picolab.diagnose.laws.law import Patient, examine
from picolab.parts import attention
from picolab.parts.tap import listening, tap

from zoo_twins import TWINS, VOCAB, adversarial, fresh

BY_NAME = {law.name: law for law in LAWS}


def ask(name, patient):
    (finding,) = examine(patient, [BY_NAME[name]])
    return finding


ONE_EACH = {kind: name for name, (kind, _) in TWINS.items()}.values()
"""A twin of every architecture: every law takes a second or three a model."""


@pytest.mark.parametrize("name", ONE_EACH)
def test_a_healthy_model_breaks_no_law(name):
    findings = examine(Patient.of(adversarial(name)), LAWS)
    assert [finding for finding in findings if finding.status == "fail"] == []
    assert {"finite", "repeatable", "causality", "prefix", "batch", "positions", "cache"} <= {
        finding.law for finding in findings if finding.status == "pass"
    }


class Wrapped(nn.Module):
    """A healthy model with something done to what goes in or comes out."""

    def __init__(self, bend, name="llama"):
        super().__init__()
        self.inner, self.bend = adversarial(name), bend

    def forward(self, tokens):
        return self.bend(self.inner, tokens)


def patient(bend, **known):
    model = Wrapped(bend)
    return Patient(name="patient", forward=model, vocab_size=VOCAB, context_length=24, module=model, **known)


def peeks(inner, tokens):
    logits = inner(tokens)
    return logits + 1e-4 * logits.mean(1, keepdim=True)


def forgets(inner, tokens):
    logits = inner(tokens)
    logits[:, 3:] = float("nan")
    return logits


class Remembers:
    def __init__(self):
        self.calls = 0

    def __call__(self, inner, tokens):
        self.calls += 1
        return inner(tokens) * (1 + 1e-3 * self.calls)


def mixes_rows(inner, tokens):
    logits = inner(tokens)
    return logits + 0.01 * logits.mean(0, keepdim=True)


def counts_from_the_end(inner, tokens):
    return inner(tokens) * (1 + 0.01 * tokens.shape[1])


def a_bag_of_words(inner, tokens):
    seen = nn.functional.one_hot(tokens, VOCAB).float().cumsum(1)
    return seen @ torch.linspace(-1, 1, VOCAB * VOCAB).reshape(VOCAB, VOCAB).sin()


def a_constant(inner, tokens):
    return torch.linspace(-1, 1, VOCAB).expand(*tokens.shape, VOCAB).clone()


@pytest.mark.parametrize(
    ("law", "bend", "says"),
    [
        ("causality", peeks, "changing token .* moves the logits at position"),
        ("causality", a_constant, "no logit moves"),
        ("finite", forgets, "not finite, from position 3 on"),
        ("repeatable", Remembers(), "asked again at once"),
        ("batch", mixes_rows, "gives other logits"),
        ("prefix", counts_from_the_end, "give other logits than as the beginning"),
        ("positions", a_bag_of_words, "order is not seen"),
        ("prompt-insensitivity", a_constant, "at most 0"),
        ("repetition", a_constant, "writes only tokens 42"),
        ("initial-loss", lambda inner, tokens: 30 * inner(tokens), "untrained, its loss is"),
    ],
)
def test_each_law_is_broken_by_its_patient(law, bend, says):
    known = {"trained": False} if law == "initial-loss" else {"trained": True}
    finding = ask(law, patient(bend, **known))
    assert finding.status == "fail"
    assert re.search(says, finding.says), finding.says


def test_a_stale_slot_of_the_cache_is_found_and_the_first_pass_is_not_blamed():
    model = adversarial("llama")
    healthy = Patient.of(model)

    def read(tokens, memory):
        logits = model(tokens, cache=memory)
        if memory.length > 6:
            memory.memory[0, 0, :, 5] = memory.memory[0, 0, :, 4]
        return logits

    sick = Patient(
        name="stale", forward=healthy.forward, vocab_size=VOCAB, context_length=24, model=model,
        new_memory=model.new_cache, read=read,
    )  # fmt: skip
    finding = ask("cache", sick)
    assert finding.status == "fail" and "token by token" in finding.says
    assert ask("causality", sick).status == "pass" and ask("prefix", sick).status == "pass"


def test_a_mask_that_is_a_large_number_leaks_once_scores_are_larger(monkeypatch):
    def leaky(q, k, v, mask, *, scale, module=None, **rest):
        k, v = (x.repeat_interleave(q.shape[2] // k.shape[2], dim=2) for x in (k, v))
        scores = torch.einsum("bthd,bphd->bhtp", q, k) * scale
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1 + scores.shape[-1] - scores.shape[-2])
        probs = (scores - 5.0 * hidden).softmax(-1)
        return torch.einsum("bhtp,bphd->bthd", probs if module is None else tap(module, "probs", probs), v)

    for name in ("attend", "attend_plainly", "attend_visibly"):
        monkeypatch.setattr(attention, name, leaky)
    sick = Patient.of(adversarial("llama"))
    assert ask("causality", sick).status == "fail"
    finding = ask("attention-rows", sick)
    assert finding.status == "fail" and "to a later token" in finding.says


def test_heads_merged_in_another_order_break_the_first_tokens_identity():
    model = adversarial("llama")

    def swap(site, value):
        return value.roll(model.config.head_dim, -1) if site == "blocks.1.attention.mixed" else None

    with listening(model, swap):
        finding = ask("token-zero", Patient.of(model))
    assert finding.status == "fail" and "blocks.1.attention.mixed" in finding.says


def test_an_untrained_model_is_not_blamed_for_what_it_has_not_learned():
    findings = {f.law: f for f in examine(Patient.of(fresh("gpt2"), trained=False), LAWS)}
    assert findings["initial-loss"].status == "pass"
    assert {findings[name].status for name in ("repetition", "prompt-insensitivity", "uniform-attention")} == {"skip"}


def test_what_a_patient_raises_is_a_finding_and_the_next_law_is_still_asked():
    def fails(inner, tokens):
        raise RuntimeError("out of ideas\nand of lines")

    findings = examine(patient(fails), [BY_NAME["finite"], BY_NAME["cache"]])
    assert findings[0].status == "fail" and findings[0].says == "the model raised RuntimeError: out of ideas"
    assert findings[1].status == "skip"


def test_labels_that_were_never_shifted_are_told_by_the_offset_at_which_the_model_predicts():
    def copies(inner, tokens):
        return 8.0 * nn.functional.one_hot(tokens, VOCAB).float()

    text = torch.randint(0, VOCAB, (400,), generator=torch.Generator().manual_seed(1))
    finding = ask("offset-probe", patient(copies, trained=True, text=text))
    assert finding.status == "fail" and "predicts the token +0" in finding.says

    def knows(inner, tokens):
        after = torch.cat((tokens[:, 1:], tokens[:, :1]), dim=1)
        return 8.0 * nn.functional.one_hot(after, VOCAB).float()

    assert ask("offset-probe", patient(knows, trained=True, text=text)).status == "pass"
