"""How does any engine hand its numbers over? A folder with `trace.json` and arrays: the trace bundle, version 1.

    trace.json            {"format": "picolab-trace/1", "engine": "my-engine 0.3", "dtype": "float32", "tokens": [[5, 17, 200]],
                           "entries": [{"site": "blocks.0.attention.q_rope", "phase": "prefill", "step": 0,
                                        "positions": [0, 1, 2], "dims": "batch time heads head_dim", "file": "0007.npy"}]}
    0007.npy ..           one array a file, or `file` is a key of the one file tensors.safetensors

`site` may be any engine's own name and `dims` may be missing: `diff` then pairs values by shape and content. Nothing in a
bundle is believed unseen, no file outside its folder is opened, and nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from picolab.errors import BadData, BadInput
from picolab.trace.arrays import open_npy, place_in, reader, reason, save_npy
from picolab.trace.recording import PHASES, PREFILL, Entry, Recording
from picolab.trace.sites import AXES

FORMAT, TRACE, TENSORS = "picolab-trace/1", "trace.json", "tensors.safetensors"

FREE_AXES = AXES | {"d_in", "d_out", "lanes", "one"}
"""Axes an entry's `dims` may name."""

LONGEST_NAME, LARGEST = 300, 2**63


PLAIN = frozenset({"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8"})
"""Types of number that are read from safetensors."""


class Writer:
    """A bundle written as values come; `trace.json` comes last, so a folder without it was never finished."""

    def __init__(self, folder: Path, recording: Recording) -> None:
        self.folder, self.recording = folder, recording
        self.entries: list[dict[str, Any]] = []

    def __enter__(self) -> Writer:
        _begin(self.folder)
        return self

    def write(self, entry: Entry) -> Entry:
        """Put one value on disk; the entry then reads it from there."""
        name = f"{len(self.entries):05d}.npy"
        with _writing(self.folder):
            save_npy(self.folder / name, entry.value)
        self.entries.append(_described(entry, name))
        return replace(entry, kept=reader(self.folder / name))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self.entries:
            _write_trace(self.folder, self.recording, self.entries)


def write_bundle(recording: Recording, folder: Path, *, form: Literal["safetensors", "npy"] = "safetensors") -> Path:
    """Write a recording as a bundle; the folder.

    Raises `BadInput` for a recording that is empty, of several texts, of an unknown text or of which only statistics were kept,
    and for a folder that cannot be written.
    """
    _check(recording)
    if form == "npy":
        with Writer(folder, recording) as writer:
            for entry in recording.entries:
                writer.write(entry)
        return folder
    _begin(folder)
    tensors, entries = {}, []
    for number, entry in enumerate(recording.entries):
        key = f"{number:05d} {entry.phase} {entry.step} {entry.site}"
        tensors[key] = (
            entry.value.detach().cpu().contiguous().clone()
        )  # two sites may share memory, and the format refuses
        entries.append(_described(entry, key))
    with _writing(folder):
        save_file(tensors, folder / TENSORS)
    _write_trace(folder, recording, entries)
    return folder


def _check(recording: Recording) -> None:
    """Refuse what no bundle can hold, before anything is touched."""
    if not recording.entries:
        raise BadInput("the recording is empty", hint="run the model inside the `with` block")
    bare = [entry.site for entry in recording.entries if entry.kept is None]
    if bare:
        raise BadInput(
            f"of {len(bare)} of {len(recording.entries)} entries, such as `{bare[0]}`, only statistics were kept, and a bundle"
            " holds values",
            hint="record with keep='device', or straight to disk with keep=pathlib.Path(folder)",
        )
    _check_text(recording)


def _check_text(recording: Recording) -> None:
    if not recording.tokens.numel():
        raise BadInput("the recording does not know its tokens", hint="run the model as model(tokens)")
    texts = 1 + max((entry.step for entry in recording.entries if entry.phase == PREFILL), default=0)
    if texts > 1:
        raise BadInput(f"the recording holds {texts} texts and a bundle one", hint="record each on its own")


