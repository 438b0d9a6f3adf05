"""How do several processes train one model? torchrun starts them, PyTorch joins them; each works on its rows of every step.

    rows of a step    |  rank 0  |  rank 1  |  ...        gradients are averaged, so every rank takes the same step
    ddp               every rank holds the whole model    (Li et al. 2020, arXiv:2006.15704)
    fsdp              every rank holds a shard of every layer, gathered when it is its turn    (Zhao et al. 2023, arXiv:2304.11277)

One process is the same with a world of one.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from picolab.data.batch import Rows
from picolab.errors import BadInput, BadSetting, Lost
from picolab.train.recompute import blocks_of

R = TypeVar("R", bound=Rows)


class Loss(Protocol):
    """What an objective gives: a mean to make small, the sum behind it, over how many terms, and sums of other figures."""

    @property
    def mean(self) -> Tensor: ...
    @property
    def total(self) -> Tensor: ...
    @property
    def count(self) -> int: ...
    @property
    def figures(self) -> Mapping[str, Tensor]: ...


class Objective(Protocol):
    """A model and a batch to a loss."""

    def __call__(self, model: Any, batch: Any) -> Loss: ...


class Trainee(nn.Module):
    """A model under its objective, as one module whose forward computes the loss: the hooks of DDP and FSDP hang on a forward."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Rows, weight: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        loss = self.objective(self.model, batch)
        return loss.mean * weight, loss.total.detach(), {name: sum_.detach() for name, sum_ in loss.figures.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """The processes of a run and this one's place among them."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes, reports and saves."""
        return self.rank == 0

    def wrap(
        self,
        model: nn.Module,
        objective: Objective,
        strategy: Literal["ddp", "fsdp"],
        dtype: torch.dtype = torch.float32,
    ) -> nn.Module:
        """The trainee, its gradients averaged over the world; with fsdp, `model` itself is sharded in place.

        Then blocks are gathered in the type of the products, `dtype`: autocast would keep a copy of every matrix.
        """
        trainee = Trainee(model, objective)
        if self.size == 1:
            return trainee
        if strategy == "ddp":
            return DistributedDataParallel(trainee, device_ids=[self.device] if self.device.type == "cuda" else None)
        for block in blocks_of(model):
            fully_shard(block, mp_policy=_gathered_in(dtype))
        fully_shard(model)
        register_fsdp_forward_method(model, "losses")
        # Losses are a view of a longer vector. The warning is for those who add to such a view in place; nobody does.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        return trainee

    def synchronising(self, trainee: nn.Module, wanted: bool) -> AbstractContextManager[object]:
        """Whether the gradients of the backward pass inside are averaged: with ddp once a step, after its last piece.

        With fsdp after every piece: gradients that wait for their average are whole, and who shards a model has no room for them.
        """
        if isinstance(trainee, DistributedDataParallel) and not wanted:
            return trainee.no_sync()
        return nullcontext()

    @contextmanager
    def noticing_loss(self) -> Iterator[None]:
        """What a backend says when another process has died, as one sentence."""
        try:
            yield
        except RuntimeError as error:
            if not (isinstance(error, dist.DistError) or "gloo/transport" in str(error)):
                raise
            raise Lost(
                f"process {self.rank} of {self.size} waited for another that is gone",
                hint="torchrun says which one and how it ended; go on from the last checkpoint with --resume",
            ) from error

    def rows(self, batch: R) -> R:
        """This process's rows of a step's batch."""
        height = batch.height
        if height % self.size:
            raise BadSetting(
                f"`training.batch_size` {height} cannot be shared by {self.size} processes",
                hint="batch_size counts the rows of a whole step: make it a multiple of the processes",
            )
        return batch.part(slice(self.rank * height // self.size, (self.rank + 1) * height // self.size))

    def sum(self, *values: float | Tensor) -> list[float]:
        """Each value added up over all processes."""
        if self.size == 1:
            return [float(value) for value in values]
        numbers = torch.stack([torch.as_tensor(value, dtype=torch.float64).to(self.device) for value in values])
        dist.all_reduce(numbers)
        return [float(value) for value in numbers.tolist()]

    def agree(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in all of them."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values


def _gathered_in(dtype: torch.dtype) -> MixedPrecisionPolicy:
    """Parameters travel in the products' type, their gradients are added up in float32; the stream stays as it is."""
    if dtype == torch.float32:
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)


@contextmanager
def joined(device: str = "auto") -> Iterator[World]:
    """The world of this process: alone, or with the others that torchrun started."""
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    place = pick_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    if size == 1 or dist.is_initialized():
        yield World(rank=rank, size=size, device=place)
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield World(rank=rank, size=size, device=place)
    finally:
        dist.destroy_process_group()


def pick_device(device: str, *, local_rank: int = 0) -> torch.device:
    """`auto` is a GPU of CUDA where there is one, this process's own under torchrun, and the CPU where there is none."""
    if device == "auto":
        return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise BadSetting(f"no device is called `{device}`", hint="auto, cpu, cuda, cuda:1, mps") from error
    if place.type == "cuda":
        count = torch.cuda.device_count()
        if place.index is None:
            place = torch.device("cuda", local_rank)
        if (place.index or 0) >= count:
            raise BadInput(f"device `{device}` is not here: {count} GPUs are visible", hint="use --device cpu or auto")
    elif place.type == "mps" and not torch.backends.mps.is_available():
        raise BadInput("device `mps` is not here", hint="use --device cpu or auto")
    elif place.type not in ("cpu", "mps"):
        raise BadInput(f"device `{device}` is not supported", hint="auto, cpu, cuda, cuda:1, mps")
    return place


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's tensors, shards put together, on the CPU. Collective under FSDP."""
    return {
        name: (value.full_tensor() if isinstance(value, DTensor) else value).detach().cpu()
        for name, value in model.state_dict().items()
    }
