"""The frame around every verb: exit codes, errors in one form, help without torch."""

from __future__ import annotations

import errno
import inspect
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from picolab import __version__
from picolab.cli import app, failures, ls
from picolab.errors import BadInput, Diverged

GOLDEN = Path(__file__).parents[1] / "golden" / "help"


@pytest.mark.parametrize("verb", ["", *app.VERBS])
def test_help_says_what_it_said(verb, picolab):
    """`PICOLAB_GOLDEN=1 pytest tests/cli` writes the texts anew; look at the difference before keeping it."""
    ran = picolab(*verb.split(), "--help")
    golden = GOLDEN / f"{verb or 'picolab'}.txt"
    text = "\n".join(line.rstrip() for line in ran.out.splitlines()) + "\n"
    if os.environ.get("PICOLAB_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert (ran.code, ran.err) == (0, "")
    assert text == golden.read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("words", [(), ("--help",), ("--version",), *((verb, "--help") for verb in app.VERBS)])
def test_help_does_not_wait_for_torch(words):
    script = (
        "import sys; from picolab.cli.app import main; code = main(sys.argv[1:])\n"
        "heavy = {'torch', 'matplotlib', 'tokenizers', 'scipy', 'jaxtyping'} & set(sys.modules)\n"
        "sys.exit(code or (str(heavy) if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("verb", app.VERBS)
def test_the_list_of_verbs_says_what_their_help_says(verb):
    function = getattr(import_module(f"picolab.cli.{verb}"), verb)
    assert function.__doc__.splitlines()[0] == app.VERBS[verb]


@pytest.mark.parametrize("verb", app.VERBS)
def test_no_line_of_a_help_is_broken_twice(verb):
    said = inspect.getdoc(getattr(import_module(f"picolab.cli.{verb}"), verb))
    assert max(map(len, said.splitlines())) <= 80, "broken by hand for a wider terminal than the 80 columns of help"


def test_alone_it_says_what_it_is_and_three_things_to_try(picolab):
    ran = picolab()
    assert ran.code == 0
    assert len(ran.out.splitlines()) <= 14
    assert ran.out.count("  picolab ") == 3
    for line in ran.out.splitlines():
        if line.startswith("  picolab "):
            assert line.split()[1] in app.VERBS


def test_version(picolab):
    assert picolab("--version").out.strip() == __version__


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["tran"], "no verb is called `tran`", "did you mean `train`?"),
        (
            ["train", "--stesp", "4"],
            "no option of `picolab train` is called `--stesp`",
            "did you mean `--steps`?",
        ),
        (
            ["train", "--optimizer.ls=4"],
            "no option of `picolab train` is called `--optimizer.ls`",
            "did you mean `--optimizer.lr`?",
        ),
        (
            ["ls", "--sed", "4"],
            "no option of `picolab ls` is called `--sed`",
            "did you mean `--seed`?",
        ),
        (["ls", "-x"], "no option of `picolab ls` is called `-x`", None),
        (["ls", "pesets"], "no list is called `pesets`", "did you mean `presets`?"),
        (["ls", "presets", "data"], "`data` is not expected here", "`picolab ls --help` says what it takes"),
        (["generate"], "`picolab generate` needs `--model`", "`picolab generate --help` says what it takes"),
        (
            ["train", "--steps", "many"],
            "`--steps` is `many`, not a whole number",
            "`picolab train --help` says what it takes",
        ),
        (["train", "--steps"], "`--steps` is given without a value", "`picolab train --help` says what it takes"),
        (["train", "--steps", "3", "--steps", "4"], "`--steps` is given twice", "give it once"),
        (["train", "--set", "optimizer.lr"], "`--set optimizer.lr` has no value", "`--set optimizer.lr=VALUE`"),
        (
            ["generate", "--model", "lstn"],
            "no model or run is called `lstn`",
            "did you mean `lstm`?",
        ),
        (
            ["train", "--model", "lstn"],
            "no preset is called `lstn`",
            "did you mean `lstm`?",
        ),
    ],
)
def test_a_request_that_cannot_be_met_gets_one_sentence_and_a_hint(words, message, hint, picolab):
    ran = picolab(*words)
    lines = ran.err.splitlines()
    assert (ran.code, ran.out, lines[0]) == (2, "", message)
    if hint is not None:
        assert lines[1:] == ["", f"hint: {hint}"]