def _begin(folder: Path) -> None:
    """A folder that says nothing yet: what an earlier bundle said of these files is no longer true."""
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TRACE).unlink(missing_ok=True)
        (folder / TENSORS).unlink(missing_ok=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise BadInput(
            f"the bundle `{folder}` cannot be written: {reason(error)}",
            hint="choose a folder on a disk with room for every value",
        ) from error


def read_bundle(folder: Path) -> Recording:
    """The recording in a bundle; arrays are checked now and read when they are asked for.

    Raises `BadData` for a folder that is none, another version, a missing file, a shape that is not what is said of it.
    """
    folder = Path(folder)
    trace = _read_trace(folder)
    tokens = _tokens(folder, trace.get("tokens"))
    listed = trace.get("entries")
    if not isinstance(listed, list) or not listed:
        raise BadData(f"`{folder / TRACE}` lists no entries", hint="`entries` names every array of the bundle")
    open_array = _opener(folder)
    entries = [_entry(folder, number, raw, tokens, open_array) for number, raw in enumerate(listed)]
    _refuse_twins(folder, entries)
    return Recording(
        engine=str(trace.get("engine", "an engine without a name"))[:LONGEST_NAME],
        dtype=str(trace.get("dtype", "float32"))[:LONGEST_NAME],
        config=trace.get("config", {}),
        tokens=tokens,
        entries=entries,
    )


def _described(entry: Entry, file: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "site": entry.site,
        "phase": entry.phase,
        "step": entry.step,
        "positions": list(entry.positions),
    }
    return described | ({"dims": entry.dims} if entry.dims else {}) | {"file": file}


def _write_trace(folder: Path, recording: Recording, entries: list[dict[str, Any]]) -> None:
    _check_text(recording)
    head = {
        "format": FORMAT,
        "engine": recording.engine,
        "dtype": recording.dtype,
        "config": recording.config,
        "tokens": recording.tokens.tolist(),
    }
    lines = ",\n".join("  " + json.dumps(entry) for entry in entries)  # one a line: a person may look
    text = json.dumps(head, default=_plainly)[:-1] + ', "entries": [\n' + lines + "\n]}\n"
    draft = folder / (TRACE + ".tmp")
    with _writing(folder):
        draft.write_text(text, encoding="utf-8")
        draft.replace(folder / TRACE)


def _plainly(value: Any) -> Any:
    """Settings that JSON does not know, such as a rope scaling."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def _read_trace(folder: Path) -> dict[str, Any]:
    path = folder / TRACE
    try:
        found = folder.is_dir() and (path.is_symlink() or path.exists())
    except (OSError, ValueError) as error:  # a name no file can have
        raise BadData(f"`{folder!s:.200}` is no trace bundle: {reason(error)}") from error
    if not found:
        raise BadData(f"`{folder}` is no trace bundle", hint=f"a bundle is a folder with a {TRACE} in it")
    try:
        trace = json.loads(place_in(folder, TRACE).read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise BadData(
            f"`{path}` is not JSON: {reason(error)}", hint="was the engine stopped while it wrote?"
        ) from error
    if not isinstance(trace, dict):
        raise BadData(f"`{path}` holds a {type(trace).__name__}, not a trace")
    if trace.get("format") != FORMAT:
        raise BadData(f"`{path}` says its format is {trace.get('format')!r:.80}", hint=f"this version reads {FORMAT!r}")
    if not isinstance(trace.get("config", {}), dict):
        raise BadData(f"`config` of `{path}` is a {type(trace['config']).__name__}", hint="it is an object of settings")
    return trace


def _tokens(folder: Path, raw: Any) -> Tensor:
    rows = raw if isinstance(raw, list) else []
    whole = all(isinstance(row, list) and row and all(type(i) is int and 0 <= i < LARGEST for i in row) for row in rows)
    if not rows or not whole or len({len(row) for row in rows}) > 1:
        raise BadData(
            f"`tokens` of `{folder / TRACE}` are not rows of token ids of one length",
            hint='one text of three tokens is "tokens": [[5, 17, 200]]',
        )
    return torch.tensor(rows, dtype=torch.int64)


Opened = Callable[[str], tuple[tuple[int, ...], Callable[[], Tensor]]]
"""File name -> the array's shape, and how to read it."""


def _opener(folder: Path) -> Opened:
    """How this bundle's arrays are opened: a name is a key of tensors.safetensors where there is one, else a file."""
    together = folder / TENSORS
    if not (together.is_symlink() or together.exists()):
        return lambda name: open_npy(folder, name)
    try:
        handle = safe_open(place_in(folder, TENSORS), framework="pt")
        keys = set(handle.keys())
    except (SafetensorError, OSError) as error:
        raise BadData(f"`{together}` cannot be read: {reason(error)}") from error

    def open_key(name: str) -> tuple[tuple[int, ...], Callable[[], Tensor]]:
        if name not in keys:
            return open_npy(folder, name)
        inside = handle.get_slice(name)
        if inside.get_dtype() not in PLAIN:
            raise BadData(f"`{name}` in `{together}` is of type {inside.get_dtype()}", hint="float32 is always read")
        return tuple(inside.get_shape()), lambda: handle.get_tensor(name)

    return open_key


def _entry(folder: Path, number: int, raw: Any, tokens: Tensor, open_array: Opened) -> Entry:
    where = f"entry {number} of `{folder / TRACE}`"
    if not isinstance(raw, Mapping):
        raise BadData(f"{where} is a {type(raw).__name__}, not a description of an array")
    site, file, dims = raw.get("site"), raw.get("file"), raw.get("dims")
    phase, step, positions = raw.get("phase", "prefill"), raw.get("step", 0), raw.get("positions")
    if not isinstance(site, str) or not 0 < len(site) <= LONGEST_NAME or not isinstance(file, str) or not file:
        raise BadData(f"{where} lacks a `site` or a `file`", hint="both are names; see the format in the documents")
    if not isinstance(phase, str) or phase not in PHASES or type(step) is not int or step < 0:
        raise BadData(
            f"{where}, `{site}`, is of phase {phase!r:.80}, step {step!r:.80}", hint="phases: " + ", ".join(PHASES)
        )
    shape, read = open_array(file)
    if 0 in shape:
        raise BadData(f"{where}, `{site}`: the array has shape {shape} and holds no number")
    if dims is not None and not isinstance(dims, str):
        raise BadData(f"{where}, `{site}`: `dims` is a {type(dims).__name__}", hint='"batch time d_model" is text')
    axes = None if dims is None else dims.split()
    if axes is not None:
        if len(set(axes)) < len(axes):
            raise BadData(f"{where}, `{site}`: `{dims:.80}` name an axis twice")
        unknown = [axis for axis in axes if axis not in FREE_AXES]
        if unknown:
            raise BadData(f"{where}, `{site}`, has an axis `{unknown[0]}`", hint="axes: " + " ".join(sorted(FREE_AXES)))
        if len(axes) != len(shape):
            raise BadData(f"{where}, `{site}`: `{dims}` are {len(axes)} axes and the array has shape {shape}")
    if positions is None and axes is not None and "time" in axes:
        positions = list(range(shape[axes.index("time")]))
    positions = [] if positions is None else positions
    if not isinstance(positions, list) or not all(type(p) is int and p >= 0 for p in positions):
        raise BadData(f"{where}, `{site}`: `positions` are not token positions")
    if positions and max(positions) >= tokens.shape[1]:
        raise BadData(
            f"{where}, `{site}`, covers position {max(positions)} and the bundle has {tokens.shape[1]} tokens",
            hint="`tokens` holds every token read, of decode steps too",
        )
    for axis, length in (("time", len(positions)), ("batch", tokens.shape[0])):
        if axes is not None and axis in axes and shape[axes.index(axis)] != length:
            raise BadData(
                f"{where}, `{site}`: the array has shape {shape}, `{dims}`, where {axis} is {length}",
                hint="`positions` names the token of every row",
            )
    return Entry(site=site, phase=phase, step=step, positions=tuple(positions), dims=dims, kept=read)


def _refuse_twins(folder: Path, entries: list[Entry]) -> None:
    """One value for each place, phase, step and span of positions."""
    seen: dict[tuple[Any, ...], int] = {}
    for number, entry in enumerate(entries):
        first = seen.setdefault((entry.site, entry.phase, entry.step, entry.positions), number)
        if first != number:
            raise BadData(
                f"entries {first} and {number} of `{folder / TRACE}` are both `{entry.site}` in {entry.phase} {entry.step}",
                hint="count decode steps with `step`; parts of one pass differ in `positions`",
            )
