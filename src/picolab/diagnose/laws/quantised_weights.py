"""What rounding to few bits takes away is at most half a step: `quantisation` (I25).

    codes      -8 .. 7 and a scale for each group     element error <= scale / 2
    groups     of zeros, of one number, with one huge number: a scale of 0 or of infinity makes them NaN

Somebody's own packing (`quantise(matrix) -> matrix`, packed and unpacked again) is asked with matrices whose groups have one
scale, so that its steps show: another order of nibbles, a zero point, a neighbour's scale move numbers by more than half a step.
Otherwise the model's own matrices are rounded to int8, as `--dtype int8` does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.diagnose.modules import parameters_of
from picolab.parts.quantised import Quantised, quantise, to_float

ROWS, LANES, GROUP = 4, 512, 16

COARSE = 0.1
"""Of a row's own size: what rounding to int8 may take away before it is worth telling."""


class Quantisation(Law):
    name = "quantisation"
    id = "I25"
    says = "packing and unpacking a matrix moves no number by more than half a step"
    hint = "the order of nibbles, the zero point, the axis of the groups, the scale of a neighbouring group, a scale of zero"
    order = 34

    def check(self, patient: Patient) -> Finding:
        if patient.quantise is not None:
            return self._packing(patient)
        module = patient.module
        if module is None:
            return self.skips("it has no weights and no `quantise` of its own")
        codes = {n: p for n, p in module.named_parameters() if isinstance(p, Quantised)}
        for name, held in codes.items():
            if not bool(to_float(held).isfinite().all()):
                return self.fails(
                    f"`{name}`, kept as {held.kind}, holds numbers that are not finite: a scale of its groups is none"
                )
        if codes:
            return self.passes(f"{len(codes)} matrices kept as codes: every number of them is finite")
        matrices = {n: w.float() for n, w in parameters_of(module).items() if w.ndim == 2 and w.numel() <= 2**24}
        if not matrices:
            return self.skips("it has no matrices")
        return self._rounded(matrices)

    def _packing(self, patient: Patient) -> Finding:
        assert patient.quantise is not None
        matrix = _matrix()
        made = patient.quantise(matrix.clone())
        if made.shape != matrix.shape or not bool(made.isfinite().all()):
            return self.fails(f"a matrix {tuple(matrix.shape)} comes back as {tuple(made.shape)}, or not finite")
        levels = int(made.flatten().unique().numel())
        off = (made - matrix).abs()
        step = 2.0 / max(min(levels, 256) - 1, 1)
        worst = float(off.max())
        if worst > 0.75 * step + 1e-3:
            at = [int(i) for i in (off == off.max()).nonzero()[0]]
            return self.fails(
                f"its {levels} levels are {step:.3g} apart, and the number at {at} comes back {worst:.3g} off: "
                f"{_word(matrix, made, step)}",
                levels=levels, worst=worst, at=at,
            )  # fmt: skip
        for name, odd in {"zeros": torch.zeros(ROWS, LANES), "one number": torch.full((ROWS, LANES), 0.7)}.items():
            again = patient.quantise(odd.clone())
            if not bool(again.isfinite().all()) or float((again - odd).abs().max()) > 0.1:
                return self.fails(f"a matrix of {name} comes back {float((again - odd).abs().max()):.3g} off")
        return self.passes(
            f"{levels} levels, no number moved by more than {worst:.3g}, half a step is {step / 2:.3g}", levels=levels
        )

    def _rounded(self, matrices: dict[str, Tensor]) -> Finding:
        rough: list[tuple[float, str]] = []
        for name, weight in matrices.items():
            held = quantise(weight)
            made = to_float(held)
            scale = weight.abs().amax(1, keepdim=True) / 127
            excess = float(((made - weight).abs() - 0.5001 * scale).max())
            if not bool(made.isfinite().all()) or excess > 1e-6 * float(weight.abs().max()):
                return self.fails(f"`{name}` rounded to int8 is further off than half a step")
            rough.append((float((made - weight).norm() / weight.norm().clamp(min=1e-12)), name))
        worst, name = max(rough)
        tells = f"; `{name}` has rows that one number dominates" if worst > COARSE else ""
        return self.passes(
            f"{len(matrices)} matrices round to int8 within half a step, at most {worst:.2g} of their size{tells}"
        )


def _matrix() -> Tensor:
    """Numbers over [-1, 1], with both ends in every group of 16: every group has one scale."""
    generator = torch.Generator().manual_seed(5)
    matrix = torch.rand(ROWS, LANES, generator=generator) * 2 - 1
    matrix.view(ROWS, -1, GROUP)[..., 3], matrix.view(ROWS, -1, GROUP)[..., 10] = 1.0, -1.0
    return matrix


def _word(matrix: Tensor, made: Tensor, step: float) -> str:
    """What kind of mistake it is, if it is a simple one."""
    pairs = made.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    if float((pairs - matrix).abs().max()) < 0.75 * step + 1e-3:
        return "neighbours are exchanged, as with nibbles in the other order"
    moved = float((made - matrix).median())
    if float((made - matrix - moved).abs().max()) < 0.8 * step + 1e-3:
        return f"every number is {moved:+.3g} off, as with another zero point"
    return "no simple order or zero point explains it"
