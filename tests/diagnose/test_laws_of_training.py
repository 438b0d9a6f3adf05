"""Losses, documents in a row, optimizers, data: what is broken by hand is caught, and told by the number that shows it."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from picolab.diagnose.laws.data_hygiene import DataHygiene
from picolab.diagnose.laws.isolation import DocumentIsolation
from picolab.diagnose.laws.law import Patient, examine
from picolab.diagnose.laws.loss_accounting import LossAccounting
from picolab.diagnose.laws.offered import Data, History
from picolab.diagnose.laws.offers import offers_of
from picolab.diagnose.laws.optimizer import OptimizerLedger
from picolab.parts import cross_entropy
from picolab.train import step as step_module

from zoo_twins import CONTEXT, TWINS, VOCAB, adversarial, fresh


def ask(law, sick):
    (finding,) = examine(sick, [law])
    return finding


def broken(law, sick, says):
    finding = ask(law, sick)
    assert finding.status == "fail", finding.says
    assert re.search(says, finding.says), finding.says


@pytest.mark.parametrize("name", TWINS)
def test_every_twin_obeys_the_laws_of_training(name):
    findings = examine(Patient.of(adversarial(name)), [LossAccounting(), DocumentIsolation(), OptimizerLedger()])
    assert [finding.status for finding in findings] == ["pass", "pass", "pass"], findings


# Somebody's module with a loss of its own.


class Theirs(nn.Module):
    """A small model of somebody's, its loss as people write it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = adversarial("llama")

    def forward(self, tokens):
        return self.inner(tokens)

    def loss(self, tokens):
        return self.costs(self(tokens)[:, :-1], tokens[:, 1:])

    def costs(self, logits, targets):
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def accumulate(self, tokens, pieces):
        for piece in tokens.chunk(pieces):
            (self.loss(piece) * len(piece) / len(tokens)).backward()


def theirs(model):
    known = {"module": model, **offers_of(model)}
    return Patient(name="theirs", forward=model, vocab_size=VOCAB, context_length=CONTEXT, **known)


class Shifted(Theirs):
    def loss(self, tokens):
        return self.costs(self(tokens)[:, :-2], tokens[:, 2:])


class NotShifted(Theirs):
    def loss(self, tokens):
        return self.costs(self(tokens), tokens)


class Summed(Theirs):
    def costs(self, logits, targets):
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")


class DividedByTime(Theirs):
    def costs(self, logits, targets):
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum") / (
            len(targets) * (targets.shape[1] + 1)
        )


class InBits(Theirs):
    def costs(self, logits, targets):
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten()) / np.log(2)


class OverTheWrongAxis(Theirs):
    def costs(self, logits, targets):
        return -logits.log_softmax(1).gather(-1, targets[..., None]).mean()


class NotDividedByPieces(Theirs):
    def accumulate(self, tokens, pieces):
        for piece in tokens.chunk(pieces):
            self.loss(piece).backward()


class OnlyTheLastPiece(Theirs):
    def accumulate(self, tokens, pieces):
        for piece in tokens.chunk(pieces):
            self.zero_grad()
            (self.loss(piece) / pieces).backward()


class Dropping(Theirs):
    def loss(self, tokens):
        return self.costs(F.dropout(self(tokens), 0.1)[:, :-1], tokens[:, 1:])


class LongerRowsWeighMore(Theirs):
    """The mean over rows of another model for each: what belongs to the batch leaks into the loss."""

    def costs(self, logits, targets):
        return F.cross_entropy((logits - 0.1 * logits.mean(0, keepdim=True)).flatten(0, 1), targets.flatten())


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (Shifted, r"that of the token at \+2"),
        (NotShifted, r"that of the token at \+0"),
        (Summed, "the sum over 64 tokens"),
        (DividedByTime, "divided by 17 tokens a row, of which 16 are scored"),
        (InBits, "in bits, not nats"),
        (OverTheWrongAxis, "its own logits give"),
        (NotDividedByPieces, "one piece and 2 pieces differ .* the second is 2 times the first"),
        (OnlyTheLastPiece, "one piece and 2 pieces differ"),
        (Dropping, "is dropout on"),
        (LongerRowsWeighMore, "its own logits give"),
    ],
)
def test_each_broken_loss_is_caught_and_its_mistake_named(kind, says):
    broken(LossAccounting(), theirs(kind()), says)


def test_a_healthy_loss_of_somebody_elses_is_left_alone():
    finding = ask(LossAccounting(), theirs(Theirs()))
    assert finding.status == "pass" and "in pieces" in finding.says

    class TwoArguments(Theirs):
        def loss(self, tokens, targets):
            return F.cross_entropy(self(tokens).transpose(1, 2), targets, reduction="none")

        accumulate = None

    assert ask(LossAccounting(), theirs(TwoArguments())).status == "pass"


def test_nothing_offered_is_skipped_and_said():
    bare = Patient(name="x", forward=lambda t: t, vocab_size=VOCAB)
    for law in (LossAccounting(), DocumentIsolation(), OptimizerLedger(), DataHygiene()):
        finding = ask(law, bare)
        assert finding.status == "skip" and "offer" in finding.says


