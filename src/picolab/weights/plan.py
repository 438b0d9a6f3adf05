"""How much memory will a model take? Told from its header and its settings, before any of its numbers is read.

    config.json, headers  ->  a model without memory  ->  494.0 M parameters, 988 MB as bfloat16
                          ->  what it would remember      cache 12.3 KB a token, 403 MB at 32,768

Weights that stay in the mapped file need no memory of their own: the system reads them when they are used and may drop them again.
The others must fit, and `LoadPlan.check` refuses what cannot.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.parts.quantised import is_matrix
from picolab.parts.quantised_blocks import KINDS
from picolab.weights.checkpoint import read_config
from picolab.weights.filling import hollow
from picolab.weights.formats import checkpoint_kind
from picolab.weights.gguf.header import Header, read_header
from picolab.weights.gguf.names import SPELLINGS
from picolab.weights.gguf.read import heads_of, hollow_of
from picolab.weights.huggingface import described, translate
from picolab.weights.kept import FORMS, HALVES, PLAIN, Form, check_form, form_of
from picolab.weights.llama2c import llama2c_settings
from picolab.weights.mapped import map_file
from picolab.weights.shards import read_tensors

MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadPlan:
    """What loading takes, in bytes. `own_bytes` of weights are memory of the process, `mapped_bytes` stay in the file. The cache of
    one text takes `cache_bytes_a_token` for each token, and `state_bytes` however long it is. `free_bytes` None: not known here.
    `choices` are the own bytes of every form."""

    parameters: int
    form: str
    own_bytes: int
    mapped_bytes: int
    context: int
    cache_bytes_a_token: int
    state_bytes: int
    free_bytes: int | None
    choices: Mapping[str, int]

    @property
    def weight_bytes(self) -> int:
        return self.own_bytes + self.mapped_bytes

    @property
    def cache_bytes(self) -> int:
        """Of one text as long as the context."""
        return self.state_bytes + self.context * self.cache_bytes_a_token

    @property
    def fits(self) -> bool | None:
        """Whether weights and cache fit what is free now; None where that is not known."""
        return None if self.free_bytes is None else self.own_bytes + self.cache_bytes <= self.free_bytes

    @property
    def sentence(self) -> str:
        weights = f"{_count(self.parameters)}, {_size(self.weight_bytes)} as {self.form}"
        if not self.parameters:
            weights = f"{_size(self.weight_bytes)} of counts"
        elif 100 * self.mapped_bytes > self.weight_bytes:
            some = "" if not self.own_bytes else f"{_size(self.mapped_bytes)} of it "
            weights += f", {some}mapped from the file"
        cache = f"cache {_size(self.cache_bytes_a_token)} a token, {_size(self.cache_bytes)} at {self.context:,}"
        if not self.cache_bytes_a_token:
            cache = f"{_size(self.state_bytes)} for what it remembers of any text"
        short = f"; {_size(self.free_bytes)} are free" if self.fits is False and self.free_bytes is not None else ""
        return f"{weights}; {cache}{short}"

    def check(self) -> LoadPlan:
        """The plan, or BadInput where the weights alone are more than what is free."""
        if self.free_bytes is None or self.own_bytes <= self.free_bytes:
            return self
        smaller = sorted((n, form) for form, n in self.choices.items() if n < self.own_bytes)
        says = [f"{form} {_size(n) if n else 'nothing, mapped'}" for n, form in reversed(smaller)]
        raise BadInput(
            f"{_count(self.parameters)} need {_size(self.own_bytes)} as {self.form}, and {_size(self.free_bytes)} are free",
            hint=f"--dtype: {', '.join(says)}" if says else "a machine with more memory holds it",
        )


@dataclass(frozen=True, slots=True)
class Held:
    """One parameter: its sizes, and the type it is stored as, by ggml's names (None: in no file). Numbers that are put in another
    order on the way in cannot stay where they lie: `as_floats` and `as_stored` say in which forms they can."""

    shape: tuple[int, ...]
    matrix: bool
    stored: str | None
    as_floats: bool = False
    as_stored: bool = False

    def bytes_as(self, form: str) -> tuple[int, int]:
        """Bytes of its own, and bytes in the mapped file."""
        count = math.prod(self.shape)
        if self.matrix and form == "int8":
            return count + 4 * self.shape[0], 0
        dtype = PLAIN.get(form, torch.float32)
        size, in_place = count * dtype.itemsize, self.as_floats and self.stored == _GGML[dtype]
        if self.matrix and form == "stored" and self.stored in KINDS:
            size, in_place = count // KINDS[self.stored].numbers * KINDS[self.stored].size, self.as_stored
        return (0, size) if in_place else (size, 0)


def plan_checkpoint(path: Path, dtype: Form = "float32", context: int | None = None) -> LoadPlan:
    """The plan of a folder or file that `open_checkpoint` opens; `context` is that of the model if not given."""
    path, form = Path(path), form_of(dtype)
    kind = checkpoint_kind(path)
    if kind == "gguf":
        header = read_header(path)
        model, names = hollow_of(header)
        return plan_model(model, form, context, _in_gguf(model, header, names))
    if kind == "llama2c":
        model = hollow("llama", llama2c_settings(path, map_file(path)), source=str(path))
        return plan_model(model, form, context, _in_llama2c(model))
    architecture, settings = described(read_config(path), str(path))
    model = hollow(architecture, settings, source=str(path))
    tensors, _ = read_tensors(path)  # mapped, not read
    if not list(model.parameters()):
        return plan_model(model, form, context, (), counts=sum(tensor.nbytes for tensor in tensors.values()))
    return plan_model(model, form, context, _in_folder(model, tensors))


def plan_model(
    model: LanguageModel, form: str, context: int | None, held: Iterable[Held], *, counts: int = 0
) -> LoadPlan:
    """The plan of a model without memory, from how its parameters are stored; `counts` are bytes that are no weights."""
    check_form(model, form)
    held = list(held)
    sizes = {
        name: [sum(some) for some in zip((counts, 0), *(h.bytes_as(name) for h in held), strict=True)] for name in FORMS
    }
    own, mapped = sizes[form]
    like = model.to(PLAIN.get(form, torch.float32))  # a cache is of the type that activations are
    first, second = (bytes_in(vars(like.new_cache(1, capacity))) for capacity in (1, 2))
    return LoadPlan(
        parameters=sum(math.prod(h.shape) for h in held),
        form=form,
        own_bytes=own,
        mapped_bytes=mapped,
        context=context or model.config.context_length,
        cache_bytes_a_token=second - first,
        state_bytes=2 * first - second,
        free_bytes=free_memory(),
        choices={name: n for name, (n, _) in sizes.items()} if held else {},
    )


def in_memory(model: LanguageModel) -> Iterator[Held]:
    """The parameters of a model that comes from no file."""
    for name, parameter in model.named_parameters():
        yield Held(tuple(parameter.shape), _is_matrix(model, name), None)


def _in_gguf(model: LanguageModel, header: Header, names: Mapping[str, str]) -> Iterator[Held]:
    spelling = SPELLINGS[model.architecture]
    for name, parameter in model.named_parameters():
        kind = header.tensors[names[name]].kind.name
        paired = heads_of(spelling, name) is not None
        yield Held(tuple(parameter.shape), _is_matrix(model, name), kind, not paired, True)


def _in_llama2c(model: LanguageModel) -> Iterator[Held]:
    for name, parameter in model.named_parameters():
        paired = name.endswith(("q_proj.weight", "k_proj.weight"))
        yield Held(tuple(parameter.shape), _is_matrix(model, name), "F32", not paired, not paired)


def _in_folder(model: LanguageModel, tensors: Mapping[str, Tensor]) -> Iterator[Held]:
    table = model.hugging_face
    usual = max(tensors.values(), key=lambda tensor: tensor.nbytes).dtype
    for name, parameter in model.named_parameters():
        theirs, turned = (name, False) if table is None else translate(table, name)
        found = tensors.get(theirs, tensors.get(theirs.split(".", 1)[-1]))
        # Packed with others there, what is unpacked is a copy; a model that only picolab knows is filled, not given.
        stored, in_place = (usual, False) if found is None else (found.dtype, not turned)
        yield Held(
            tuple(parameter.shape),
            _is_matrix(model, name),
            _GGML.get(stored),
            as_floats=in_place and table is not None,
            as_stored=in_place and (table is not None or stored in HALVES),
        )


def _is_matrix(model: nn.Module, name: str) -> bool:
    path, _, own = name.rpartition(".")
    return is_matrix(model.get_submodule(path), own)


def bytes_in(value: Any) -> int:
    """Of all tensors in some plain data."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        value = list(value.values())
    return sum(bytes_in(item) for item in value) if isinstance(value, list | tuple) else 0


def free_memory() -> int | None:
    """Bytes that the machine, or the container this runs in, can still give; None where it does not say."""
    known = [_available(), _left_in_container()]
    return min((n for n in known if n is not None), default=None)


def _available() -> int | None:
    if MEMINFO.exists():
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on every system
        return None


def _left_in_container() -> int | None:
    try:
        most, used = ((CGROUP / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return None
    return max(0, int(most) - int(used)) if most.isdigit() and used.isdigit() else None


def _count(parameters: int) -> str:
    for least, unit in ((10**9, "B"), (10**6, "M")):
        if parameters >= least:
            return f"{parameters / least:,.{2 if unit == 'B' else 1}f} {unit} parameters"
    return f"{parameters:,} parameters"


def _size(count: int) -> str:
    for least, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "KB")):
        if count >= least:
            return f"{count / least:,.{max(0, 2 - int(math.log10(count / least)))}f} {unit}"
    return f"{count} bytes"


_GGML: dict[torch.dtype, str] = {torch.float32: "F32", **HALVES}
"""torch's types by ggml's names."""
