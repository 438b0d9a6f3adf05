"""What a training says while it runs."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from picolab.cli.progress import Display
from picolab.train.events import Estimate, Evaluated, Sampled, Saved, Started, Step, Stopped

ESTIMATE = Estimate(
    measured_steps=3, step_seconds=0.2, seconds=200, seconds_low=180, seconds_high=240, memory_bytes=1_070_000_000,
    checkpoint_bytes=82_000_000,
)  # fmt: skip


def started(**more):
    facts = {
        "run": Path("runs/x"), "preset": "softmax-pico", "parameters": 6_861_440, "trainable": 6_861_440,
        "vocab_size": 50257, "device": "cpu", "processes": 1, "dtype": "float32", "dtype_reason": "this CPU has no bfloat16",
        "step": 0, "steps": 1000, "tokens_planned": 2_000_000, "resumed": False, "estimate": ESTIMATE,
    }  # fmt: skip
    return Started(**{**facts, **more})


def step(number, seconds):
    return Step(
        step=number, steps=1000, tokens=number * 2000, loss=4.8123, lr=1e-3, grad_norm=1.0, seconds=seconds,
        tokens_per_second=3420.4, eta_seconds=125.0,
    )  # fmt: skip


def evaluated(number, **more):
    return Evaluated(
        **{"step": number, "loss": 4.655, "bits_per_byte": 1.912, "best": False, "without_improvement": 0, **more}
    )


def shown(*events, terminal=False, label=None):
    file = io.StringIO()
    console = Console(
        file=file, width=120, force_terminal=terminal, color_system=None, highlight=False, markup=False, emoji=False
    )
    with Display(console, label=label) as display:
        for event in events:
            display(event)
    return file.getvalue()


def test_before_it_begins_it_says_how_long_it_takes_and_how_much_memory():
    assert shown(started()).splitlines() == [
        "softmax-pico: 6,861,440 parameters, vocabulary 50,257; on cpu in float32 (this CPU has no bfloat16)",
        "1,000 steps, about 2,000,000 tokens; about 3 min 20 s (3 min 0 s to 4 min 0 s) and 1.1 GB of memory, "
        "measured over 3 steps; 82.0 MB of disk a checkpoint",
        "writing to runs/x",
    ]


def test_what_differs_from_the_usual_is_said():
    lines = shown(
        started(trainable=10, processes=2, resumed=True, step=400, notes=("the text is short",), estimate=None)
    )
    assert "(10 trainable)" in lines
    assert "on 2 processes on cpu" in lines
    assert "going on after step 400 of 1000\n600 steps, about 1,200,000 tokens" in lines
    assert "the text is short" in lines


def test_in_a_pipe_a_line_comes_now_and_then_and_at_the_end():
    lines = shown(started(), *(step(n, n * 0.5) for n in range(1, 1001))).splitlines()[3:]
    assert len(lines) == 101
    assert lines[0] == "step 1/1000  loss 4.812  3,420 tokens/s  ETA 2 min 5 s"
    assert lines[1].startswith("step 11/1000")
    assert lines[-1].startswith("step 1000/1000")


def test_an_evaluation_has_units_a_direction_and_a_word_where_it_stopped_falling():
    lines = shown(
        started(), evaluated(200, best=True), evaluated(300, bits_per_byte=None), evaluated(600, without_improvement=4)
    ).splitlines()[3:]
    loss = "validation loss 4.655 nats a token"
    assert lines == [
        f"step 200/1000  {loss}, 1.912 bits a byte (lower is better)  best so far",
        f"step 300/1000  {loss} (lower is better)",
        f"step 600/1000  {loss}, 1.912 bits a byte (lower is better)  not improved for 4 evaluations",
    ]


def test_a_sample_cannot_steer_the_terminal():
    assert shown(Sampled(step=5, prompt="The", text=" \x1b[31mred [bold]")) == (
        "step 5  sample: The| \N{SYMBOL FOR ESCAPE}[31mred [bold]\n"
    )


def test_how_it_stopped_is_kept_for_the_end():
    display = Display(Console(file=io.StringIO()))
    display(Saved(step=5, path=Path("x"), best=True))
    display(Stopped(reason="interrupted", step=5, seconds=1.0, says="saved", go_on="picolab train --resume runs/x"))
    assert display.stopped is not None and display.stopped.reason == "interrupted"


def test_on_a_terminal_there_is_a_bar_with_loss_rate_and_eta():
    text = shown(started(), step(120, 3.0), terminal=True)
    assert "step 120/1000" in text
    assert "loss 4.812  3,420 tokens/s  ETA 2 min 5 s" in text


def test_one_of_many_trainings_says_only_how_far_it_is():
    text = shown(started(), step(1, 1.0), step(1000, 1.5), label="2/8  lstm, seed 0")
    assert text == "2/8  lstm, seed 0: 6,861,440 parameters, about 3 min 20 s\n"
