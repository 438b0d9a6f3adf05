"""How is a pass watched whose text may be long? All is kept while it fits, of attention a few numbers a query where not.

scores and probabilities (time x time a head)   up to 128 MB    one step of training, everything recorded
                                                above           the same without them; a second forward pass shows them by rows
all other sites                                 above 512 MB    statistics only

Bytes are those of values and gradients together, counted on a pass of one token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from picolab.models.contract import LanguageModel
from picolab.parts.cross_entropy import IGNORE
from picolab.parts.tap import listening
from picolab.trace.record import ROWS, Keep, record
from picolab.trace.recording import Recording
from picolab.trace.sites import chosen
from picolab.trace.step import StepTrace, trace_step

MOST_ATTENTION, MOST_ELSE = 128e6, 512e6
SQUARE = ("attention.scores", "attention.probs")
"""Sites with a number for every pair of tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """A pass, the step that was taken with it, and where attention was seen by rows the one of the token that is followed:
    site -> `(heads, keys)`."""

    recording: Recording
    taken: StepTrace | None = None
    rows: dict[str, Tensor] = field(default_factory=dict)


def watch(
    model: LanguageModel,
    ids: Sequence[int],
    *,
    followed: int = -1,
    sites: str | Sequence[str] = "*",
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
    clip: float = 1.0,
    iterations: int = 1,
) -> Watched:
    """Record a text, forward only without an optimizer, or if no token has one after it."""
    tokens = torch.tensor([list(ids)], device=model.device)
    time = len(ids)
    sizes = _bytes_of_one_token(model)
    wanted = [site for site in sizes if chosen(sites, sizes)(site)]
    square = [site for site in wanted if site.endswith(SQUARE)]
    apart = square if 2 * time * time * sum(sizes[site] for site in square) > MOST_ATTENTION else []
    rest = [site for site in wanted if site not in apart]
    large = 2 * time * sum(sizes[site] for site in rest if site not in square) > MOST_ELSE
    keep: Keep = "statistics" if large else "device"
    taken = None
    if make_optimizer is None or time < 2:
        recording = _forward(model, tokens, rest, keep) if rest else Recording(engine="", tokens=tokens.cpu())
    else:
        targets = torch.cat((tokens[:, 1:], torch.full_like(tokens[:, :1], IGNORE)), dim=1)
        taken = trace_step(
            model,
            tokens,
            targets,
            make_optimizer=make_optimizer,
            clip=clip,
            sites=rest or [next(iter(sizes))],
            iterations=iterations,
            keep=keep,
        )
        recording = taken.recording
    rows: dict[str, Tensor] = {}
    if apart:
        by_rows = _forward(model, tokens, apart, "statistics", _Row(followed % time, rows))
        recording.engine = by_rows.engine
        place = {site: number for number, site in enumerate(sizes)}
        recording.entries = sorted(
            [*recording.entries, *by_rows.entries], key=lambda entry: place.get(entry.site, len(place))
        )
    return Watched(recording=recording, taken=taken, rows=rows)


class _Row:
    """Keeps the row of one query, while blocks of queries pass by."""

    def __init__(self, query: int, rows: dict[str, Tensor]) -> None:
        self.query, self.rows = query, rows
        self._passed: dict[str, int] = {}

    def __call__(self, site: str, block: Tensor) -> None:
        start = self._passed.get(site, 0)
        self._passed[site] = start + block.shape[2]
        if start <= self.query < start + block.shape[2]:
            self.rows[site] = block[0, :, self.query - start].detach().to("cpu", torch.float32, copy=True)


@torch.inference_mode()
def _forward(
    model: LanguageModel, tokens: Tensor, sites: Sequence[str], keep: Keep, row: _Row | None = None
) -> Recording:
    beside = nullcontext() if row is None else listening(model, row, lambda s: s.endswith("attention.probs"), rows=ROWS)
    with record(model.eval(), sites, keep=keep) as recording, beside:
        model(tokens)
    return recording


@torch.inference_mode()
def _bytes_of_one_token(model: LanguageModel) -> dict[str, int]:
    """Every site in the order of computation, and how large it is where one token is read."""
    sizes: dict[str, int] = {}

    def see(site: str, value: Tensor) -> None:
        sizes.setdefault(site, value.numel() * value.element_size())

    with listening(model.eval(), see):
        model(torch.zeros(1, 1, dtype=torch.int64, device=model.device))
    return sizes
