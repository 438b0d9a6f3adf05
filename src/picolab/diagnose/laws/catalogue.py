"""Every law there is, in the order in which they are told: what breaks everything first, behaviour last."""

from __future__ import annotations

from picolab.diagnose.laws.attention_rows import AttentionRows, TokenZero
from picolab.diagnose.laws.batch import Batch
from picolab.diagnose.laws.cache import Cache
from picolab.diagnose.laws.causality import Causality
from picolab.diagnose.laws.collapse import PromptInsensitivity, Repetition
from picolab.diagnose.laws.finite import Finite
from picolab.diagnose.laws.initial_loss import InitialLoss
from picolab.diagnose.laws.law import Law
from picolab.diagnose.laws.loss_shape import LossByPosition
from picolab.diagnose.laws.offset_probe import OffsetProbe
from picolab.diagnose.laws.positions import Positions
from picolab.diagnose.laws.prefix import Prefix
from picolab.diagnose.laws.repeat import Repeatable
from picolab.diagnose.laws.uniform_attention import UniformAttention

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
            UniformAttention(),
        ),
        key=lambda law: law.order,
    )
)
"""One line a law."""
