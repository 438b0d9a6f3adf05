"""The arrays that flow through a language model, each named once.

    Tokens -> embed -> Stream -> q k v: Heads -> Scores -> mixed -> Stream -> ... -> Logits

Axes: `batch time vocab d_model heads kv_heads head_dim d_ff past`. Activations are `(batch, time, ...)`, token ids int64.
`past` counts the keys a query may look at: everything in the cache and the present chunk.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int64
from torch import Tensor

Tokens = Int64[Tensor, "batch time"]
Documents = Int64[Tensor, "batch time"]
Positions = Int64[Tensor, "batch time"]
Stream = Float[Tensor, "batch time d_model"]
Logits = Float[Tensor, "batch time vocab"]
TokenLosses = Float[Tensor, "batch time"]

Queries = Float[Tensor, "batch time heads head_dim"]
Keys = Float[Tensor, "batch past kv_heads head_dim"]
Values = Float[Tensor, "batch past kv_heads head_dim"]
Scores = Float[Tensor, "batch heads time past"]
Mask = Bool[Tensor, "#batch #heads time past"]