def test_with_json_an_error_is_a_document_too(picolab):
    ran = picolab("ls", "pesets", "--json")
    assert ran.document == {"error": {"message": "no list is called `pesets`", "hint": "did you mean `presets`?"}}
    assert ran.err.startswith("no list is called")
    assert ran.code == 2


@pytest.fixture
def failing(monkeypatch, picolab):
    """A command line whose verb fails with a given error."""

    def run(error):
        def fail(runs):
            raise error

        monkeypatch.setitem(ls.LISTINGS, "presets", fail)
        return picolab("ls", "presets")

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (BadInput("it is so", hint="do this"), 2, "it is so\n\nhint: do this\n"),
        (BadInput("it is so"), 2, "it is so\n"),
        (Diverged("the loss is nan"), 1, "the loss is nan\n"),
        (KeyboardInterrupt(), 130, "interrupted; nothing was being written\n"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "`x`: permission denied\n"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 1, "`x`: no space left on device\n"),
        (MemoryError(), 1, "the memory does not suffice\n"),
    ],
)
def test_every_error_has_its_exit_code_and_no_traceback(error, code, said, failing):
    ran = failing(error)
    assert ran.code == code
    assert ran.err.startswith(said)
    assert "Traceback" not in ran.err


def raised(error, *, by):
    """An error that a library made of another."""
    error.__cause__ = by
    return error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (raised(ImportError("half a module"), by=KeyboardInterrupt()), 130, "interrupted\n"),
        (raised(SystemError("a result"), by=raised(RuntimeError(), by=KeyboardInterrupt())), 130, "interrupted\n"),
        (raised(BadInput("it cannot be written"), by=KeyboardInterrupt()), 2, "it cannot be written\n"),
        (raised(OSError(errno.ENOSPC, "No space left"), by=KeyboardInterrupt()), 1, "no space left\n"),
        (raised(ImportError("no such module"), by=ValueError()), 1, "picolab failed in a way nobody foresaw"),
    ],
)
def test_ctrl_c_inside_a_library_is_told_as_ctrl_c(error, code, said, failing):
    ran = failing(error)
    assert (ran.code, ran.err[: len(said)]) == (code, said)


def test_ctrl_c_inside_executed_text_has_our_exit_code(tmp_path):
    (tmp_path / "executed.py").write_text(
        "import sys; from picolab.cli import ls; from picolab.cli.app import main\n"
        "ls.LISTINGS['presets'] = lambda runs: exec('raise KeyboardInterrupt')\n"
        "sys.exit(main(['ls', 'presets']))"
    )
    # As `python -m picolab`: there CPython looks at what it remembers.
    words = [sys.executable, "-m", "executed"]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (130, "interrupted; nothing was being written\n")


def test_a_failure_nobody_foresaw_says_how_to_report_it(failing, monkeypatch):
    ran = failing(ZeroDivisionError("division by zero"))
    assert ran.code == 1
    assert ran.err.splitlines() == [
        "picolab failed in a way nobody foresaw: ZeroDivisionError: division by zero",
        "",
        "hint: please report it with the command and what it prints with PICOLAB_DEBUG=1 set",
    ]


def test_with_the_debug_variable_the_traceback_is_shown(failing, monkeypatch):
    monkeypatch.setenv(failures.DEBUG, "1")
    assert "Traceback" in failing(ZeroDivisionError("division by zero")).err


def test_a_reader_that_has_enough_ends_it_quietly(tmp_path):
    script = (
        "import sys; from picolab.cli import ls; from picolab.cli.app import main\n"
        "ls.LISTINGS['presets'] = lambda runs: ('t', ('n',), [{'n': 'x' * 50} for _ in range(9000)])\n"
        "sys.exit(main(['ls']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 0
