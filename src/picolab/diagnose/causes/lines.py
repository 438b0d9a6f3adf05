"""The lines of attention, plainly, for mistakes that change what goes into them: each gives what the model itself makes there.

scores   q . k / sqrt(head_dim)          probs   softmax of what the mask leaves          mixed   probs . v, heads side by side
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from picolab.diagnose.walk import Pass
from picolab.shapes import Keys, Queries, Scores, Values
from picolab.trace.sites import layer_of

Visible = Bool[Tensor, "time past"]


def block_of(site: str) -> str:
    """`blocks.3.attention` of any site of that attention."""
    return f"blocks.{layer_of(site)}.attention"


def keys_site(site: str, at: Pass) -> str:
    """The place of the keys that scores are made of."""
    return at.line(f"{block_of(site)}.scores").inputs[1]


def make_scores(q: Queries, k: Keys) -> Scores:
    """Scaled, not masked; query head h reads key head h // (heads / kv_heads)."""
    k = k.repeat_interleave(q.shape[2] // k.shape[2], dim=2)
    return torch.einsum("bthd,bphd->bhtp", q, k) * q.shape[-1] ** -0.5


def make_probs(scores: Scores, visible: Visible, at: Pass, site: str) -> Scores:
    """Softmax over the keys that are visible, with the sinks of a model that has them."""
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32)).masked_fill(~visible, -torch.inf)
    sinks = getattr(at.model.get_submodule(block_of(site)), "sinks", None)
    if sinks is None:
        return wide.softmax(-1).to(scores.dtype)
    sink = sinks.detach().to(wide.dtype)[None, :, None, None].expand(*wide.shape[:-1], 1)
    return torch.cat((wide, sink), dim=-1).softmax(-1)[..., :-1].to(scores.dtype)


def make_mixed(probs: Scores, v: Values) -> Tensor:
    """`(batch, time, heads x head_dim)`."""
    v = v.repeat_interleave(probs.shape[1] // v.shape[2], dim=2)
    return torch.einsum("bhtp,bphd->bthd", probs, v).flatten(2)


def visible(at: Pass, site: str, device: torch.device) -> Visible:
    """What each query of this pass may see: the tokens up to its own, through the layer's window if it has one."""
    query = torch.tensor(at.positions, device=device)[:, None]
    key = torch.arange(at.positions[-1] + 1, device=device)
    seen = key <= query
    window = window_of(at, site)
    return seen if window is None else seen & (query - key < window)


def window_of(at: Pass, site: str) -> int | None:
    """How far a layer looks back; None: to the beginning."""
    window = getattr(at.model.get_submodule(block_of(site)), "window", None)
    return window or None
