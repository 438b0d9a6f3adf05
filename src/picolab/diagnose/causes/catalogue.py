"""Every cause there is, in the order in which equally good explanations are told: the simpler and the more usual first."""

from __future__ import annotations

from picolab.diagnose.causes.biases import BiasExtraCause, BiasMissingCause
from picolab.diagnose.causes.cache_stale import CacheStaleCause, CacheUnwrittenCause
from picolab.diagnose.causes.cause import Cause
from picolab.diagnose.causes.norm_eps import NormEpsCause
from picolab.diagnose.causes.norms import NormKindCause, NormMissingCause, NormOffsetCause, NormWeightCause
from picolab.diagnose.causes.rope_angles import (
    RopeMissingCause,
    RopeOffsetCause,
    RopePartialCause,
    RopeScalingCause,
    RopeThetaCause,
)
from picolab.diagnose.causes.rope_pairing import RopePairingCause
from picolab.diagnose.causes.scale_wrong import ScaleWrongCause
from picolab.diagnose.causes.weights import WeightPermutedCause, WeightSwappedCause, WeightTransposedCause

CATALOGUE: tuple[Cause, ...] = (
    RopePairingCause(),
    RopeMissingCause(),
    RopeThetaCause(),
    RopeScalingCause(),
    RopeOffsetCause(),
    RopePartialCause(),
    ScaleWrongCause(),
    NormEpsCause(),
    NormKindCause(),
    NormOffsetCause(),
    NormWeightCause(),
    NormMissingCause(),
    BiasMissingCause(),
    BiasExtraCause(),
    WeightTransposedCause(),
    WeightSwappedCause(),
    WeightPermutedCause(),
    CacheStaleCause(),
    CacheUnwrittenCause(),
)
"""One line a cause."""
