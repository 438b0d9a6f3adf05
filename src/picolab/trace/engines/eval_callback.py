"""What did llama.cpp's `llama-eval-callback` print? Its text as sites, with the sums and the few numbers it shows of each.

    common_debug_cb_eval:   Qcur-0 = (f32)   ROPE(Qcur-0{8, 2, 8, 1}, inp_pos{8, 1, 1, 1}}) = {8, 2, 8, 1}
        [
            [
                [      0.2857,       0.1188,      -0.1041,    ...,      -0.3202,      -0.2091,       0.0004  ],
                ...,
        ]
        sum = 0.546390

Of an axis longer than six only the first and last three are printed, of a number four decimals. That is enough to see where two
engines part: `picked` and `summed` take the same from a whole value. The sum is of all numbers, in single precision one by one.
Run the tool with `-fa off -ctk f32 -ctv f32`: otherwise attention is one fused operation, over a cache in half precision.
github.com/ggml-org/llama.cpp, examples/eval-callback and common/debug.cpp.

The conventions are llama.cpp's and are undone as in llama_cpp_sites.py, with two differences: how the lanes lie is read from the
architecture that the log above the tensors names, and the scale of the scores, which is not printed, is taken for
1 / sqrt(head_dim). The tool asks for the logits of the last token only: the last block ends with one row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from picolab.errors import BadData
from picolab.trace.engines.llama_cpp_sites import HEADS, SQUARES, TURNED, Lanes, Places, place_of
from picolab.trace.sites import dims_of

SHOWN = 3
"""How many the tool prints from either end of an axis."""

ROPE_IN_PAIRS = "0"
"""`print_info: rope type = 0`: adjacent lanes are turned together; 2: halves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Printed:
    """One tensor. `shape` and `dims` are picolab's, `shown` the indices along each axis of the numbers in `values`.

    `positions` are those of the tokens that the axis `time` covers. `site` and `dims` are None where it is no canonical place; the
    name is always llama.cpp's, and `shape` then has its four axes, the slowest first.
    """

    name: str
    op: str
    site: str | None
    dims: str | None
    shape: tuple[int, ...]
    positions: tuple[int, ...]
    sum: float
    values: Tensor
    shown: tuple[tuple[int, ...], ...]

    def picked(self, value: Tensor) -> Tensor:
        """The numbers of a whole value, of all tokens, that are those printed."""
        value = self._rows(value)
        for axis, indices in enumerate(self.shown):
            value = value.index_select(axis, torch.tensor(indices))
        return value

    def summed(self, value: Tensor) -> float:
        """The sum over a whole value, of all tokens, that is the one printed."""
        return self._rows(value).double().sum().item()

    def _rows(self, value: Tensor) -> Tensor:
        assert self.dims is not None
        return value.index_select(self.dims.split().index("time"), torch.tensor(self.positions))


@dataclass(frozen=True, kw_only=True, slots=True)
class Printout:
    """A run of the tool: the tokens it read, if it says so, and every tensor in the order of computation."""

    tokens: tuple[int, ...]
    tensors: tuple[Printed, ...]

    def sites(self) -> dict[str, Printed]:
        """The tensors that are canonical places."""
        return {tensor.site: tensor for tensor in self.tensors if tensor.site is not None}


