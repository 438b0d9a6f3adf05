"""`picolab dpo`: teach a model which of two responses is better, and say what that cost."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from picolab.cli import console
from picolab.cli.flags import COMMON, Gpt2Dir, Json, Out, Set, settings_given, use_gpt2_dir
from picolab.errors import BadInput

BASE_STEPS = 1500


def dpo(
    *,
    model: Annotated[
        str | None,
        Parameter(help="Run or checkpoint to begin with, or a preset to train first. [default: softmax-pico]"),
    ] = None,
    data: Annotated[
        str | None, Parameter(help="stories, numeric, any corpus, or FILE.jsonl of pairs. [default: stories]")
    ] = None,
    base_steps: Annotated[
        int | None, Parameter(help="Steps of a preset's own training before. [default: 1500]")
    ] = None,
    reference: Annotated[
        str | None, Parameter(help="Frozen model that rewards are measured against. [default: the base]")
    ] = None,
    steps: Annotated[int | None, Parameter(help="Steps of preference training. [default: 300]")] = None,
    batch_size: Annotated[int | None, Parameter(help="Pairs in a step. [default: 16]")] = None,
    lr: Annotated[float | None, Parameter(help="Highest learning rate. [default: 0.0002]")] = None,
    beta: Annotated[float | None, Parameter(help="Strength of the tie to the reference. [default: 0.1]")] = None,
    variant: Annotated[str | None, Parameter(help="dpo or ipo. [default: dpo]")] = None,
    label_smoothing: Annotated[float | None, Parameter(help="Share of pairs taken to be wrong. [default: 0]")] = None,
    per_token: Annotated[bool | None, Parameter(help="Compare log ratios a token, not a response.")] = None,
    imitation: Annotated[
        float | None, Parameter(help="Weight of the chosen responses' own loss. [default: 1.5]")
    ] = None,
    kinds: Annotated[str | None, Parameter(help="Ways to make worse sides: shuffled,loop. [default: all]")] = None,
    pairs: Annotated[int | None, Parameter(help="Pairs made of a corpus. [default: 3200]")] = None,
    limit_examples: Annotated[int | None, Parameter(help="Use only the first so many documents or lines.")] = None,
    tokenizer: Annotated[str | None, Parameter(help="Tokenizer of a base that is trained first.")] = None,
    gpt2_dir: Gpt2Dir = None,
    resume: Annotated[str | None, Parameter(help="Go on with a run: its folder, its name, or `last`.")] = None,
    name: Annotated[str | None, Parameter(help="The run's name. [default: dpo, model and data]")] = None,
    set_: Set = None,
    seed: Annotated[int | None, Parameter(group=COMMON, help="Decides everything random. [default: 0]")] = None,
    out: Annotated[Out, Parameter(help="The run's folder. [default: runs/<date>_<name>]")] = None,
    as_json: Json = False,
) -> int:
    """Teach a model which of two responses is better.

    Pairs are made of a corpus, whose texts are spoiled in several ways, or read
    from a file. At the end: how often held-out pairs are told apart, by kind, what
    the model writes, and what it lost on plain text. Ctrl-C saves and says how to
    go on.
    """
    from picolab.cli.train import run_training
    from picolab.runs import names
    from picolab.runs.folder import find_run
    from picolab.runs.settings import known_settings, resolve
    from picolab.zoo import PRESETS

    use_gpt2_dir(gpt2_dir)
    given = settings_given(
        set_, data=data, steps=steps, batch_size=batch_size, lr=lr, reference=reference, beta=beta, variant=variant,
        label_smoothing=label_smoothing, per_token=per_token, imitation=imitation, kinds=kinds, pairs=pairs,
        limit_examples=limit_examples, name=name, seed=seed, out=out,
    )  # fmt: skip
    if resume is not None:
        run = find_run(resume)
        settings = resolve(config_file=run.path / "settings.yaml", overrides=given)
        if settings.dpo.base is None:
            raise BadInput(f"`{run.path}` is no preference training", hint=f"picolab train --resume {run.path}")
        return run_training(settings, resume=run, as_json=as_json)
    known = known_settings()
    asked = {names.full(setting, known): value for setting, value in given.items()}
    base = model or "softmax-pico"
    if base in PRESETS:
        steps_before = BASE_STEPS if base_steps is None else base_steps
        base, ended = _trained_base(base, steps_before, asked, tokenizer or "auto", out)
        if ended == "interrupted":
            _say_how_to_go_on(base)
            return 130
        asked = {setting: value for setting, value in asked.items() if not setting.startswith("model.")}
    else:
        _refuse_for_trained(base, {"--base-steps": base_steps, "--tokenizer": tokenizer}, asked)
    return run_training(_settings(base, asked), resume=None, as_json=as_json)


def _refuse_for_trained(base: str, flags: dict[str, Any], asked: dict[str, str]) -> None:
    """What only a model that is still to be trained can be asked."""
    fields = {f"--{name}": value for name, value in asked.items() if name.startswith("model.")}
    for flag, value in {**flags, **fields}.items():
        if value is not None:
            raise BadInput(f"`{flag}` {value} is for a preset, and `{base}` is trained already", hint="leave it out")


def run_preference_training(settings: Any, *, resume: Any, as_json: bool) -> int:
    """Train with a display, then tell what has changed."""
    import os

    from picolab.cli.dpo_show import PreferenceDisplay, tell
    from picolab.report.run import run_report
    from picolab.runs.preference import changes_of
    from picolab.train.dpo import objective_of, task_of
    from picolab.train.dpo_remarks import Remarks
    from picolab.train.loop import train

    remarks = Remarks(at_start=objective_of(settings).at_start, imitation=settings.dpo.imitation)
    with PreferenceDisplay(console.progress(), remarks) as display:
        run = train(settings, report=display, resume=resume, task_of=task_of)
    if os.environ.get("RANK", "0") != "0":
        return 0
    changes, stopped = changes_of(run), display.stopped
    go_on = [] if stopped.go_on is None else [f"picolab dpo --resume {run.path}"]
    prompt = shlex.quote(" ".join(changes.samples[-1]["prompt"].split()[:4])) if changes and changes.samples else "''"
    result = {
        "run": run.path,
        "base": settings.dpo.base,
        "reason": stopped.reason,
        "says": stopped.says,
        "step": stopped.step,
        "seconds": stopped.seconds,
        "changes": changes,
        "cost": None if changes is None else changes.cost,
        "report": run_report(run) if stopped.reason != "interrupted" else None,
        "next": [*go_on, f"picolab generate --model {run.path} --prompt {prompt}", f"picolab report {run.path}"],
    }
    if as_json:
        console.emit(result)
    else:
        tell(result, changes)
    return 130 if stopped.reason == "interrupted" else 0


def _settings(base: str, asked: dict[str, str]) -> Any:
    """The settings of the preference training: what was asked over what suits it."""
    from picolab.runs.settings import resolve

    length = {} if "training.tokens" in asked else {"training.steps": "300"}
    usual = {**USUAL, **length, "dpo.base": base, "model.preset": _label(base)}
    settings = resolve(overrides={**usual, **asked})
    steps = settings.training.steps
    if "training.eval_every" not in asked and steps is not None:
        settings = settings.changed(training={"eval_every": max(1, steps // 5)})
    if "training.sample_every" not in asked:  # before the first step, and at the end
        settings = settings.changed(training={"sample_every": steps or 10**9})
    if settings.training.eval_every == 0:
        raise BadInput("`training.eval_every` 0 leaves nothing to compare with", hint="a number of steps above 0")
    return settings.changed(name=settings.name or f"dpo_{settings.model.preset}_{Path(settings.data.spec).stem}")


def _label(base: str) -> str:
    """What the model is called: its run's preset, else the name of its folder."""
    from picolab.runs.folder import find_run

    try:
        return find_run(base).settings.model.preset
    except BadInput:  # a checkpoint of somebody else's: opening it says what is wrong with it, if anything
        return Path(base).stem


