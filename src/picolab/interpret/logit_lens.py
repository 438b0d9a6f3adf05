"""What would the model say if it stopped here? The stream after every block, read by the model's own final norm and head.

    resid_post of block i -> final_norm -> head -> softmax -> the words it would choose       nostalgebraist 2020, "logit lens"

Early blocks speak of the token just read, late ones of the next; where the answer appears is where it was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from picolab.errors import BadInput
from picolab.models.contract import LanguageModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Lens:
    """`places` from the embedding to the last block; the `top` words there and their probabilities, most likely first."""

    places: tuple[str, ...]
    top: Int64[Tensor, "places time k"]
    probs: Float[Tensor, "places time k"]
    entropy: Float[Tensor, "places time"]


@torch.inference_mode()
def logit_lens(model: LanguageModel, values: Mapping[str, Tensor], *, k: int = 5) -> Lens:
    """The lens over recorded values, `(batch, time, d_model)` at `embed` and every `resid_post`; of the first row.

    Raises `BadInput` for a model without a stream (an LSTM, a k-gram) or a recording without those sites.
    """
    norm = getattr(model, "final_norm", None)
    places = [site for site in values if site == "embed" or site.endswith(".resid_post")]
    if norm is None or len(places) < 2:
        raise BadInput(
            f"a `{model.architecture}` has no stream that its head could read halfway",
            hint="the logit lens is for decoders; record `embed` and `blocks.*.resid_post`",
        )
    k = min(k, model.config.vocab_size)
    tops, shares, entropies = [], [], []
    for place in places:
        probs = model.head(norm(values[place][:1].to(model.device)))[0].float().softmax(-1)
        top = probs.topk(k)
        tops.append(top.indices.cpu())
        shares.append(top.values.cpu())
        entropies.append(-torch.xlogy(probs, probs).sum(-1).cpu())
    return Lens(places=tuple(places), top=torch.stack(tops), probs=torch.stack(shares), entropy=torch.stack(entropies))
