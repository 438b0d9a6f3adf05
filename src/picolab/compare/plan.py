"""What exactly is compared? One plan for all models: the same data, rows, budget and seeds; nothing differs but the model.

    models, data, tokens, seeds, overrides -> Plan -> Settings of every run

The n-gram baseline joins every comparison. An override of an architecture's field (`d_model`) goes to the models that have it;
an arm's own field (arms.py) wins over it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from picolab.compare.arms import Arm, arm_of, folder_of
from picolab.compare.sequences import numeric_data
from picolab.errors import BadCheckpoint, BadInput, BadSetting, UnknownName
from picolab.runs import atomic, names
from picolab.runs.settings import Settings, known_settings, resolve
from picolab.zoo import ARCHITECTURES, PRESETS, check_settings

BASELINE = "ngram"
PLAN, RUNS = "plan.json", "runs"
EVALUATIONS = 16
"""Points of a held-out curve, about, where nobody asked for more or fewer. All together they read half as many batches as training
does, which costs a sixth of it; the figures of the table are measured on the whole split."""
STEPS = 400
"""Steps that a small budget is cut into where nobody set `batch_size`: a hundred large steps teach a small model less than four
hundred small ones."""
NUMERIC_SHARES = {"validation": 0.1, "test": 0.1}
"""Integer sequences are held out by rule, and the smallest family has 42: a twentieth of them would be two."""
OURS = {
    "model.preset": "list the models", "data.spec": "say --data", "training.tokens": "say --tokens",
    "training.steps": "say --tokens: a budget in steps would not be the same for all", "seed": "say --seeds", "out": "say --out",
    "name": "runs are named after their model and seed",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What makes two comparisons the same one; `models` and `seeds` may grow when it is taken up again.

    `arms` says what those models are that are no presets, by name (arms.py).
    """

    models: tuple[str, ...]
    data: str
    tokens: int
    seeds: tuple[int, ...]
    overrides: Mapping[str, str]
    prompt: str | None
    new_tokens: int
    arms: Mapping[str, str] = field(default_factory=dict)

    def arm(self, model: str) -> Arm:
        """The preset behind a name, and what it changes."""
        return arm_of(f"{model}={self.arms[model]}" if self.arms.get(model, model) != model else model)

    def settings(self, model: str, seed: int, folder: Path) -> Settings:
        """The settings of one run; every run of a plan has the same rows, budget and, for a seed, order of data."""
        arm = self.arm(model)
        mine = {name: value for name, value in self.overrides.items() if _concerns(name, arm.preset)}
        mine |= {f"model.{name}": value for name, value in arm.fields.items()}
        first = resolve(
            arm.preset, overrides={**mine, "data.spec": self.data, "training.tokens": self.tokens, "seed": seed}
        )
        rows = first.data.context_length or self.shortest_context()
        batch = first.training.batch_size
        if "training.batch_size" not in self.overrides:
            batch = min(batch, max(1, self.tokens // (STEPS * rows)))
        steps = math.ceil(self.tokens / (batch * rows))
        pace = {
            "batch_size": batch,
            "eval_every": max(1, steps // EVALUATIONS),
            "eval_batches": min(20, math.ceil(steps / (2 * EVALUATIONS))),
        }
        shares = NUMERIC_SHARES if numeric_data(self.data) else {}
        return first.changed(
            data={
                "context_length": rows,
                **{name: share for name, share in shares.items() if f"data.{name}" not in self.overrides},
            },
            training={name: value for name, value in pace.items() if f"training.{name}" not in self.overrides},
            name=run_name(model, seed),
            out=str(folder / RUNS / run_name(model, seed)),
        )

    def shortest_context(self) -> int:
        """As many tokens in a row as every model can read."""
        return min(int(config_of(self.arm(model), self.overrides).context_length) for model in self.models)


def plan_for(
    models: Sequence[str],
    *,
    data: str,
    tokens: int,
    seeds: int | Sequence[int],
    overrides: Mapping[str, Any],
    prompt: str | None,
    new_tokens: int,
) -> Plan:
    """The plan, refused before anything is computed if a name, a number or a combination is wrong."""
    arms = [arm_of(word) for word in models]
    chosen = [folder_of(arm.name) for arm in arms]
    twice = sorted({arm.name for arm in arms if chosen.count(folder_of(arm.name)) > 1})
    if twice:
        raise BadInput(f"`{twice[0]}` is listed twice", hint="seeds repeat a model: --seeds 3")
    if not chosen:
        raise BadInput("no model was given to compare", hint="for example: ngram kgram-embed lstm softmax-pico")
    if not any(is_baseline(arm.name) for arm in arms):
        arms.append(arm_of(BASELINE))
    presets = [arm.preset for arm in arms]
    if tokens < 1 or new_tokens < 1:
        raise BadSetting(
            f"tokens {tokens} and new_tokens {new_tokens} must both be positive", hint="200000 is a good start"
        )
    numbered = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not numbered or len(set(numbered)) < len(numbered):
        raise BadSetting(f"seeds {seeds} are not one or more different seeds", hint="--seeds 3 means 0, 1 and 2")
    known = known_settings()
    named = {names.full(name, known): str(value) for name, value in overrides.items()}
    for name in named:
        if name in OURS:
            raise BadSetting(f"`{name}` is set by the comparison itself", hint=OURS[name])
        if name.startswith("model.") and not any(_concerns(name, preset) for preset in presets):
            raise UnknownName(
                "setting of these models", name[6:], {field for preset in presets for field in _fields(preset)}
            )
    plan = Plan(
        models=tuple(arm.name for arm in arms),
        data=data,
        tokens=tokens,
        seeds=numbered,
        overrides=named,
        prompt=prompt,
        new_tokens=new_tokens,
        arms={arm.name: arm.spec for arm in arms if arm.name != arm.preset},
    )
    for arm in arms:
        config_of(arm, named)
        plan.settings(arm.name, numbered[0], Path())
    return plan


def is_baseline(model: str) -> bool:
    """Whether this is a preset that counts n-grams; an arm with settings of its own is no baseline."""
    return model in PRESETS and PRESETS[model].architecture == BASELINE


def run_name(model: str, seed: int) -> str:
    """What the run of a model and a seed is called."""
    return f"{folder_of(model)}_seed-{seed}"


def config_of(arm: Arm, overrides: Mapping[str, str]) -> Any:
    """The architecture's settings of an arm as the plan changes them; only the vocabulary is still open."""
    preset = PRESETS[arm.preset]
    changed = {
        name[6:]: names.scalar(value)
        for name, value in overrides.items()
        if name.startswith("model.") and _concerns(name, arm.preset)
    }
    changed |= {name: names.scalar(value) for name, value in arm.fields.items()}
    return ARCHITECTURES[preset.architecture].config(
        **check_settings(preset.architecture, {**preset.settings, **changed})
    )


def take_up(plan: Plan, folder: Path) -> Plan:
    """Write the plan into a new folder, or join it with the one that lies there if they are about the same thing."""
    path = folder / PLAN
    if path.exists():
        old = _read(path)
        for field in ("data", "tokens", "overrides", "prompt", "new_tokens"):
            before, now = getattr(old, field), getattr(plan, field)
            if before != now:
                raise BadInput(
                    f"`{folder}` holds a comparison with {field} `{before}`, not `{now}`",
                    hint="repeat that command to go on with it, or choose another --out",
                )
        plan = Plan(
            **{
                **{field.name: getattr(plan, field.name) for field in fields(plan)},
                "arms": {**old.arms, **plan.arms},
                "models": (*old.models, *(model for model in plan.models if model not in old.models)),
                "seeds": (*old.seeds, *(seed for seed in plan.seeds if seed not in old.seeds)),
            }
        )
        for name in old.arms.keys() & plan.arms.keys():
            if old.arms[name] != plan.arms[name]:
                raise BadInput(
                    f"`{folder}` knows `{name}` as {old.arms[name]}, not {plan.arms[name]}", hint="choose another name"
                )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"`{folder}` exists and holds no comparison", hint="choose a new or empty folder with --out")
    with atomic.reported(folder):
        folder.mkdir(parents=True, exist_ok=True)
    atomic.write_json(path, asdict(plan))
    return plan


def _read(path: Path) -> Plan:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Plan(**{**content, "models": tuple(content["models"]), "seeds": tuple(content["seeds"])})
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise BadCheckpoint(f"`{path}` is no plan of a comparison", hint="it is torn or was edited by hand") from error


def _concerns(name: str, preset: str) -> bool:
    return not name.startswith("model.") or name[6:] in _fields(preset)


def _fields(preset: str) -> set[str]:
    return {field.name for field in fields(ARCHITECTURES[PRESETS[preset].architecture].config)}