def test_a_head_whose_chunks_overlap_is_caught(monkeypatch):
    right = cross_entropy._through_head

    def forgets_the_last_chunk(features, weight, bias, targets, cap, dtype, **rest):
        done = right(features, weight, bias, targets, cap, dtype, **rest)
        if cross_entropy.CHUNK_ELEMENTS < 1000 and done.d_weight is not None:
            done.d_weight.mul_(0.9)
        return done

    monkeypatch.setattr(cross_entropy, "_through_head", forgets_the_last_chunk)
    broken(LossAccounting(), Patient.of(adversarial("llama")), "all logits at once and the head in chunks differ")


def test_a_step_that_takes_the_mean_of_means_is_caught(monkeypatch):
    def means(self, step, batch):
        pieces = list(self._pieces(batch))
        for piece in pieces:
            share = self.trainee(piece, torch.tensor(1 / len(pieces)))[0]
            share.backward()
        return torch.zeros(()), 1

    monkeypatch.setattr(step_module.Stepper, "gradients", means)
    broken(LossAccounting(), Patient.of(adversarial("llama")), "one piece and 2 pieces")


# Documents in one row.


def packing(bend, name="gpt2"):
    model = adversarial(name)
    return Patient(
        name="x", forward=model, vocab_size=VOCAB, context_length=CONTEXT, module=model,
        packed=lambda tokens, documents: bend(model, tokens, documents),
    )  # fmt: skip


def no_mask(model, tokens, documents):
    return model(tokens)


def mask_of_the_first_row(model, tokens, documents):
    return model(tokens, documents=documents[:1].expand_as(documents))


def two_documents_at_most(model, tokens, documents):
    return model(tokens, documents=documents.clamp(max=1))


def positions_go_on(model, tokens, documents):
    logits = torch.zeros(*tokens.shape, VOCAB)
    for row in range(len(tokens)):
        for document in documents[row].unique():
            here = (documents[row] == document).nonzero().flatten()
            start = int(here[0])
            filled = torch.cat((tokens[row, :1].expand(start) * 0, tokens[row, here]))
            logits[row, here] = model(filled[None])[0, start:]
    return logits


@pytest.mark.parametrize(
    ("bend", "says"),
    [
        (no_mask, "changing document 0 of 2 in a row moves the logits of document 1"),
        (mask_of_the_first_row, "changing document"),
        (two_documents_at_most, "of 4 in a row moves"),
        (positions_go_on, "do its positions begin anew"),
    ],
)
def test_documents_that_see_each_other_are_caught(bend, says):
    broken(DocumentIsolation(), packing(bend), says)


# Optimizers.


def optimised(make, model=None):
    model = model or fresh("llama")
    return Patient(name="x", forward=model, vocab_size=VOCAB, module=model, optimizer=make(model))


def by_size(model, decay=0.1):
    many = [p for p in model.parameters() if p.dim() >= 2]
    few = [p for p in model.parameters() if p.dim() < 2]
    return [{"params": many, "weight_decay": decay}, {"params": few, "weight_decay": 0.0}]


def test_healthy_optimizers_are_left_alone():
    for make in (
        lambda m: torch.optim.AdamW(by_size(m), lr=1e-3),
        lambda m: torch.optim.AdamW(by_size(m), lr=3e-4, betas=(0.9, 0.95), eps=1e-6, fused=True),
        lambda m: torch.optim.Adam(by_size(m, 0.0), lr=1e-3, amsgrad=True),
        lambda m: torch.optim.SGD(by_size(m), lr=0.1, momentum=0.9),
    ):
        finding = ask(OptimizerLedger(), optimised(make))
        assert finding.status == "pass", finding.says


def test_the_ledger_leaves_model_and_optimizer_as_they_were():
    model = fresh("llama")
    optimizer = torch.optim.AdamW(by_size(model), lr=1e-3)
    model(torch.zeros(1, 4, dtype=torch.int64)).sum().backward()
    optimizer.step()
    before = [p.detach().clone() for p in model.parameters()]
    state = {key: value["exp_avg"].clone() for key, value in optimizer.state.items()}
    assert (
        ask(
            OptimizerLedger(), Patient(name="x", forward=model, vocab_size=VOCAB, module=model, optimizer=optimizer)
        ).status
        == "pass"
    )
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(torch.equal(value, optimizer.state[key]["exp_avg"]) for key, value in state.items())
    assert optimizer.param_groups[0]["lr"] == 1e-3 and optimizer.param_groups[0]["weight_decay"] == 0.1


def some_are_lost(model):
    return torch.optim.AdamW([p for n, p in model.named_parameters() if "norm" not in n], weight_decay=0.0)


def of_another_model(model):
    return torch.optim.AdamW(by_size(fresh("llama")))


