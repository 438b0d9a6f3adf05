"""What is in somebody's module? Its matrices, norms and blocks, found by asking it, and copies that may be changed.

names      `h.3.attn.c_attn.weight` -> the role `h.{}.attn.c_attn.weight`, one in every block
blocks     the list of modules whose every member turns a stream of one shape into a stream of that shape
heads      which matrices make queries, keys, values, and which one joins the heads again, by the names people give them
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from picolab.diagnose.laws.law import Patient
from picolab.parts.quantised import Quantised

LARGEST = 80_000_000
"""Parameters of a model that is copied to be changed."""

QUERY = re.compile(r"(^|\.)(q_proj|wq|query|q|to_q|W_q|W_Q|q_lin|c_q)$")
KEY = re.compile(r"(^|\.)(k_proj|wk|key|k|to_k|W_k|W_K|k_lin|c_k)$")
VALUE = re.compile(r"(^|\.)(v_proj|wv|value|v|to_v|W_v|W_V|v_lin|c_v)$")
FUSED = re.compile(r"(^|\.)(qkv_proj|c_attn|qkv|query_key_value|Wqkv|in_proj|W_pack|to_qkv)$")
JOINED = re.compile(r"(^|\.)(out_proj|o_proj|wo|c_proj|dense|to_out|proj|W_o|W_O|out|o)$")
"""What people call the projections of attention."""


def role(name: str) -> str:
    """A parameter's name without the number of its block."""
    return re.sub(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)", "{}", name)


def parameters_of(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter once, by the first of its names; matrices kept as codes are left out."""
    return {n: p.detach() for n, p in module.named_parameters() if not isinstance(p, Quantised)}


def no_copy(patient: Patient) -> str | None:
    """Why a copy of this patient cannot be changed and run; None where it can."""
    if patient.module is None or patient.run is None:
        return "what is at hand is a function, not a module whose weights can be changed"
    if hasattr(patient.module, "estimate"):
        return "a model that counts has no weights"
    parameters = list(patient.module.parameters())
    if not parameters:
        return "the module has no parameters"
    if any(isinstance(p, Quantised) for p in parameters):
        return "its matrices are kept as codes"
    size = sum(p.numel() for p in parameters)
    if size > LARGEST:
        return f"its {size / 1e6:.0f} M parameters would have to be copied"
    return None


def copy_of(patient: Patient) -> nn.Module:
    """A copy to change, in evaluation mode."""
    assert patient.module is not None
    return copy.deepcopy(patient.module).eval()


@torch.no_grad()
def logits_of(patient: Patient, module: nn.Module, tokens: Tensor) -> Tensor:
    """Logits of a changed copy, float32 in main memory."""
    assert patient.run is not None
    return patient.run(module, tokens).detach().float().cpu()


def is_norm(module: nn.Module) -> bool:
    """Whether a module calls itself a norm."""
    return "norm" in type(module).__name__.lower() and not any(module.children())


def is_projection(module: nn.Module) -> bool:
    """A linear layer, or GPT-2's that is stored the other way round."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def rows_of(module: nn.Module) -> Tensor:
    """The matrix of a projection with one row an output, as a view: what is written into it is written into the module."""
    weight: Tensor = module.weight.data  # type: ignore[assignment]
    return weight.T if type(module).__name__ == "Conv1D" else weight


@dataclass(frozen=True, kw_only=True, slots=True)
class Heads:
    """The projections of one attention layer, by name; `k` and `v` are those of `q` where one matrix makes all three."""

    path: str
    q: str
    k: str
    v: str
    out: str

    @property
    def fused(self) -> bool:
        return self.q == self.k


def heads_of(module: nn.Module) -> list[Heads]:
    """Every attention layer whose projections are called as people call them."""
    found = []
    for path, parent in module.named_modules():
        own = {name: child for name, child in parent.named_children() if is_projection(child)}

        def one(pattern: re.Pattern[str], own: dict[str, nn.Module] = own, path: str = path) -> str | None:
            name = next((name for name in own if pattern.search(name)), None)
            return None if name is None else f"{path}.{name}" if path else name

        q, k, v, fused, out = one(QUERY), one(KEY), one(VALUE), one(FUSED), one(JOINED)
        if q and k and v and out:
            found.append(Heads(path=path, q=q, k=k, v=v, out=out))
        elif fused and out:
            found.append(Heads(path=path, q=fused, k=fused, v=fused, out=out))
    return found


@dataclass(slots=True)
class Call:
    """What went into a module and came out of it in one pass."""

    name: str
    module: nn.Module
    input: Tensor | None
    output: Tensor | None


@contextmanager
def calls(module: nn.Module, wanted: Callable[[str, nn.Module], bool]) -> Iterator[list[Call]]:
    """While open, every call of the wanted submodules is noted, in order of completion."""
    seen: list[Call] = []
    handles = []
    for name, child in module.named_modules():
        if not wanted(name, child):
            continue

        def note(child: nn.Module, args: Any, kwargs: Any, output: Any, name: str = name) -> None:
            given = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
            made = output if isinstance(output, Tensor) else _first_tensor(output)
            seen.append(Call(name, child, _kept(given), _kept(made)))

        handles.append(child.register_forward_hook(note, with_kwargs=True))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def blocks_of(patient: Patient, module: nn.Module, tokens: Tensor) -> list[list[Call]]:
    """The calls of the members of the largest list of modules that each turn a stream into one of the same shape."""
    assert patient.run is not None
    lists = {name: child for name, child in module.named_modules() if isinstance(child, nn.ModuleList | nn.Sequential)}
    members = {f"{name}.{number}" if name else number: name for name, many in lists.items() for number in many._modules}
    with calls(module, lambda name, _: name in members) as seen:
        patient.run(module, tokens)
    best: list[list[Call]] = []
    most = 0
    for name, many in lists.items():
        visits = [[call for call in seen if call.name == f"{name}.{number}" or (not name and call.name == number)]
                  for number in many._modules]  # fmt: skip
        alike = all(
            visit and all(c.input is not None and c.output is not None and c.input.shape == c.output.shape
                          and c.input.is_floating_point() and c.input.ndim >= 2 for c in visit)
            for visit in visits
        )  # fmt: skip
        one_class = len({type(visit[0].module) for visit in visits if visit}) == 1
        size = sum(p.numel() for p in many.parameters())
        if visits and alike and one_class and size > most:
            best, most = visits, size
    return best


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, tuple | list):
        return next((item for item in output if isinstance(item, Tensor)), None)
    return None


def _kept(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()
