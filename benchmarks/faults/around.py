"""What surrounds a model, written plainly once, and then wrongly: sampler, tokenizer, loss, step, optimizer, packing, data.

Each offers itself as anybody's own code would (picolab/diagnose/laws/offers.py); the laws are asked, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F

from picolab.diagnose.tiny import ROTARY, language
from picolab.zoo import build

# The right ones


def sample(logits, temperature=1.0, top_k=0, top_p=1.0):
    """Probabilities of one row."""
    logits = logits.flatten().double()
    if temperature == 0:
        return F.one_hot(logits.argmax(), logits.numel()).double()
    logits = (logits - logits.max()) / temperature
    order = logits.argsort(descending=True, stable=True)
    if top_k:
        logits = logits.index_fill(0, order[top_k:], -torch.inf)
    probs = logits.softmax(-1)
    before = probs[order].cumsum(-1) - probs[order]
    probs = probs.index_fill(0, order[1:][before[1:] >= top_p], 0.0)  # the first always stays
    return probs / probs.sum()


class Bytes:
    """Each byte is a token; 256 ends a text."""

    vocab_size, eot = 257, 256

    def encode(self, text):
        return list(text.encode())

    def decode(self, ids):
        return bytes(i for i in ids if i < 256).decode(errors="replace")


def loss(model, tokens):
    return F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def accumulate(model, tokens, pieces):
    """Each piece weighs as many tokens as it has."""
    model.zero_grad()
    for piece in tokens.chunk(pieces):
        (loss(model, piece) * len(piece) / len(tokens)).backward()


def packed(model, tokens, documents):
    return model(tokens, documents=documents)


def optimizer(model):
    vectors = [p for p in model.parameters() if p.ndim == 1]
    matrices = [p for p in model.parameters() if p.ndim > 1]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}])


class Texts:
    """Documents, and batches of the training ones."""

    def __init__(self):
        self.train_documents = [language(200, seed).tolist() for seed in range(20)]
        self.validation_documents = [language(200, seed).tolist() for seed in range(100, 105)]
        self.steps_per_epoch, self.tokens_per_epoch = 20, 20 * 199

    def batch(self, step):
        row = torch.tensor([self.train_documents[step % 20]])
        return row[:, :-1], row[:, 1:]


# The wrong ones


def _without_the_crossing_token(logits, temperature=1.0, top_k=0, top_p=1.0):
    probs = sample(logits, temperature, top_k)
    order = probs.argsort(descending=True)
    after = probs[order].cumsum(-1)
    cut = order[after > top_p + 1e-9]
    probs = probs.index_fill(0, cut[cut != order[0]], 0.0)
    return probs / probs.sum()


def _top_p_never_read(logits, temperature=1.0, top_k=0, top_p=1.0):
    return sample(logits, temperature, top_k)


def _temperature_multiplied(logits, temperature=1.0, top_k=0, top_p=1.0):
    return sample(logits, 1 / temperature if temperature else 0, top_k, top_p)


def _one_token_too_many(logits, temperature=1.0, top_k=0, top_p=1.0):
    return sample(logits, temperature, min(top_k + 1, logits.numel()) if top_k else 0, top_p)


def _sort_not_undone(logits, temperature=1.0, top_k=0, top_p=1.0):
    return sample(logits, temperature, top_k, top_p).sort(descending=True).values


def _greedy_still_draws(logits, temperature=1.0, top_k=0, top_p=1.0):
    return sample(logits, temperature or 1.0, top_k, top_p)


class Strips(Bytes):
    def encode(self, text):
        return super().encode(text.strip())


class AsciiOnly(Bytes):
    def encode(self, text):
        return list(text.encode("ascii", "ignore"))


class Lowers(Bytes):
    def encode(self, text):
        return super().encode(text.lower())


class ReadsControls(Bytes):
    def encode(self, text):
        pieces = text.split("<|endoftext|>")
        ids = super().encode(pieces[0])
        for piece in pieces[1:]:
            ids += [256, *super().encode(piece)]
        return ids


class NotInverted(Bytes):
    """Spaces come back as the letter that stands for them in the file."""

    def decode(self, ids):
        return super().decode(ids).replace(" ", "\u0120")


def _labels_not_shifted(model, tokens):
    return F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())


def _labels_shifted_twice(model, tokens):
    return F.cross_entropy(model(tokens)[:, :-2].flatten(0, 1), tokens[:, 2:].flatten())


def _loss_over_the_batch(model, tokens):
    return loss(model, tokens) * tokens.shape[1] / 8


def _loss_in_bits(model, tokens):
    return loss(model, tokens) / 0.6931


def _pieces_not_divided(model, tokens, pieces):
    model.zero_grad()
    for piece in tokens.chunk(pieces):
        loss(model, piece).backward()


def _only_the_last_piece(model, tokens, pieces):
    for piece in tokens.chunk(pieces):
        model.zero_grad()
        loss(model, piece).backward()


def _documents_ignored(model, tokens, documents):
    return model(tokens)


def _norms_decay(model):
    return torch.optim.AdamW(model.parameters(), weight_decay=0.1)


def _head_never_trained(model):
    return torch.optim.AdamW([p for n, p in model.named_parameters() if not n.startswith("head")], weight_decay=0.0)


def _adam_without_correction(model):
    class Uncorrected(torch.optim.AdamW):
        def step(self, closure=None):
            for group in self.param_groups:
                for p in (p for p in group["params"] if p.grad is not None):
                    state = self.state[p]
                    m = state.setdefault("m", torch.zeros_like(p))
                    v = state.setdefault("v", torch.zeros_like(p))
                    m.mul_(group["betas"][0]).add_(p.grad, alpha=1 - group["betas"][0])
                    v.mul_(group["betas"][1]).addcmul_(p.grad, p.grad, value=1 - group["betas"][1])
                    p.data.mul_(1 - group["lr"] * group["weight_decay"])
                    p.data.add_(m / (v.sqrt() + group["eps"]), alpha=-group["lr"])

    right = optimizer(model)
    return Uncorrected(right.param_groups)


class Leaks(Texts):
    """Two validation documents are training documents too."""

    def __init__(self):
        super().__init__()
        self.train_documents[3:5] = self.validation_documents[:2]


class TrainsOnValidation(Texts):
    def batch(self, step):
        row = torch.tensor([self.validation_documents[step % 5]])
        return row[:, :-1], row[:, 1:]


class TargetsNotShifted(Texts):
    def batch(self, step):
        row = torch.tensor([self.train_documents[step % 20]])
        return row[:, :-1], row[:, :-1]


class SkipsHalf(Texts):
    """Of each row the second half is never read."""

    def batch(self, step):
        tokens, targets = super().batch(step)
        return tokens[:, :99], targets[:, :99]


RIGHT: dict[str, Any] = {
    "sample": sample, "tokenizer": Bytes(), "loss": loss, "accumulate": accumulate, "packed": packed,
    "optimizer": optimizer, "data": Texts,
}  # fmt: skip

WRONG: dict[str, tuple[str, str, Any]] = {
    "top_p without the token that crosses it": ("sampler", "sample", _without_the_crossing_token),
    "top_p never read": ("sampler", "sample", _top_p_never_read),
    "logits times the temperature": ("sampler", "sample", _temperature_multiplied),
    "top_k keeps one too many": ("sampler", "sample", _one_token_too_many),
    "sorted, and the sort not undone": ("sampler", "sample", _sort_not_undone),
    "temperature 0 still draws": ("sampler", "sample", _greedy_still_draws),
    "spaces at the ends stripped": ("tokenizer", "tokenizer", Strips()),
    "letters beyond ASCII dropped": ("tokenizer", "tokenizer", AsciiOnly()),
    "capitals lost": ("tokenizer", "tokenizer", Lowers()),
    "control tokens read in text": ("tokenizer", "tokenizer", ReadsControls()),
    "byte-level letters not inverted": ("tokenizer", "tokenizer", NotInverted()),
    "labels not shifted": ("training", "loss", _labels_not_shifted),
    "labels shifted twice": ("training", "loss", _labels_shifted_twice),
    "loss divided by another count": ("training", "loss", _loss_over_the_batch),
    "loss in bits": ("training", "loss", _loss_in_bits),
    "accumulated pieces not divided": ("training", "accumulate", _pieces_not_divided),
    "gradients cleared between pieces": ("training", "accumulate", _only_the_last_piece),
    "documents of a row see each other": ("training", "packed", _documents_ignored),
    "norms decay": ("training", "optimizer", _norms_decay),
    "the head is in no group": ("training", "optimizer", _head_never_trained),
    "Adam without bias correction": ("training", "optimizer", _adam_without_correction),
    "validation documents among the training ones": ("data", "data", Leaks),
    "batches of validation text": ("data", "data", TrainsOnValidation),
    "targets of the batches not shifted": ("data", "data", TargetsNotShifted),
    "half of every row never read": ("data", "data", SkipsHalf),
}  # fmt: skip
"""Name -> kind, which of the offers is wrong, and how."""


def offer(wrong: str | None = None) -> Callable[[], Any]:
    """A model and an object that offers all the rest, one thing of it wrong."""
    parts = dict(RIGHT)
    if wrong is not None:
        _, name, value = WRONG[wrong]
        parts[name] = value

    def make() -> Any:
        torch.manual_seed(0)
        model, texts = build("llama", {**ROTARY, "vocab_size": Bytes.vocab_size}).eval(), parts["data"]()
        return model, SimpleNamespace(
            sample=parts["sample"],
            tokenizer=parts["tokenizer"],
            loss=lambda tokens: parts["loss"](model, tokens),
            accumulate=lambda tokens, pieces: parts["accumulate"](model, tokens, pieces),
            packed=lambda tokens, documents: parts["packed"](model, tokens, documents),
            optimizer=parts["optimizer"](model),
            train_documents=texts.train_documents,
            validation_documents=texts.validation_documents,
            batch=texts.batch,
            steps_per_epoch=texts.steps_per_epoch,
            tokens_per_epoch=texts.tokens_per_epoch,
        )

    return make
