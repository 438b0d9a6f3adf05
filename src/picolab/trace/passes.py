"""Which pass does a value belong to? Passes are told apart as they begin, and what is seen is put into the recording.

model(tokens)          begin -> see see see .. -> end        prefill 0, 1 ..
model(next, cache)     begin -> see see see .. -> end        decode 0, 1 ..
model.losses(tokens)            see see see ..               prefill: a site that comes again begins the next one
loss of its logits                       see                 loss, of the pass just ended
backward()                      arrived arrived ..           grad/<site>, of the pass that went through there
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from picolab.errors import BadInput
from picolab.trace.bundle import Writer
from picolab.trace.recording import BACKWARD, DECODE, LOSS, PREFILL, Entry, Recording, axes
from picolab.trace.sites import GRAD, SCORES, dims_of
from picolab.trace.statistics import Running

BY_ROWS = ("attention.scores", "attention.probs")
"""Sites that come in blocks of queries where only statistics are kept."""


@dataclass(slots=True)
class Pass:
    """One pass while it runs; `whole` if it goes through `forward`, so that its end is known."""

    phase: str
    step: int
    positions: tuple[int, ...] | None
    whole: bool
    visits: dict[str, int] = field(default_factory=dict)
    blocks: dict[str, Blocks] = field(default_factory=dict)


@dataclass(slots=True)
class Blocks:
    """The entry of a site whose queries come some at a time, made anew with each of them."""

    recording: Recording
    number: int
    running: Running = field(default_factory=Running)
    shape: tuple[int, ...] = (0, 0, 0, 0)

    def add(self, block: Tensor, positions: tuple[int, ...] | None) -> None:
        if self.recording.entries[self.number].site.endswith("attention.probs"):
            is_gradient = self.recording.entries[self.number].phase == BACKWARD
            (self.running.add_pairs if is_gradient else self.running.add_attention)(block)
        else:
            self.running.add_pairs(block)
        rows, keys = self.shape[2] + block.shape[2], max(self.shape[3], block.shape[3])
        self.shape = (*block.shape[:2], rows, keys)
        self._write(tuple(range(keys - rows, keys)) if positions is None else positions)

    def _write(self, positions: tuple[int, ...], **more: Any) -> None:
        old = self.recording.entries[self.number]
        self.recording.entries[self.number] = Entry(
            old.site, old.phase, old.step, positions, old.dims, None, self.running.statistics(self.shape), **more
        )

    def close(self) -> None:
        """All queries have come."""
        self._write(self.recording.entries[self.number].positions, attention=self.running.attention())


class Recorder:
    """Puts what is seen into a recording, pass by pass."""

    def __init__(
        self,
        recording: Recording,
        *,
        gradients: bool,
        keep: Literal["device", "cpu", "statistics"],
        writer: Writer | None = None,
    ) -> None:
        self.recording, self.gradients, self.keep, self.writer = recording, gradients, keep, writer
        self._pass: Pass | None = None
        self._passes = {PREFILL: 0, DECODE: 0}
        self._hooks: list[Any] = []

    def begin(self, tokens: Tensor | None, past: int) -> None:
        """A pass through `forward` begins: the tokens it reads, and how many were read before."""
        first = self._passes[PREFILL] == 0
        if not past and not first and self.writer is not None:
            raise BadInput(
                f"a second text cannot go into `{self.writer.folder}`",
                hint="a bundle holds one: record each on its own",
            )
        positions = None if tokens is None else tuple(range(past, past + tokens.shape[1]))
        self._open(DECODE if past else PREFILL, positions, whole=True)
        if tokens is None:
            return
        known, tokens = self.recording.tokens, tokens.detach().cpu()
        if past and self._passes[PREFILL] <= 1 and known.shape == (tokens.shape[0], past):
            self.recording.tokens = torch.cat((known, tokens), dim=1)
        elif first and not past:
            self.recording.tokens = tokens.clone()

    def end(self) -> None:
        """What came block by block is now whole."""
        if self._pass is not None:
            for blocks in self._pass.blocks.values():
                blocks.close()
        self._pass = None

    def close(self) -> None:
        """Nothing more is recorded, no gradient either."""
        self.end()
        for hook in self._hooks:
            hook.remove()

    def see(self, site: str, value: Tensor) -> None:
        now, by_rows = self._pass, self.keep == "statistics" and site.endswith(BY_ROWS) and value.ndim == 4
        if now is not None and by_rows and site in now.blocks and value.shape[3] > now.blocks[site].shape[3]:
            return self._see_block(now, site, value)
        if site == LOSS:  # it comes after the pass whose logits it is of
            last = max(self._passes[PREFILL] - 1, 0)
            return self._keep_with_gradient(site, LOSS, last, _positions(site, value), value)
        if now is None or (site in now.visits and not now.whole):
            now = self._open(PREFILL, None, whole=False)
        visit = now.visits[site] = now.visits.get(site, 0) + 1
        name = site if visit == 1 else f"{site}#{visit}"
        positions = _positions(site, value) if now.positions is None else now.positions
        if by_rows:
            number = len(self.recording.entries)
            self.recording.entries.append(Entry(name, now.phase, now.step, positions, SCORES, None))
            now.blocks[site] = Blocks(self.recording, number)
            return self._see_block(now, site, value)
        return self._keep_with_gradient(name, now.phase, now.step, positions, value)

    def _keep_with_gradient(self, site: str, phase: str, step: int, positions: tuple[int, ...], value: Tensor) -> None:
        self._keep(site, phase, step, positions, value)
        if self.gradients and value.requires_grad:

            def arrived(gradient: Tensor) -> None:
                self._keep(GRAD + site, BACKWARD, step, positions, gradient)

            self._hooks.append(value.register_hook(arrived))

    def _see_block(self, now: Pass, site: str, value: Tensor) -> None:
        blocks = now.blocks[site]
        blocks.add(value, now.positions)
        if self.gradients and value.requires_grad:
            name, step, positions = GRAD + self.recording.entries[blocks.number].site, now.step, now.positions

            def arrived(gradient: Tensor) -> None:
                if name not in now.blocks:
                    entry = Entry(name, BACKWARD, step, positions or (), SCORES, None)
                    now.blocks[name] = Blocks(self.recording, len(self.recording.entries))
                    self.recording.entries.append(entry)
                now.blocks[name].add(gradient, positions)

            self._hooks.append(value.register_hook(arrived))

    def _open(self, phase: str, positions: tuple[int, ...] | None, *, whole: bool) -> Pass:
        self.end()
        self._pass = Pass(phase, self._passes[phase], positions, whole)
        self._passes[phase] += 1
        return self._pass

    def _keep(self, site: str, phase: str, step: int, positions: tuple[int, ...], value: Tensor) -> None:
        value = value.detach()
        entry = Entry(site, phase, step, positions, axes(site, value), value)
        if self.keep == "statistics":
            entry = Entry(site, phase, step, positions, entry.dims, None, entry.statistics)
        elif self.keep == "cpu":
            entry = Entry(site, phase, step, positions, entry.dims, value.to("cpu", copy=True))
        self.recording.entries.append(entry if self.writer is None else self.writer.write(entry))


def _positions(site: str, value: Tensor) -> tuple[int, ...]:
    """Of a pass that did not say which tokens it reads."""
    dims = (dims_of(site) or "").split()
    return tuple(range(value.shape[dims.index("time")])) if "time" in dims and len(dims) == value.ndim else ()
