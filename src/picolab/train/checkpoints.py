"""What must be kept so that a run goes on as if nothing had happened? The model, the optimizer, and a few numbers.

    step-0000500/   model.safetensors config.json tokenizer..    the model, for anyone to use (weights/checkpoint.py)
                    training_state.pt                            optimizer, progress; opened with weights_only=True

Random numbers need no keeping: they are a function of the step (train/step.py), and so is the data.
"""

from __future__ import annotations

import math
import os
import pickle
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from picolab.errors import BadCheckpoint
from picolab.models.contract import LanguageModel
from picolab.runs.folder import STATE, Checkpoint, Run
from picolab.text.tokenizer import Tokenizer
from picolab.train.distributed import whole_state
from picolab.weights.checkpoint import load_model, save_model
from picolab.zoo import build, settings_of

FORMAT = "picolab-training/1"


@dataclass(kw_only=True, slots=True)
class Progress:
    """How far a run has come. `best` is the lowest validation loss so far, `best_saved` the lowest one of a checkpoint."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float = math.inf
    without_improvement: int = 0
    best_saved: float = math.inf
    best_saved_step: int = -1


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What training_state.pt holds."""

    progress: Progress
    optimizer: dict[str, dict[str, Tensor]]


def save(
    run: Run,
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    optimizer: dict[str, dict[str, Tensor]],
    progress: Progress,
    *,
    keep: int,
) -> Checkpoint:
    """A checkpoint of this moment, whole or not at all; older ones beyond `keep` and the best one go."""

    def fill(folder: Path) -> None:
        try:
            save_model(model, tokenizer, folder)
            state = {"format": FORMAT, "progress": asdict(progress), "optimizer": optimizer}
            with (folder / STATE).open("wb") as file:
                torch.save(state, file)
        except (SafetensorError, RuntimeError) as error:
            raise _as_system_error(error) from error

    checkpoint = run.add_checkpoint(progress.step, fill)
    point(run, checkpoint, progress)
    run.prune(keep)
    return checkpoint


def point(run: Run, last: Checkpoint, progress: Progress) -> None:
    """Write `last.json` and `best.json`. A kill just after a checkpoint leaves them one behind: a resume writes them again."""
    run.mark_last(last)
    for checkpoint in run.checkpoints:
        if checkpoint.step == progress.best_saved_step:
            run.mark_best(checkpoint, loss=progress.best_saved)


def _as_system_error(error: Exception) -> OSError:
    """What the system said, which both libraries wrap in an error of their own; under its name it would pass for a bug."""
    number = re.search(r"os error (\d+)", str(error))
    if number is not None:
        return OSError(int(number[1]), os.strerror(int(number[1])))
    return OSError(str(error).splitlines()[0])


def load_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Fill a freshly built model, not yet wrapped, with a checkpoint's weights."""
    try:
        model.load_state_dict(load_model(checkpoint.path).state_dict())
    except RuntimeError as error:
        raise BadCheckpoint(
            f"`{checkpoint.path}` holds another model than the run's settings describe",
            hint="was the folder copied from another run?",
        ) from error


def load_state(checkpoint: Checkpoint) -> TrainingState:
    """Progress and optimizer of a checkpoint."""
    path = checkpoint.path / STATE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError) as error:
        raise BadCheckpoint(
            f"`{path}` cannot be read", hint="it is torn or no picolab file: remove the step to go on from an older one"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise BadCheckpoint(f"`{path}` is no training state of this picolab", hint=f"its format should be {FORMAT}")
    progress: dict[str, Any] = state["progress"]
    if progress.keys() != {field.name for field in fields(Progress)} or progress["step"] != checkpoint.step:
        raise BadCheckpoint(f"`{path}` does not fit its folder", hint="was it copied from another checkpoint?")
    return TrainingState(Progress(**progress), state["optimizer"])


def plain(model: LanguageModel) -> LanguageModel:
    """The model as one process holds it: itself, or, where it is sharded, a whole twin on the CPU. Collective under FSDP."""
    if not isinstance(model, FSDPModule):
        return model
    twin = build(model.architecture, settings_of(model))
    twin.load_state_dict(whole_state(model))
    return twin.eval()