class ByHand(torch.optim.Optimizer):
    """AdamW by hand, one line of which may be wrong."""

    def __init__(self, params, bend="", lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.bend = bend

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            (b1, b2), eps, lr = group["betas"], group["eps"], group["lr"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state.setdefault(p, {"t": 0, "m": torch.zeros_like(p), "v": torch.zeros_like(p)})
                state["t"] += 1
                p.mul_(1 - (1 if self.bend == "decay without lr" else lr) * group["weight_decay"])
                state["m"].mul_(b1).add_(p.grad, alpha=1 - b1)
                state["v"].mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
                c1, c2 = 1 - b1 ** state["t"], 1 - b2 ** state["t"]
                m, root = state["m"] / c1, (state["v"] / c2).sqrt() + eps
                if self.bend == "no correction":
                    m, root = state["m"], state["v"].sqrt() + eps
                if self.bend == "eps inside":
                    root = (state["v"].sqrt() + eps) / c2**0.5
                if self.bend == "eps under the root":
                    root = (state["v"] / c2 + eps).sqrt()
                p.add_(m / root, alpha=lr if self.bend == "climbs" else -lr)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (some_are_lost, "are in no group and never change"),
        (of_another_model, "are not the model's, and .* is in none"),
        (lambda m: torch.optim.AdamW(m.parameters(), weight_decay=0.1), "vectors decay by 0.1"),
        (lambda m: ByHand(by_size(m), "no correction"), "with a gradient of 1 the first step is"),
        (lambda m: ByHand(by_size(m), "eps inside"), "ten times eps"),
        (lambda m: ByHand(by_size(m), "eps under the root"), "the first step is"),
        (lambda m: ByHand(by_size(m), "climbs"), "is -1 times"),
        (lambda m: ByHand(by_size(m), "decay without lr"), "other than lr \\* decay"),
    ],
)
def test_each_broken_optimizer_is_caught(make, says):
    broken(OptimizerLedger(), optimised(make), says)


def test_a_parameter_in_two_groups_is_caught():
    def twice(model):
        optimizer = torch.optim.AdamW(by_size(model))
        optimizer.param_groups[1]["params"].append(optimizer.param_groups[0]["params"][0])
        return optimizer

    broken(OptimizerLedger(), optimised(twice), "in more than one group")


def test_adam_by_hand_is_left_alone():
    assert ask(OptimizerLedger(), optimised(lambda m: ByHand(by_size(m)))).status == "pass"


# Data.


def documents(seed, count=40):
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 30, rng.integers(30, 60)).tolist() for _ in range(count)]


def data_of(train, kept, batch=None, **known):
    return Patient(
        name="x", forward=lambda t: t, vocab_size=30,
        data=Data(train=lambda: train, validation=lambda: kept, batch=batch, **known),
    )  # fmt: skip


def rows_of(documents, step, shift=1):
    text = np.concatenate([[0, *document] for document in documents])
    rng = np.random.default_rng(step)
    starts = rng.integers(0, len(text) - 40, 4)
    tokens = torch.tensor(np.stack([text[s : s + 34] for s in starts]))
    targets = torch.tensor(np.stack([text[s + shift : s + shift + 34] for s in starts]))
    return tokens, targets


TRAIN, KEPT = documents(1), documents(2)


def test_healthy_data_are_left_alone():
    healthy = data_of(TRAIN, KEPT, lambda step: rows_of(TRAIN, step))
    finding = ask(DataHygiene(), healthy)
    assert finding.status == "pass", finding.says
    assert "none on both sides" in finding.says and "batches are training text" in finding.says


@pytest.mark.parametrize(
    ("sick", "says"),
    [
        (lambda: data_of([*TRAIN, KEPT[3]], KEPT), "1 of 41 training documents are validation documents too"),
        (
            lambda: data_of(TRAIN, KEPT, lambda s: rows_of(KEPT if s % 10 == 5 else TRAIN, s)),
            "validation text: it is trained on",
        ),
        (lambda: data_of(TRAIN, KEPT, lambda s: rows_of(TRAIN, s, shift=0)), "targets are the tokens themselves"),
        (lambda: data_of(TRAIN, KEPT, lambda s: rows_of(TRAIN, s, shift=2)), "targets are the tokens after next"),
        (
            lambda: data_of(TRAIN, KEPT, lambda s: rows_of(TRAIN, s, shift=5)),
            "of the targets are the token that follows",
        ),
        (
            lambda: data_of(TRAIN, KEPT, lambda s: rows_of(TRAIN, s), n_steps=3, n_tokens=1800),
            "an epoch of 3 steps reads 408",
        ),
    ],
)
def test_each_broken_split_or_loader_is_caught(sick, says):
    broken(DataHygiene(), sick(), says)


def test_tokens_that_were_counted_twice_are_caught():
    rows = [{"step": n, "tokens": 2 * 136 * n, "train/loss": 3.0} for n in range(1, 20)]
    known = data_of(TRAIN, KEPT, lambda step: rows_of(TRAIN, step))
    sick = Patient(name="x", forward=known.forward, vocab_size=30, data=known.data, history=History(rows=rows))
    broken(DataHygiene(), sick, "it counted 5,168 tokens, and its batches hold about 2,584: 0.50 times")
