"""In which type are matrix products computed? Parameters and the optimizer are float32 always; products may be bfloat16.

auto    bfloat16 where the chip multiplies it faster than float32, else float32; the reason is kept in meta.json
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from picolab.errors import BadSetting


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """A type for matrix products, and why it was chosen."""

    dtype: torch.dtype
    device_type: str
    reason: str

    @property
    def name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def autocast(self) -> AbstractContextManager[object]:
        """Products in `dtype` inside; nothing changes for float32."""
        return torch.autocast(self.device_type, self.dtype, enabled=self.dtype != torch.float32)


COUNTING = Precision(dtype=torch.float32, device_type="cpu", reason="the model counts, and multiplies nothing")


def choose(dtype: str, device: torch.device) -> Precision:
    """The precision for a setting (`auto`, `float32`, `bfloat16`) on a device."""
    profits, why = _bfloat16_profits(device)
    if dtype == "float32":
        chosen, reason = torch.float32, "asked for"
    elif dtype == "bfloat16":
        if device.type == "mps":
            raise BadSetting("bfloat16 on `mps` is not supported here", hint="use --dtype float32")
        chosen, reason = torch.bfloat16, "asked for" if profits else f"asked for, though {why}"
    else:
        chosen, reason = (torch.bfloat16 if profits else torch.float32), why
    return Precision(dtype=chosen, device_type=device.type, reason=reason)


def _bfloat16_profits(device: torch.device) -> tuple[bool, str]:
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return major >= 8, f"the GPU has compute capability {major}.{minor}, and 8.0 brought bfloat16 products"
    if device.type == "cpu":
        if torch.cpu._is_amx_tile_supported():
            return True, "the processor multiplies bfloat16 tiles (AMX)"
        if torch.cpu._is_avx512_bf16_supported():
            return True, "the processor multiplies bfloat16 (AVX512-BF16)"
        return False, "the processor has no bfloat16 products (neither AMX nor AVX512-BF16)"
    return False, f"bfloat16 is not tried on `{device.type}`"
