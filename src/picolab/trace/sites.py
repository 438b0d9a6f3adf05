"""Which places of a model have names, what lies there, and which of them somebody means by `blocks.*.attention.probs`.

    embed                                                    (batch, time, d_model)
    blocks.i. attention_norm                                 (batch, time, d_model)
              attention. q k v  q_norm k_norm  q_rope k_rope (batch, time, heads, head_dim), kv_heads for keys and values
                         gates  q_map k_map                  of linear attention; gates (batch, time, heads)
                         scores probs                        (batch, heads, time, past)
                         mixed out                           heads side by side; (batch, time, d_model)
              resid_mid  mlp_norm  mlp.gate up act down      resid_post
    final_norm  logits

The same name under `grad/` is the gradient of the loss at that place; a block that a model goes through twice in one pass is
`..#2` the second time. A k-gram has `embed blocks.i.up blocks.i.act logits`, an LSTM `embed blocks.i.state logits`: its gates
exist only inside the kernel that runs over all tokens, and computing them beside it would show another computation than the
model's. Linear attention has no scores; its `probs`, the weights it amounts to, exist where somebody asks for them and every key is
there: not in passes that go on from its state. A module that is none of ours has the places of its submodules, under their own
names.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch

from picolab.errors import BadInput, UnknownName
from picolab.models.contract import LanguageModel
from picolab.parts.tap import listening, unheard

GRAD = "grad/"


@dataclass(frozen=True, slots=True)
class Site:
    """A kind of place: the axes of what lies there, and what it is. `{i}` in its name stands for the block."""

    name: str
    dims: str
    says: str


STREAM = "batch time d_model"
QUERIES, KEYS = "batch time heads head_dim", "batch time kv_heads head_dim"
SCORES = "batch heads time past"
WIDE = "batch time d_ff"

SITES: dict[str, Site] = {
    site.name: site
    for site in (
        Site("embed", STREAM, "what enters the first block"),
        Site("blocks.{i}.attention_norm", STREAM, "what attention reads"),
        Site("blocks.{i}.attention.q", QUERIES, "queries, after projection and bias"),
        Site("blocks.{i}.attention.k", KEYS, "keys, after projection and bias"),
        Site("blocks.{i}.attention.v", KEYS, "values, after projection and bias"),
        Site("blocks.{i}.attention.q_norm", QUERIES, "queries, normed"),
        Site("blocks.{i}.attention.k_norm", KEYS, "keys, normed"),
        Site("blocks.{i}.attention.q_rope", QUERIES, "queries, rotated"),
        Site("blocks.{i}.attention.k_rope", KEYS, "keys, rotated"),
        Site("blocks.{i}.attention.gates", "batch time heads", "logarithm of the share of the past that a head keeps"),
        Site("blocks.{i}.attention.q_map", QUERIES, "queries of linear attention, mapped to what is positive"),
        Site("blocks.{i}.attention.k_map", KEYS, "keys of linear attention, mapped to what is positive"),
        Site("blocks.{i}.attention.scores", SCORES, "q . k, scaled, before the mask"),
        Site("blocks.{i}.attention.probs", SCORES, "how every query shares itself out over the keys it may see"),
        Site("blocks.{i}.attention.mixed", "batch time attn_dim", "values gathered, heads side by side"),
        Site("blocks.{i}.attention.out", STREAM, "what attention adds to the stream"),
        Site("blocks.{i}.resid_mid", STREAM, "the stream after attention"),
        Site("blocks.{i}.mlp_norm", STREAM, "what the feed-forward layer reads"),
        Site("blocks.{i}.mlp.gate", WIDE, "the gate, before its activation"),
        Site("blocks.{i}.mlp.up", WIDE, "the expansion"),
        Site("blocks.{i}.mlp.act", WIDE, "what enters the down projection: act(gate) * up, or act(up)"),
        Site("blocks.{i}.mlp.down", STREAM, "what the feed-forward layer adds to the stream"),
        Site("blocks.{i}.resid_post", STREAM, "the stream after the block"),
        Site("final_norm", STREAM, "what enters the head"),
        Site("logits", "batch time vocab", "scores of every word, after any softcap"),
        Site("loss", "batch time", "cross entropy of every token, in nats"),
        Site("blocks.{i}.state", "batch time hidden", "the hidden state of an LSTM after every token"),
        Site("blocks.{i}.up", WIDE, "hidden units of a k-gram, before the activation"),
        Site("blocks.{i}.act", WIDE, "hidden units of a k-gram"),
    )
}
"""Every canonical place, in the order of computation of a decoder; then what other families have."""

AXES = frozenset(axis for site in SITES.values() for axis in site.dims.split())

_BLOCK, _VISIT = re.compile(r"^blocks\.\d+\."), re.compile(r"#\d+$")


def known(site: str) -> Site | None:
    """The kind of place a name means, of the value or of its gradient; None for a name that is not canonical."""
    return SITES.get(_BLOCK.sub("blocks.{i}.", _VISIT.sub("", site.removeprefix(GRAD))))


def dims_of(site: str) -> str | None:
    """The axes at a canonical site."""
    kind = known(site)
    return None if kind is None else kind.dims


@functools.lru_cache(maxsize=4096)
def layer_of(site: str) -> int | None:
    """The block a site belongs to."""
    found = _BLOCK.match(site.removeprefix(GRAD))
    return None if found is None else int(found[0].split(".")[1])


@torch.inference_mode()
def sites_of(model: LanguageModel) -> tuple[str, ...]:
    """The sites of a model in the order of computation: it reads one token, and nothing is kept."""
    if hasattr(model, "estimate"):
        raise BadInput(
            f"a model that counts (`{model.architecture}`) computes nothing that could be traced",
            hint="trace a network: lstm, softmax-pico, a checkpoint",
        )
    names: list[str] = []

    def note(site: str) -> bool:
        if site not in names:
            names.append(site)
        return False

    modes = [(module, module.training) for module in model.modules()]
    try:
        # Neither an open recording nor anybody's hook on the model is to take this for a pass.
        with unheard(), listening(model.eval(), lambda site, value: None, wanted=note):
            model.forward(torch.zeros(1, 1, dtype=torch.int64, device=model.device))
    finally:
        for module, training in modes:
            module.training = training
    return tuple(names)


def chosen(globs: str | Sequence[str], among: Collection[str] | None = None) -> Callable[[str], bool]:
    """Whether a site is meant by one of these patterns (`*`, `?`, `[..]`); one that matches nothing of `among` is refused."""
    patterns = patterns_of(globs)
    if among is not None:
        check_patterns(patterns, among)
    answers: dict[str, bool] = {}  # asked at every site of every pass

    def wanted(site: str) -> bool:
        if site not in answers:
            answers[site] = any(fnmatchcase(site, pattern) for pattern in patterns)
        return answers[site]

    return wanted


def patterns_of(globs: str | Sequence[str]) -> list[str]:
    """Patterns as they are compared with sites: the gradient at a place is asked for by the place."""
    return [glob.removeprefix(GRAD) for glob in ([globs] if isinstance(globs, str) else globs)]


def check_patterns(patterns: Sequence[str], among: Collection[str]) -> None:
    """Refuse a pattern that no site matches."""
    for pattern in patterns:
        if not any(fnmatchcase(site, pattern) for site in among):
            raise UnknownName("site of this model", pattern, among)
