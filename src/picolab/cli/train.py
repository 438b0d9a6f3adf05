"""`picolab train`: one run, from settings to a checkpoint, with what it takes said before it begins."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from picolab.cli import console
from picolab.cli.flags import COMMON, Gpt2Dir, Json, Out, Set, data_of, settings_given, use_gpt2_dir


def train(
    *,
    model: Annotated[
        str | None, Parameter(help="Preset; `picolab ls presets` lists them. [default: softmax-pico]")
    ] = None,
    data: Annotated[
        str | None, Parameter(help="Corpus, file, folder, or blend a=0.75,b=0.25. [default: stories]")
    ] = None,
    steps: Annotated[int | None, Parameter(help="Optimizer steps. [default: 1000]")] = None,
    tokens: Annotated[int | None, Parameter(help="Budget in scored tokens, instead of steps.")] = None,
    batch_size: Annotated[int | None, Parameter(help="Rows in a step. [default: 8]")] = None,
    context_length: Annotated[int | None, Parameter(help="Tokens in a row. [default: the model's]")] = None,
    lr: Annotated[float | None, Parameter(help="Highest learning rate. [default: 0.001]")] = None,
    tokenizer: Annotated[str | None, Parameter(help="bytes, characters, integers, bpe-2048, gpt2 or a file.")] = None,
    compact_vocab: Annotated[bool | None, Parameter(help="Keep only the tokens that the corpus uses.")] = None,
    input_dir: Annotated[Path | None, Parameter(help="Folder of *.txt files to learn from.")] = None,
    limit_examples: Annotated[int | None, Parameter(help="Use only the first so many documents.")] = None,
    gpt2_dir: Gpt2Dir = None,
    compile: Annotated[bool | None, Parameter(help="Pass the step through torch.compile.")] = None,
    track: Annotated[
        Literal["none", "tensorboard"] | None, Parameter(help="Event files for TensorBoard, in the run's folder.")
    ] = None,
    config: Annotated[Path | None, Parameter(help="YAML file of settings; flags win over it.")] = None,
    resume: Annotated[str | None, Parameter(help="Go on with a run: its folder, its name, or `last`.")] = None,
    name: Annotated[str | None, Parameter(help="The run's name. [default: model and data]")] = None,
    set_: Set = None,
    seed: Annotated[int | None, Parameter(group=COMMON, help="Decides everything random. [default: 0]")] = None,
    out: Annotated[Out, Parameter(help="The run's folder. [default: runs/<date>_<name>]")] = None,
    as_json: Json = False,
) -> int:
    """Train one model and leave a run on disk.

    Before the first step it says how long the run takes and how much memory,
    from measured steps. Ctrl-C saves and says how to go on. The run's folder holds
    settings, metrics, samples and checkpoints.
    """
    from picolab.runs.folder import Run, find_run
    from picolab.runs.settings import resolve

    use_gpt2_dir(gpt2_dir)
    given = settings_given(
        set_, steps=steps, tokens=tokens, batch_size=batch_size, context_length=context_length, lr=lr, tokenizer=tokenizer,
        compact_vocab=compact_vocab, input_dir=input_dir, limit_examples=limit_examples, compile=compile, track=track, name=name,
        seed=seed, out=out, data=data_of(data, input_dir) if data or input_dir else None,
    )  # fmt: skip
    earlier: Run | None = None
    if resume is not None:
        earlier = find_run(resume)
        config = config or earlier.path / "settings.yaml"
    if config is not None and model is not None:  # a flag wins over the file, and the file over a preset
        given["model"] = model
    settings = resolve(preset=model if config is None else None, config_file=config, overrides=given)
    return run_training(settings, resume=earlier, as_json=as_json)


def run_training(settings: Any, *, resume: Any, as_json: bool) -> int:
    """Train with a display, then tell the result."""
    if settings.dpo.base is not None:
        from picolab.cli.dpo import run_preference_training

        return run_preference_training(settings, resume=resume, as_json=as_json)
    from picolab.cli.progress import Display
    from picolab.train.loop import train

    first_process = os.environ.get("RANK", "0") == "0"
    with Display(console.progress()) as display:
        run = train(settings, report=display, resume=resume)
    if not first_process:
        return 0
    result = outcome(run, display)
    if as_json:
        console.emit(result)
    else:
        tell(result)
    return 130 if result["reason"] == "interrupted" else 0


def outcome(run: Any, display: Any) -> dict[str, Any]:
    """What came out, as data: read from the run on disk, so that it says what anyone can read later."""
    rows, samples, stopped = run.metrics(), run.samples, display.stopped
    evaluated = [row for row in rows if row.get("val/loss") is not None]
    best: dict[str, Any] = min(evaluated, key=lambda row: row["val/loss"], default={})
    last_evaluated = evaluated[-1] if evaluated else {}
    return {
        "run": run.path,
        "reason": stopped.reason,
        "says": stopped.says,
        "next": commands_after(run, stopped.go_on, samples[-1]["prompt"] if samples else ""),
        "step": stopped.step,
        "seconds": stopped.seconds,
        "tokens": rows[-1]["tokens"] if rows else 0,
        "train/loss": next((row["train/loss"] for row in reversed(rows) if "train/loss" in row), None),
        "val/loss": last_evaluated.get("val/loss"),
        "val/bits_per_byte": last_evaluated.get("val/bits_per_byte"),
        "best": {"step": best.get("step"), "val/loss": best.get("val/loss")},
        "parameters": None if display.started is None else display.started.parameters,
        "sample": samples[-1] if samples else None,
    }


def commands_after(run: Any, go_on: str | None, prompt: str) -> list[str]:
    """What to do with a run that is over or paused."""
    first, start = [] if go_on is None else [go_on], " ".join(prompt.split()[:4])
    others = [preset for preset in ("ngram", "kgram-embed", "lstm") if preset != run.settings.model.preset]
    return [
        *first,
        f"picolab generate --model {run.path}" + (f" --prompt {shlex.quote(start)}" if start else ""),
        f"picolab compare {others[-1]} {run.settings.model.preset} --data {shlex.quote(run.settings.data.spec)}",
        f"picolab report {run.path}",
    ]


def tell(result: dict[str, Any]) -> None:
    """The result for a person: losses with unit and direction, a sample, where it lies, what to do next."""
    out = console.results(as_json=False)

    def say(line: Any = "") -> None:
        out.print(line, soft_wrap=True)

    say(f"{result['reason']}: {result['says']} ({console.duration(result['seconds'])}, {result['tokens']:,} tokens)")
    if result["train/loss"] is not None:  # a model that counts has none
        say(f"training loss    {console.number(result['train/loss'])} nats a token (lower is better)")
    bits = result["val/bits_per_byte"]
    also = "" if bits is None else f", {bits:.3f} bits a byte"
    say(f"validation loss  {console.number(result['val/loss'])} nats a token{also} (lower is better)")
    if result["sample"] is not None:
        say("\nsample")
        say(console.quoted(result["sample"]["prompt"] + result["sample"]["text"]))
    say(f"\nrun  {result['run']}")
    say("next")
    for command in result["next"]:
        say(f"  {command}")
    sys.stdout.flush()
