"""Every law there is, in the order in which they are told: what breaks everything first, behaviour last."""

from __future__ import annotations

from picolab.diagnose.laws.attention_rows import AttentionRows, TokenZero
from picolab.diagnose.laws.batch import Batch
from picolab.diagnose.laws.cache import Cache
from picolab.diagnose.laws.causality import Causality
from picolab.diagnose.laws.collapse import PromptInsensitivity, Repetition
from picolab.diagnose.laws.config_ledger import ConfigLedger
from picolab.diagnose.laws.data_hygiene import DataHygiene
from picolab.diagnose.laws.device import Device
from picolab.diagnose.laws.dtype_ladder import DtypeLadder
from picolab.diagnose.laws.finite import Finite
from picolab.diagnose.laws.gradient_norm import GradientNorm
from picolab.diagnose.laws.initial_loss import InitialLoss
from picolab.diagnose.laws.isolation import DocumentIsolation
from picolab.diagnose.laws.law import Law
from picolab.diagnose.laws.learning_rate import LearningRate
from picolab.diagnose.laws.load_ledger import LoadLedger
from picolab.diagnose.laws.loss_accounting import LossAccounting
from picolab.diagnose.laws.loss_curve import LossCurve, Unigram
from picolab.diagnose.laws.loss_shape import LossByPosition
from picolab.diagnose.laws.norms import Norms
from picolab.diagnose.laws.offset_probe import OffsetProbe
from picolab.diagnose.laws.optimizer import OptimizerLedger
from picolab.diagnose.laws.overfit import Overfit
from picolab.diagnose.laws.overfitting import Overfitting
from picolab.diagnose.laws.poison import Poison
from picolab.diagnose.laws.positions import Positions
from picolab.diagnose.laws.preference_curve import PreferenceCurve
from picolab.diagnose.laws.prefix import Prefix
from picolab.diagnose.laws.quantised_weights import Quantisation
from picolab.diagnose.laws.repeat import Repeatable
from picolab.diagnose.laws.sampler import SamplerLaw
from picolab.diagnose.laws.sampler_settings import SamplerSettings
from picolab.diagnose.laws.score_scale import ScoreScale
from picolab.diagnose.laws.strides import Strides
from picolab.diagnose.laws.symmetry import Symmetry
from picolab.diagnose.laws.template import Template
from picolab.diagnose.laws.tokenizer import TokenizerLaw
from picolab.diagnose.laws.two_seeds import TwoSeeds
from picolab.diagnose.laws.uniform_attention import UniformAttention
from picolab.diagnose.laws.wiring import Wiring

LAWS: tuple[Law, ...] = tuple(
    sorted(
        (
            Finite(),
            Repeatable(),
            Causality(),
            Prefix(),
            Batch(),
            Positions(),
            Cache(),
            AttentionRows(),
            TokenZero(),
            InitialLoss(),
            OffsetProbe(),
            LossByPosition(),
            Repetition(),
            PromptInsensitivity(),
            ConfigLedger(),
            Device(),
            DtypeLadder(),
            LoadLedger(),
            Norms(),
            Overfit(),
            Poison(),
            Quantisation(),
            ScoreScale(),
            Strides(),
            Symmetry(),
            TwoSeeds(),
            Wiring(),
            UniformAttention(),
            DataHygiene(),
            GradientNorm(),
            DocumentIsolation(),
            LearningRate(),
            LossAccounting(),
            LossCurve(),
            Unigram(),
            OptimizerLedger(),
            Overfitting(),
            PreferenceCurve(),
            SamplerLaw(),
            SamplerSettings(),
            Template(),
            TokenizerLaw(),
        ),
        key=lambda law: law.order,
    )
)
"""One line a law."""
