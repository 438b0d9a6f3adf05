"""How weights start: small enough that the first prediction is close to uniform, so the first loss is ln(vocab_size).

matrices N(0, 0.02); what writes into the residual stream is scaled by 1 / sqrt(2 n_layers), because 2 n_layers such
terms add up there (Radford et al. 2019, GPT-2)
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import nn


def init_normal(model: nn.Module, std: float = 0.02) -> None:
    """Every linear and embedding matrix from N(0, std), every bias zero; norms keep their ones and zeros."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def shrink_residual(writers: Iterable[nn.Linear], n_layers: int, std: float = 0.02) -> None:
    """Draw again the layers that write into the residual stream, 1 / sqrt(2 n_layers) as large."""
    for writer in writers:
        nn.init.normal_(writer.weight, std=std / math.sqrt(2 * n_layers))
