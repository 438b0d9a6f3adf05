"""What picolab's own models offer to the laws about training and sampling: this package's loss, step, optimizer and sampler.

loss(tokens)                 the head's losses, chunked           packed(tokens, documents)   the mask of documents
accumulate(tokens, pieces)   the training step's gradients        optimizer, sampling         as `train` and `generate` use them
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from picolab.data.batch import IGNORE, Batch
from picolab.diagnose.laws.sampling import own_sampling, seeded
from picolab.models.contract import LanguageModel
from picolab.objectives.next_token import next_token
from picolab.runs.settings import OptimizerSettings
from picolab.train.distributed import World
from picolab.train.optimizers import adamw
from picolab.train.precision import Precision
from picolab.train.schedules import Cosine
from picolab.train.step import Stepper


def own_offers(model: LanguageModel) -> dict[str, Any]:
    """Fields of a patient. A model that counts has nothing to descend."""
    offers: dict[str, Any] = {
        "sampling": own_sampling(),
        "packed": lambda tokens, documents: model(tokens.to(model.device), documents=documents.to(model.device)),
    }
    if not learns(model):
        return offers
    return offers | {
        "loss": lambda tokens: mean_loss(model, tokens),
        "accumulate": lambda tokens, pieces: accumulate(model, tokens, pieces),
        "optimizer": adamw(model, OptimizerSettings()),
    }


def learns(model: LanguageModel) -> bool:
    """Whether a gradient trains it."""
    return not hasattr(model, "estimate") and any(p.requires_grad for p in model.parameters())


def mean_loss(model: LanguageModel, tokens: Tensor) -> Tensor:
    """Nats a token over all next tokens."""
    tokens = tokens.to(model.device)
    return model.losses(tokens[:, :-1], tokens[:, 1:]).mean()


def accumulate(model: LanguageModel, tokens: Tensor, pieces: int) -> None:
    """The gradients of one training step, its rows cut into pieces; rows are padded unequally, as real ones are."""
    targets = tokens[:, 1:].clone()
    for row in range(len(targets)):
        targets[row, max(1, targets.shape[1] - 2 * row) :] = IGNORE
    batch = Batch(tokens[:, :-1], targets, torch.zeros_like(targets))
    world = World(rank=0, size=1, device=model.device)
    stepper = Stepper(
        model=model,
        trainee=world.wrap(model, next_token, "ddp"),
        optimizer=torch.optim.SGD(model.parameters()),
        schedule=Cosine(lr=1.0, min_lr=1.0, warmup=0, steps=1),
        clip=0.0,
        accumulate=pieces,
        precision=Precision(dtype=torch.float32, device_type=model.device.type, reason="to compare gradients"),
        world=world,
        seed=0,
    )
    was_training = model.training
    try:
        with seeded(0):
            stepper.gradients(0, batch)
    finally:
        model.train(was_training)