def _trained_base(preset: str, steps: int, asked: dict[str, str], tokenizer: str, out: Path | None) -> tuple[str, str]:
    """Train a preset on the texts behind the pairs; its run, and how that ended. What the pairs refuse is refused before."""
    from picolab.cli.progress import Display
    from picolab.runs.settings import resolve
    from picolab.train.dpo import check
    from picolab.train.loop import train

    wanted = _settings(preset, asked)
    corpus = check(wanted, tokenizer=tokenizer)
    shared = {name: value for name, value in asked.items() if name.split(".")[0] in ("model", "data") or name in SHARED}
    if corpus != wanted.data.spec:  # so many lines of a file of pairs, but all of their texts
        shared.pop("data.limit_examples", None)
    mine = {
        "data.spec": corpus, "data.tokenizer": tokenizer, "training.steps": str(steps), "seed": str(wanted.seed),
        "name": f"base_{preset}_{Path(wanted.data.spec).stem}", **({} if out is None else {"out": f"{out}-base"}),
    }  # fmt: skip
    settings = resolve(preset=preset, overrides={**BASE, **shared, **mine})
    console.progress().print(f"first the base: {preset} learns {wanted.data.spec}", soft_wrap=True)
    with Display(console.progress()) as display:
        run = train(settings, report=display)
    return str(run.path), display.stopped.reason if display.stopped else "finished"


def _say_how_to_go_on(base: str) -> None:
    console.progress().print(
        f"the base is not finished: picolab train --resume {base}\nthen           picolab dpo --model {base}",
        soft_wrap=True,
    )


USUAL = {
    "training.batch_size": "16",
    "training.dtype": "float32",
    "optimizer.lr": "2e-4",
    "optimizer.weight_decay": "0",
    "dpo.imitation": "1.5",
}
"""What suits preference training where nobody says otherwise; a log ratio is a small difference of large sums: no bfloat16."""

BASE = {"training.batch_size": "8", "optimizer.lr": "4e-3", "training.dtype": "float32"}
SHARED = ("training.device", "training.strategy")
"""Settings of the preference training that hold for its base as well, beside those of model and data."""
