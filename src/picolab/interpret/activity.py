"""What does every neuron do over some texts? Its mean and its peak in each, and how often it is open.

    tokens -> model, heard at `mlp.act` (and `mlp.gate`) -> texts x neurons, block after block

A neuron is what enters the last matrix of a feed-forward layer, a hidden unit of a k-gram, a lane of an LSTM's state. It is open at
a token where its gate, or ungated its activation, is above 0; a lane of a state, which has neither, where it is not 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from picolab.errors import BadInput
from picolab.interpret.chance import Numbers
from picolab.interpret.texts import Padded, Texts, at_rest, batches
from picolab.models.contract import LanguageModel
from picolab.parts.tap import listening
from picolab.trace.sites import sites_of

PLACES = (".mlp.act", ".act", ".state")
"""Where neurons are: of a decoder, of a k-gram, of an LSTM. The first kind that a model has."""

STILL = 1e-4
"""A lane of a state below this is not there."""


@dataclass(frozen=True, slots=True)
class Activity:
    """What neurons did: `means` and `peaks` are (texts, neurons), `peak_at` the token of each peak, `open` the share of tokens."""

    means: Numbers
    peaks: Numbers
    peak_at: Numbers
    open: Numbers
    layer: Numbers
    index: Numbers
    is_gated: bool


def activity_of(model: LanguageModel, texts: Texts) -> Activity:
    """What every neuron does over some texts; means and peaks are without the opening token, which all texts have."""
    acts, gates = _places(model)
    watch = _Watch(acts, gates, len(texts))
    for batch in batches(texts.ids):
        with at_rest(model), listening(model, watch.listener(batch, model.device), {*acts, *gates}.__contains__):
            model(batch.tokens.to(model.device))
    whole = [torch.stack([row for row in watch.found[site] if row is not None]).double().numpy() for site in acts]
    joined = np.concatenate(whole, axis=2)  # texts x 3 x neurons
    return Activity(
        means=joined[:, 0],
        peaks=joined[:, 1],
        peak_at=joined[:, 2],
        open=torch.cat([watch.opened[site] for site in acts]).numpy() / sum(len(ids) for ids in texts.ids),
        layer=np.concatenate([np.full(w.shape[2], float(i)) for i, w in enumerate(whole)]),
        index=np.concatenate([np.arange(w.shape[2], dtype=np.float64) for w in whole]),
        is_gated=not acts[0].endswith(".state"),
    )


def _places(model: LanguageModel) -> tuple[list[str], dict[str, str]]:
    """Where the neurons are, and for those with a gate: the gate's place -> the neuron's."""
    sites = () if hasattr(model, "estimate") else sites_of(model)
    kind = next((kind for kind in PLACES if any(site.endswith(kind) for site in sites)), None)
    if kind is None:
        raise BadInput(
            f"a `{model.architecture}` shows no neurons",
            hint="its blocks have no site `mlp.act`; those of gpt2 and llama do, and k-grams and LSTMs have their own",
        )
    acts = [site for site in sites if site.endswith(kind)]
    gates = {act.removesuffix("act") + "gate": act for act in acts}
    return acts, {gate: act for gate, act in gates.items() if gate in sites}


class _Watch:
    """What was heard so far: of every text its neurons' means, peaks and where they were; at how many tokens they were open."""

    def __init__(self, acts: list[str], gates: dict[str, str], texts: int) -> None:
        self.gates = gates
        self.opened: dict[str, Tensor] = {}
        self.found: dict[str, list[Tensor | None]] = {site: [None] * texts for site in acts}

    def listener(self, batch: Padded, device: torch.device) -> Callable[[str, Tensor], None]:
        real = batch.real.to(device)
        later = real.clone()
        later[:, 0] = False

        def see(site: str, value: Tensor) -> None:
            if site in self.gates or not self.gates:
                act = self.gates.get(site, site)
                is_open = value.abs() > STILL if site.endswith(".state") else value > 0
                so_far = self.opened.get(act)
                here = is_open[real].double().sum(dim=0).cpu()
                self.opened[act] = here if so_far is None else so_far + here
            if site in self.found:
                shown = value.float()
                means = (shown * later[..., None]).sum(1) / later.sum(1)[:, None]
                peaks = shown.masked_fill(~later[..., None], -torch.inf).max(dim=1)
                for at, row in enumerate(batch.rows):
                    self.found[site][row] = torch.stack([means[at], peaks.values[at], peaks.indices[at].float()]).cpu()

        return see
