"""Is every setting used? `config-ledger` (I03).

    config, wrapped    the model is built again and run; every name that is read is written down
    never read         whatever it says changes nothing: a rope_theta that the code does not know, a cap nobody applies
    read, and idle     built again with another value and the same weights, every logit is bit for bit the same

A setting that is off (None, False, 0, 1, no dropout) may be left unread. A default taken in silence is the commonest cause of a
port that is a little wrong.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from picolab.diagnose.laws.law import Finding, Law, Patient, gap
from picolab.diagnose.modules import logits_of, no_copy

MATHEMATICS = re.compile(
    r"rope|theta|rotary|eps|epsilon|softcap|logit_cap|cap$|window|multiplier|scal(e|ing)|act(ivation)?(_fn|_function)?$|hidden_act"
    r"|n_?kv|key_value_heads|n_heads?$|num_attention_heads|head_dim|norm|tie|tied|sink|alibi|bias|partial|query_pre_attn|parallel"
    r"|layer_types|d_ff|intermediate|n_layers?$|num_hidden_layers|d_model|hidden_size|n_embd|^k$|^form$"
)
"""Names of settings that change what is computed."""

BOOKKEEPING = re.compile(
    r"init|dropout|pdrop|drop_|seed|std$|range$|token_id|dtype|cache|output_|return_|name|version|architectures|summary"
)
"""Names of those that do not."""

SAME = 1e-3
"""A model built again may sum in another order, and no more."""

SMALL = 4_000_000
"""Parameters of a model that is built several times to see what each setting does."""

Construct = Callable[[Any], nn.Module]


class ConfigLedger(Law):
    name = "config-ledger"
    id = "I03"
    says = "every setting that names a piece of mathematics is read, and changes something"
    hint = "a default taken in place of the setting, a second builder that does not pass it on, a key of another name"
    order = 3

    def check(self, patient: Patient) -> Finding:
        reason = no_copy(patient)
        if reason is not None:
            return self.skips(reason)
        assert patient.module is not None
        config = getattr(patient.module, "config", None)
        construct = _constructor(patient.module)
        if config is None or construct is None:
            return self.skips("it has no `config`, or its class is not made from one alone")
        values = _values(config)
        read: set[str] = set()
        tokens = patient.random(1, min(16, patient.context_length or 16), salt=101)
        try:
            module = construct(_wrapped(config, read))
            again = logits_of(patient, _filled(module, patient.module), tokens)
        except _Unwrappable:
            return self.skips(f"its config is a {type(config).__name__}, whose readers cannot be written down")
        if gap(logits_of(patient, patient.module, tokens), again) > SAME:
            return self.skips(
                "built from its `config` alone, with its weights, it gives other logits: more than that made it"
            )
        telling = [
            n for n, v in values.items() if MATHEMATICS.search(n) and not BOOKKEEPING.search(n) and not _off(n, v)
        ]
        unread = [name for name in telling if name not in read]
        if unread:
            also = f" (and {', '.join(f'`{n}`' for n in unread[1:4])})" if len(unread) > 1 else ""
            return self.fails(
                f"`{unread[0]}` is {_shown(values[unread[0]])} in its settings{also}, and nothing reads it",
                unread=unread,
            )
        idle = _idle(patient, construct, config, values, telling, tokens)
        if idle:
            return self.fails(
                f"`{idle[0]}` is read, and built with another value than {_shown(values[idle[0]])} the model gives the same logits "
                "bit for bit",
                idle=idle,
            )  # fmt: skip
        return self.passes(
            f"{len(telling)} settings that name mathematics are read: {', '.join(telling[:6])} ..", read=sorted(read)
        )


class _Unwrappable(Exception):
    """A config that cannot be watched."""


def _constructor(module: nn.Module) -> Construct | None:
    """How a module of this class is made from a config and nothing else."""
    try:
        parameters = list(inspect.signature(type(module).__init__).parameters.values())[1:]
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    wanted = [p for p in parameters if p.default is inspect.Parameter.empty and p.kind not in kinds]
    if len(wanted) != 1 or (
        "conf" not in wanted[0].name.lower() and wanted[0].name not in ("args", "params", "hparams", "cfg")
    ):
        return None

    def construct(config: Any) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            return type(module)(config)

    return construct


def _values(config: Any) -> dict[str, Any]:
    """The settings by name."""
    if isinstance(config, Mapping):
        return dict(config)
    if dataclasses.is_dataclass(config):
        return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return {n: v for n, v in vars(config).items() if not n.startswith("_")} if hasattr(config, "__dict__") else {}


def _wrapped(config: Any, read: set[str]) -> Any:
    """The same config, which writes down what is read of it."""
    kind: Any = type(config)
    if isinstance(config, dict):

        class Watched(dict):  # type: ignore[type-arg]
            def __getitem__(self, name: Any) -> Any:
                read.add(name)
                return super().__getitem__(name)

            def get(self, name: Any, default: Any = None) -> Any:
                read.add(name)
                return super().get(name, default)

        return Watched(config)

    def look(self: Any, name: str) -> Any:
        read.add(name)
        return kind.__getattribute__(self, name)

    try:
        watched = type(
            kind.__name__, (kind,), {"__getattribute__": look, "__slots__": (), "__module__": kind.__module__}
        )
        made = copy.copy(config)
        object.__setattr__(made, "__class__", watched)
    except (TypeError, AttributeError) as error:
        raise _Unwrappable from error
    read.clear()
    return made


def _filled(module: nn.Module, original: nn.Module) -> nn.Module:
    """A module that was built again, with the weights of the original."""
    module.load_state_dict(original.state_dict(), strict=False)
    return module.eval()


def _off(name: str, value: Any) -> bool:
    """Whether a setting says that something is not there, or is as it always is."""
    if value is None or value is False or (isinstance(value, str) and not value):
        return True
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value == 0 or (value == 1 and any(w in name for w in ("scal", "multiplier", "partial", "factor")))
    return isinstance(value, dict | list | tuple) and not value


def _idle(
    patient: Patient, construct: Construct, config: Any, values: Mapping[str, Any], telling: list[str], tokens: Tensor
) -> list[str]:
    """Settings that can be given another value without any logit noticing."""
    assert patient.module is not None
    if sum(p.numel() for p in patient.module.parameters()) > SMALL:
        return []
    wanted, weights = logits_of(patient, patient.module, tokens), patient.module.state_dict()

    def unnoticed(name: str, other: Any) -> bool:
        changed = copy.copy(config)
        if isinstance(changed, dict):
            changed[name] = other
        else:
            object.__setattr__(changed, name, other)
        try:
            module = construct(changed)
            module.load_state_dict(weights)
            return torch.equal(logits_of(patient, module.eval(), tokens), wanted)
        except Exception:  # noqa: BLE001  whatever it raises: the setting was noticed
            return False

    others = {name: _others(name, values[name], tokens.shape[1]) for name in telling}
    return [name for name, some in others.items() if some and all(unnoticed(name, other) for other in some)]


def _others(name: str, value: Any, time: int) -> list[Any]:
    """Other values whose effect must show in logits; empty where none is sure to."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return []
    if re.search(r"theta|freq_base|rotary.*base|rope_base", name):
        return [value * 1.7, 2.0]  # a head that is sure of its place bears a small change
    if re.search(r"eps|epsilon", name):
        return [max(value * 1e3, 1e-2)]
    if re.search(r"softcap|logit_cap", name):
        return [value / 3]
    if "window" in name and value < time:
        return [value + 2 if value + 2 < time else max(value - 2, 1)]
    if re.search(r"multiplier|query_pre_attn", name):
        return [value * 1.7]
    return []


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 40 else text[:37] + ".."
