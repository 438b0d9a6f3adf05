"""What can a device do at most? Products a second, bytes, bytes a second, as its maker states them; dense, without sparsity.

    NVIDIA H200 Tensor Core GPU, datasheet 2024                SXM: 989 TFLOP/s bf16, 67 fp32, 141 GB, 4.8 TB/s
    NVIDIA H100 Tensor Core GPU, datasheet 2023                SXM: 989, 67, 80 GB, 3.35 TB/s
    NVIDIA A100 Tensor Core GPU, datasheet 2021                80 GB SXM: 312, 19.5, 80 GB, 2,039 GB/s
    NVIDIA A10 Tensor Core GPU, datasheet 2021                 125, 31.2, 24 GB, 600 GB/s
    NVIDIA Ada GPU architecture, whitepaper 2022, appendix A   GeForce RTX 4090: 165.2 (sums in fp32), 82.6, 24 GB, 1,008 GB/s

The datasheets of H200 and H100 print twice the bf16 figure, with sparsity. `cpu` is this machine, measured (here.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from picolab.measure.planning.saved import Kind

FLOAT32, BFLOAT16 = "float32", "bfloat16"
WIDTHS = {FLOAT32: 4, BFLOAT16: 2}
"""Bytes of a number in a product."""

GPU_SPARE = 0.08
"""Share of a GPU's memory left for its context, communication and the allocator's gaps."""

CPU_SPARE = 0.25
"""Share of a computer's memory left for its system and everybody's else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """One device: operations a second by type, bytes it holds, bytes a second it moves."""

    name: str
    kind: Kind
    flops: dict[str, float]
    n_bytes: float
    bytes_per_second: float
    source: str

    @property
    def usable(self) -> float:
        """Bytes that tensors may take."""
        return self.n_bytes * (1 - (GPU_SPARE if self.kind == "cuda" else CPU_SPARE))


def _gpu(name: str, bfloat16: float, float32: float, gigabytes: float, per_second: float) -> Device:
    return Device(
        name=name,
        kind="cuda",
        flops={BFLOAT16: bfloat16 * 1e12, FLOAT32: float32 * 1e12},
        n_bytes=gigabytes * 1e9,
        bytes_per_second=per_second * 1e9,
        source="the maker",
    )


GPUS: dict[str, Device] = {
    gpu.name: gpu
    for gpu in (
        _gpu("h200", 989, 67, 141, 4800),
        _gpu("h100", 989, 67, 80, 3350),
        _gpu("a100", 312, 19.5, 80, 2039),
        _gpu("a10", 125, 31.2, 24, 600),
        _gpu("rtx4090", 165.2, 82.6, 24, 1008),
    )
}