def read_eval_callback(path: Path) -> Printout:
    """The text of a run, as it was redirected into a file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BadData(f"`{path}` cannot be read: {error.strerror}") from error
    lines = text.splitlines()
    heads = [(number, found) for number, line in enumerate(lines) if (found := _HEAD.match(line))]
    if not heads:
        raise BadData(
            f"`{path}` holds no tensor as llama-eval-callback prints them",
            hint="redirect both of its streams: llama-eval-callback .. > file 2>&1",
        )
    ends = [number for number, _ in heads[1:]] + [len(lines)]
    raw = [_raw(path, lines, number, end, found) for (number, found), end in zip(heads, ends, strict=True)]
    before = "\n".join(lines[: heads[0][0]])
    return Printout(tokens=_tokens(before), tensors=tuple(_placed(raw, _lanes(before))))


@dataclass(slots=True)
class _Raw:
    """A tensor as it stands in the text; what it reads is known by name, and means the last one of that name before it."""

    key: int
    name: str
    op: str
    sources: list[tuple[str, tuple[int, ...]]]
    shape: tuple[int, ...]
    values: Tensor
    sum: float
    found: list[_Raw | None]

    def source(self, index: int) -> _Raw | None:
        return self.found[index] if index < len(self.found) else None


_NE = r"(?P<ne>\d+, \d+, \d+, \d+)"
_HEAD = re.compile(rf"^\S+:\s+(?P<name>\S.*?) = \(\w+\)\s+(?P<op>\S+?)\((?P<sources>.*)\}}\) = \{{{_NE}\}}\s*$")
_SOURCE = re.compile(rf"(?P<name>[^{{}}]+?)\{{{_NE}\}}?(?:, |$)")
_NUMBER = re.compile(r"-?(?:\d+\.\d+|nan|inf)")
_SUM = re.compile(rf"^\s*sum = ({_NUMBER.pattern})\s*$")

GLU = frozenset({"SWIGLU", "GEGLU", "REGLU", "SWIGLU_OAI"})
UNARY = frozenset({"GELU", "SILU", "RELU"})
"""The text names the function where the graph names its kind."""


def _raw(path: Path, lines: Sequence[str], number: int, end: int, head: re.Match[str]) -> _Raw:
    """A tensor from its first line to the one before the next."""
    shape = _slowest_first(head["ne"])
    numbers: list[float] = []
    total: float | None = None
    for line in lines[number + 1 : end]:
        if (found := _SUM.match(line)) is not None:
            total = float(found[1])
        elif total is None:
            numbers += [float(word) for word in _NUMBER.findall(line)]
    expected = [len(_indices(size)) for size in shape]
    if total is None or len(numbers) != torch.Size(expected).numel():
        raise BadData(
            f"line {number + 1} of `{path}`: `{head['name']}` shows {len(numbers)} numbers of a tensor "
            f"{' x '.join(map(str, shape))}, of which {torch.Size(expected).numel()} and a sum are printed",
            hint="the file ends early, or something else was printed in between",
        )
    op = "GLU" if head["op"] in GLU else "UNARY" if head["op"] in UNARY else head["op"]
    sources = [(found["name"], _slowest_first(found["ne"])) for found in _SOURCE.finditer(head["sources"])]
    values = torch.tensor(numbers).reshape(expected)
    return _Raw(number, head["name"].strip(), op, sources, shape, values, total, [])


def _placed(raw: Sequence[_Raw], lanes: Lanes) -> Iterator[Printed]:
    """Every tensor with its site, once all that read it are known."""
    places, latest, sites = Places(), dict[str, _Raw](), dict[int, str]()
    for made in raw:
        made.found = [latest.get(name) or _leaf(name, shape) for name, shape in made.sources]
        for site, source in places.settled_by(made):
            sites[source.key] = site
        own = places.site(made)
        if own is not None:
            sites[made.key] = own
        latest[made.name] = made
    time = next((made.shape[2] for made in raw if sites.get(made.key) == "embed"), 0)
    yield from map(partial(_arranged, sites=sites, lanes=lanes, time=time), raw)


def _leaf(name: str, shape: tuple[int, ...]) -> _Raw:
    """A weight or an input: read, never computed."""
    return _Raw(-1, name, "NONE", [], shape, torch.empty(0), 0.0, [])


def _arranged(made: _Raw, sites: dict[int, str], lanes: Lanes, time: int) -> Printed:
    """In picolab's order of axes and lanes."""
    site, shape, values, total = sites.get(made.key), made.shape, made.values, made.sum
    shown = [_indices(size) for size in shape]
    place = "" if site is None else place_of(site)
    head_dim = made.sources[-1][1][3] if made.sources else 0
    scattered = place not in HEADS | SQUARES and shape[:2] != (1, 1)
    if scattered or (place in TURNED and lanes == "unknown") or (place == "attention.scores" and not head_dim):
        site, place = None, ""
    if place in SQUARES:
        kept = [i for i, column in enumerate(shown[3]) if column < time]
        shape, values = (*shape[:3], time), values[..., kept]
        shown[3] = tuple(shown[3][i] for i in kept)
    if place == "attention.scores":
        values, total = values * head_dim**-0.5, total * head_dim**-0.5
    if place in TURNED and lanes == "pairs":
        shown[3] = tuple(lane // 2 + lane % 2 * (shape[3] // 2) for lane in shown[3])
    if site is not None and place not in HEADS | SQUARES:
        shape, values, shown = (1, *shape[2:]), values[0], [(0,), *shown[2:]]
    dims = None if site is None else dims_of(site)
    rows = shape[dims.split().index("time")] if dims else 0
    return Printed(
        name=made.name,
        op=made.op,
        site=site,
        dims=dims,
        shape=shape,
        positions=tuple(range(time - rows, time)) if rows else (),
        sum=total,
        values=values,
        shown=tuple(shown),
    )


def _indices(size: int) -> tuple[int, ...]:
    """Which elements of an axis are printed."""
    if size <= 2 * SHOWN:
        return tuple(range(size))
    return (*range(SHOWN), *range(size - SHOWN, size))


def _slowest_first(ne: str) -> tuple[int, ...]:
    return tuple(int(size) for size in ne.split(","))[::-1]


def _tokens(log: str) -> tuple[int, ...]:
    """The ids that the tool lists before it reads them."""
    found = re.search(r"number of input tokens = (\d+)\n((?:.*\n?)*)", log)
    if found is None:
        return ()
    words = [line.split()[-1] for line in found[2].splitlines()[: int(found[1])] if line.strip()]
    return tuple(int(word) for word in words if word.isdigit())


def _lanes(log: str) -> Lanes:
    found = re.search(r"print_info: rope type\s+= (-?\d+)", log)
    if found is None:
        return "unknown"
    return "pairs" if found[1] == ROPE_IN_PAIRS else "halves"
