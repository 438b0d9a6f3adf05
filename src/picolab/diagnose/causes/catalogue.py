"""Every cause there is, in the order in which equally good explanations are told: the simpler and the more usual first."""

from __future__ import annotations

from picolab.diagnose.causes.biases import BiasExtraCause, BiasMissingCause
from picolab.diagnose.causes.cache_more import CacheLayerCause, CacheLayoutCause, CacheOffsetCause
from picolab.diagnose.causes.cache_stale import CacheStaleCause, CacheUnwrittenCause
from picolab.diagnose.causes.cause import Cause
from picolab.diagnose.causes.embedding import (
    EmbedNormMissingCause,
    EmbedScaleCause,
    PositionMissingCause,
    PositionOffsetCause,
)
from picolab.diagnose.causes.head import LogitScaleCause, SoftcapCause, TiedHeadCause
from picolab.diagnose.causes.heads import HeadGroupingCause, HeadOrderCause, QkvSplitCause, RopeOnVCause
from picolab.diagnose.causes.masks import MaskInvertedCause, MaskMissingCause, MaskOffsetCause, MaskWindowCause
from picolab.diagnose.causes.mlp import ActivationCause, GateUpSwappedCause, MlpLayoutCause
from picolab.diagnose.causes.nonfinite import NonFiniteCause
from picolab.diagnose.causes.norm_eps import NormEpsCause
from picolab.diagnose.causes.norms import NormKindCause, NormMissingCause, NormOffsetCause, NormWeightCause
from picolab.diagnose.causes.quant import QuantUnpackCause
from picolab.diagnose.causes.residual import (
    NormPlaceCause,
    ResidualMissingCause,
    ResidualScaleCause,
    ResidualTwiceCause,
)
from picolab.diagnose.causes.rope_angles import (
    RopeMissingCause,
    RopeOffsetCause,
    RopePartialCause,
    RopeScalingCause,
    RopeThetaCause,
)
from picolab.diagnose.causes.rope_pairing import RopePairingCause
from picolab.diagnose.causes.scale_wrong import ScaleWrongCause
from picolab.diagnose.causes.softmax import SinkMissingCause, SoftmaxAxisCause, SoftmaxBaseCause, SoftmaxMissingCause
from picolab.diagnose.causes.token_ids import TokenIdsCause
from picolab.diagnose.causes.weights import WeightPermutedCause, WeightSwappedCause, WeightTransposedCause
from picolab.diagnose.causes.weights_lost import WeightScaledCause, WeightUnloadedCause

CATALOGUE: tuple[Cause, ...] = (
    NonFiniteCause(),
    TokenIdsCause(),
    TiedHeadCause(),
    EmbedNormMissingCause(),
    PositionMissingCause(),
    PositionOffsetCause(),
    RopePairingCause(),
    RopeMissingCause(),
    RopeThetaCause(),
    RopeOffsetCause(),
    RopePartialCause(),
    RopeScalingCause(),
    RopeOnVCause(),
    HeadGroupingCause(),
    QkvSplitCause(),
    MaskMissingCause(),
    MaskInvertedCause(),
    SoftmaxMissingCause(),
    SoftmaxAxisCause(),
    SoftmaxBaseCause(),
    SinkMissingCause(),
    CacheOffsetCause(),
    MaskOffsetCause(),
    MaskWindowCause(),
    CacheLayoutCause(),
    CacheLayerCause(),
    HeadOrderCause(),
    GateUpSwappedCause(),
    MlpLayoutCause(),
    ActivationCause(),
    ResidualMissingCause(),
    ResidualTwiceCause(),
    NormPlaceCause(),
    SoftcapCause(),
    ScaleWrongCause(),
    NormEpsCause(),
    NormKindCause(),
    NormOffsetCause(),
    NormWeightCause(),
    NormMissingCause(),
    BiasMissingCause(),
    BiasExtraCause(),
    EmbedScaleCause(),
    LogitScaleCause(),
    ResidualScaleCause(),
    WeightUnloadedCause(),
    WeightScaledCause(),
    WeightTransposedCause(),
    WeightSwappedCause(),
    WeightPermutedCause(),
    QuantUnpackCause(),
    CacheStaleCause(),
    CacheUnwrittenCause(),
)
"""One line a cause."""
