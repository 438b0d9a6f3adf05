"""Which neurons answer to a kind of text, which to nothing, which to everything?

    text -> mean activation of each neuron over its tokens       texts x neurons, and each text's group (family, source)
    selectivity: the share of a neuron's variance over texts that lies between the groups (eta squared, 0 to 1)     Pearson 1905
    groups shuffled among the texts, many times -> p of each neuron -> q over all neurons (Benjamini-Hochberg)
                                                -> p of the best against the best of each shuffle (Westfall and Young 1993)

Groups differ in their tokens, so a network that has learned nothing is selective too. That is why the same architecture with
random weights is asked beside it. A neuron is open at a token where its gate (or, ungated, its activation) is above 0: dead ones
never are in these texts, always-on ones at every token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from picolab.errors import BadInput
from picolab.interpret.activity import Activity, activity_of
from picolab.interpret.chance import CLEAR, SHUFFLES, SURE, Numbers, false_finds, p_value, percent, shuffles
from picolab.interpret.texts import Texts
from picolab.models.contract import LanguageModel

TOP, CONTEXTS, BEFORE, AFTER = 8, 4, 10, 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """A place in a text where a neuron is strong: the tokens around it, which of them it is, its group."""

    tokens: tuple[int, ...]
    at: int
    activation: float
    group: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Neuron:
    """A neuron, how selective it is, for which group it is strongest, and where it is strongest of all."""

    layer: int
    index: int
    selectivity: float
    p: float
    q: float
    group: str
    means: tuple[float, ...]
    contexts: tuple[Context, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.layer}.{self.index}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Neurons:
    """All neurons of a model over some texts: numbers of each, block after block, and the most selective.

    `best_p` is that of the most selective neuron among all. `random` is the median selectivity of the same architecture with
    random weights, None where it was not asked. `always_on` is None where neurons have no gate that could be open.
    """

    layer: tuple[int, ...]
    selectivity: tuple[float, ...]
    p: tuple[float, ...]
    q: tuple[float, ...]
    strongest: dict[str, int]
    groups: tuple[str, ...]
    texts: int
    tokens: int
    dead: int
    always_on: int | None
    best_p: float
    random: float | None
    top: tuple[Neuron, ...]

    @property
    def count(self) -> int:
        return len(self.selectivity)

    @property
    def selective(self) -> int:
        """How many neurons are called selective: q below CLEAR."""
        return sum(q < CLEAR for q in self.q)


def neurons_of(
    model: LanguageModel,
    texts: Texts,
    *,
    untrained: LanguageModel | None = None,
    seed: int = 0,
    times: int = SHUFFLES,
) -> Neurons:
    """The selectivity of every neuron over the groups of `texts`, beside that of `untrained`, its twin with random weights.

    Raises `BadInput` where there is one group only, a group of one text, or no neuron.
    """
    sizes = np.bincount(texts.group, minlength=len(texts.names))
    if len(texts.names) < 2:
        raise BadInput(
            f"`{texts.source}` is one kind of text, and selectivity is between kinds",
            hint="`numeric` has families; a blend of sources does too: `field_notes=0.5,harbour_diary=0.5`",
        )
    if sizes.min() < 2:
        few = texts.names[int(sizes.argmin())]
        raise BadInput(f"`{few}` has {sizes.min()} text of two tokens or more", hint="every kind needs at least 2")
    activity = activity_of(model, texts)
    group = np.asarray(texts.group)
    observed = eta_squared(activity.means, group[None])[0]
    null = np.concatenate(
        [eta_squared(activity.means, group[order]) for order in np.array_split(shuffles(len(group), seed, times), 20)]
    )
    p = p_value(observed, null)
    q = false_finds(p)
    of_group = np.stack([activity.means[group == i].mean(axis=0) for i in range(len(texts.names))])
    strongest = of_group.argmax(axis=0)
    random = None
    if untrained is not None:
        random = float(np.median(eta_squared(activity_of(untrained, texts).means, group[None])))
    told = [int(i) for i in np.argsort(-observed, kind="stable")[:TOP]]
    return Neurons(
        layer=tuple(activity.layer.astype(int).tolist()),
        selectivity=tuple(observed.tolist()),
        p=tuple(p.tolist()),
        q=tuple(q.tolist()),
        strongest={name: int((strongest[q < CLEAR] == i).sum()) for i, name in enumerate(texts.names)},
        groups=texts.names,
        texts=len(texts),
        tokens=sum(len(ids) for ids in texts.ids),
        dead=int((activity.open == 0).sum()),
        always_on=int((activity.open == 1).sum()) if activity.is_gated else None,
        best_p=float(p_value(observed.max(), null.max(axis=1))),
        random=random,
        top=tuple(
            Neuron(
                layer=int(activity.layer[i]),
                index=int(activity.index[i]),
                selectivity=float(observed[i]),
                p=float(p[i]),
                q=float(q[i]),
                group=texts.names[int(strongest[i])],
                means=tuple(of_group[:, i].tolist()),
                contexts=_contexts(activity, texts, i),
            )
            for i in told
        ),
    )


def eta_squared(values: Numbers, groups: Numbers) -> Numbers:
    """`values` `(texts, neurons)`, `groups` `(labellings, texts)` -> `(labellings, neurons)`: between-group over whole variance; 0
    for a neuron that never changes."""
    centred = values - values.mean(axis=0)
    whole = (centred**2).sum(axis=0)
    between = np.zeros((len(groups), values.shape[1]))
    for group in range(int(groups.max()) + 1):
        member = (groups == group).astype(np.float64)
        between += (member @ centred) ** 2 / np.maximum(member.sum(axis=1, keepdims=True), 1)
    still = whole <= 1e-18 * np.maximum((values**2).sum(axis=0), 1e-300)
    return np.asarray(np.where(still, 0.0, between / np.where(still, 1.0, whole)))


def says(neurons: Neurons) -> list[str]:
    """What was found, in sentences."""
    median = float(np.median(neurons.selectivity))
    beside = "" if neurons.random is None else f"; with random weights the median is {neurons.random:.2f}"
    share = neurons.selective / neurons.count
    sentences = [
        f"{neurons.selective} of {neurons.count} neurons ({percent(share)}) are selective between {len(neurons.groups)} kinds of "
        f"text (q < {CLEAR}, {neurons.texts} texts); the median selectivity is {median:.2f}{beside}."
    ]
    best = neurons.top[0]
    sentences.append(
        f"Neuron {best.name} is the most selective: {best.selectivity:.2f} of its variance lies between kinds, and it is strongest "
        f"for {best.group} (p = {neurons.best_p:.3f} against the best of shuffled kinds)."
        if neurons.best_p < SURE
        else f"No neuron stands out: the most selective, {best.name} with {best.selectivity:.2f}, is no better than the best of "
        f"shuffled kinds (p = {neurons.best_p:.2f})."
    )
    on = "" if neurons.always_on is None else f", {neurons.always_on} are open at every one"
    sentences.append(
        f"{neurons.dead} of {neurons.count} neurons are dead: never open at {neurons.tokens:,} tokens{on}."
    )
    return sentences


def _contexts(activity: Activity, texts: Texts, neuron: int) -> tuple[Context, ...]:
    strong = np.argsort(-activity.peaks[:, neuron], kind="stable")[:CONTEXTS]
    found = []
    for row in strong.tolist():
        at = int(activity.peak_at[row, neuron])
        start = max(0, at - BEFORE)
        ids: Sequence[int] = texts.ids[row][start : at + 1 + AFTER]
        found.append(
            Context(
                tokens=tuple(ids),
                at=at - start,
                activation=float(activity.peaks[row, neuron]),
                group=texts.names[texts.group[row]],
            )
        )
    return tuple(found)
