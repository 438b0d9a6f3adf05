"""`picolab bench`: how fast models train, read and write here, and how near that is to what the machine can do."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from picolab.cli import console
from picolab.cli.flags import Gpt2Dir, Json, Out, Seed, use_gpt2_dir


def bench(
    *models: Annotated[
        str,
        Parameter(
            help="Presets, PRESET:field=value, runs, checkpoint folders, .gguf or .bin files; the first is the reference."
        ),
    ],
    what: Annotated[str, Parameter(help="train, prefill, decode, several divided by commas, or all.")] = "all",
    batch_size: Annotated[int, Parameter(help="Rows at once.")] = 8,
    length: Annotated[int, Parameter(help="Tokens in a row; decoding writes up to there.")] = 128,
    seconds: Annotated[float, Parameter(help="Time for one model at one work, over all rounds.")] = 5.0,
    rounds: Annotated[int, Parameter(help="How often the models take turns; below 5 nothing is told apart.")] = 7,
    threads: Annotated[int | None, Parameter(help="Threads of the processor. [default: torch's own]")] = None,
    device: Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[
        str,
        Parameter(
            help="float32 or bfloat16: products in training, weights elsewhere; float16, int8, stored: no training."
        ),
    ] = "float32",
    compiled: Annotated[
        bool, Parameter(help="Let torch compile training and decoding; half a minute a model before it is measured.")
    ] = False,
    vocab_size: Annotated[int | None, Parameter(help="Vocabulary of all presets. [default: each its own]")] = None,
    gpt2_dir: Gpt2Dir = None,
    seed: Seed = 0,
    out: Annotated[Out, Parameter(help="Write the JSON document there as well.")] = None,
    as_json: Json = False,
) -> int:
    """Measure training, reading and writing of models against this machine's limits.

    Models take turns, round after round. Two are told apart only where one was
    faster in every round. The text is random tokens, every row one document.
    Ctrl-C shows what has been measured.
    """
    from rich.live import Live
    from rich.text import Text

    from picolab.cli.bench_show import show
    from picolab.compare.bench import Progress
    from picolab.compare.bench import bench as measure
    from picolab.compare.bench_asked import Asked, works

    use_gpt2_dir(gpt2_dir)
    asked = Asked(
        models=models,
        what=works(what),
        batch_size=batch_size,
        length=length,
        seconds=seconds,
        rounds=rounds,
        threads=threads,
        device=device,
        dtype=dtype,
        compiled=compiled,
        vocab_size=vocab_size,
        seed=seed,
    )
    words = console.progress()
    # Nothing moves by itself: a spinner would take its share of the processor that is measured.
    with Live(console=words, auto_refresh=False, transient=True) as live:

        def report(progress: Progress) -> None:
            if progress.lasting:
                words.print(progress.says, style="dim", soft_wrap=True)
            elif words.is_terminal:
                live.update(Text(progress.says, style="dim"), refresh=True)

        result = measure(asked, report)
    if out is not None:
        console.save_json(out, result)
    if as_json:
        console.emit(result)
    else:
        show(result)
    if result.interrupted:
        says = "what was measured is shown" if result.rows else "nothing was measured yet"
        print(f"interrupted; {says}", file=sys.stderr)
        return 130
    return 0
