"""What enters every softmax over tokens, in code that nobody prepared for being watched.

PyTorch lets a mode see each of its functions being called (`torch.overrides.TorchFunctionMode`). Attention ends in one of two:

    softmax(scores)                               scores (.., time, past) as they are
    scaled_dot_product_attention(q, k, v, ..)     scores are made here, as its documentation says
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

HIDDEN = -1e4
"""Scores this low are a mask's."""

SOFTMAX = (torch.softmax, Tensor.softmax, F.softmax, torch.nn.functional.softmax)


@dataclass(frozen=True, slots=True)
class Softmax:
    """Scores `(.., time, past)` before a softmax, which of them are visible, and the width of a head where it shows."""

    scores: Tensor
    visible: Tensor
    head_dim: int | None


class Softmaxes(TorchFunctionMode):
    """While open, every softmax over a square of tokens is noted in `found`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Softmax] = []
        self._products: list[tuple[torch.Size, int]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self._fused(*args, **kwargs)
        elif func in SOFTMAX:
            scores = args[0] if args else kwargs["input"]
            if scores.ndim >= 3 and scores.shape[-1] == scores.shape[-2] + 1:
                scores = scores[..., :-1]  # the last column is a sink's
            if scores.ndim >= 3 and scores.shape[-1] == scores.shape[-2]:
                visible = (scores > HIDDEN) & torch.ones_like(scores, dtype=torch.bool).tril()
                self.found.append(Softmax(scores.detach().float().cpu(), visible.cpu(), self._width(scores)))
        return_value = func(*args, **kwargs)
        if func in (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, torch.einsum) and isinstance(
            return_value, Tensor
        ):
            last = args[-1] if not isinstance(args[-1], list | tuple) else args[-1][-1]
            first = args[0] if isinstance(args[0], Tensor) else args[1] if len(args) > 1 else last
            if isinstance(first, Tensor) and isinstance(last, Tensor):
                self._products = [*self._products[-3:], (return_value.shape, first.shape[-1])]
        return return_value

    def _fused(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> None:  # fmt: skip
        if query.shape[-2] != key.shape[-2]:
            return
        k = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3) if enable_gqa else key
        scores = query @ k.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
        visible = torch.ones_like(scores, dtype=torch.bool).tril()
        if attn_mask is not None:
            visible = visible & (attn_mask if attn_mask.dtype == torch.bool else attn_mask > HIDDEN)
        self.found.append(Softmax(scores.detach().float().cpu(), visible.cpu(), query.shape[-1]))

    def _width(self, scores: Tensor) -> int | None:
        """The lanes that the last product of this many tokens summed over."""
        for shape, width in reversed(self._products):
            if shape[-2:] == scores.shape[-2:]:
                return width
        return None
