"""`picolab VERB`: which verbs there are, and what happens around each of them.

    argv -> flags spelled our way -> the verb's function -> exit code
                                  \\-> an error -> one sentence, a hint -> exit code        never a traceback

No verb imports torch before it computes: `--help` stays quick.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from picolab import __version__
from picolab.cli import failures, flags, threads, welcome

VERBS: dict[str, str] = {
    "demo": "The main job in a minute, offline: several kinds of model learn the same data.",
    "train": "Train one model and leave a run on disk.",
    "generate": "Let a model write.",
    "compare": "Train several models on an equal budget and rank them.",
    "sweep": "Ask one question of many runs: a grid or a search over any settings.",
    "dpo": "Teach a model which of two responses is better.",
    "trace": "Watch every number of one pass, told in words.",
    "interpret": "Show what a model has learned, and how sure that is.",
    "convert": "Write a model in another format.",
    "doctor": "Check a model against laws that need no reference.",
    "diff": "Say which line of mathematics is wrong, with proof.",
    "verify": "Run a model here and in another engine, and compare.",
    "plan": "Say what a training will take: memory, time, money, disk, and the commands.",
    "bench": "Measure training, reading and writing of models against this machine's limits.",
    "count": "Count n-grams and skip-grams of a corpus, once and for all.",
    "data": "Look into a corpus: true shares, repeats, the first batch decoded.",
    "report": "Build the HTML page of a comparison, a study or a run again.",
    "ls": "List presets, data, tokenizers, settings, studies, laws, causes or runs.",
}
"""Every verb that exists; a function of that name in a module of that name, whose docstring begins with this line."""


def build_app(wanted: str | None = None) -> App:
    """The parser; of the verb `wanted` the whole docstring is the help, the others are only listed."""
    app = App(
        name="picolab",
        help="A workbench for small language models.",
        version=__version__,
        help_format="plaintext",
        default_parameter=Parameter(negative=()),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for place, (verb, says) in enumerate(VERBS.items()):
        listed = None if verb == wanted else says
        app.command(f"picolab.cli.{verb}:{verb}", name=verb, sort_key=place, help=listed)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns 0 fine, 1 a bad verdict or a failure, 2 a bad request, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        welcome.welcome()
        return 0
    threads.wait_briefly()
    as_json = "--json" in arguments
    try:
        app = build_app(arguments[0])
        result = app(flags.spelled_our_way(app, arguments))
        sys.stdout.flush()  # a reader that has gone away is noticed here, not at exit
    except BrokenPipeError:
        return failures.reader_gone()
    except KeyboardInterrupt as error:
        return failures.interrupted(error)
    except CycloptsError as error:
        return failures.report(failures.as_bad_input(error, VERBS), as_json=as_json)
    except Exception as error:  # noqa: BLE001  the last line of defence: a person never sees a bare traceback
        return failures.report(error, as_json=as_json)
    return result if isinstance(result, int) else 0
