"""What a person sees when something goes wrong: one sentence, a blank line, a hint; on stderr, and as JSON where asked.

no preset is called `lstn`

hint: did you mean `lstm`?
"""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Iterable

from cyclopts import CoercionError, CycloptsError, MissingArgumentError, RepeatArgumentError, UnknownCommandError
from cyclopts.exceptions import UnknownOptionError, UnusedCliTokensError

from picolab.errors import BadInput, PicolabError, UnknownName, was_interrupted

DEBUG = "PICOLAB_DEBUG"


def report(error: Exception, *, as_json: bool) -> int:
    """Say what went wrong and return the exit code."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    if was_interrupted(error):
        return interrupted(KeyboardInterrupt("interrupted"))
    known = as_picolab_error(error)
    message, hint = str(known), known.hint
    # Written at once: torchrun's processes share one stderr, unbuffered, and their sentences must not mix.
    sys.stderr.write(f"{message}\n\nhint: {hint}\n" if hint else f"{message}\n")
    if as_json:
        print(json.dumps({"error": {"message": message, "hint": hint}}, ensure_ascii=False))
    return known.exit_code


def interrupted(error: KeyboardInterrupt) -> int:
    """Ctrl-C: say what was saved, if whoever was interrupted knows."""
    print(str(error) or "interrupted; nothing was being written", file=sys.stderr)
    # An interruption inside an `exec` of text, as dataclasses are made, is remembered by CPython even where it is caught: the
    # process would end by the signal and not with our code. Text that runs to its end makes it forget (pythonrun.c).
    exec("")
    return 130


def reader_gone() -> int:
    """The reader of our output (`| head`) had enough: that is no failure."""
    # Python flushes stdout once more at exit; into nothing, so that it does not complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


class Unexpected(PicolabError):
    """A failure nobody foresaw."""

    exit_code = 1


def as_picolab_error(error: Exception) -> PicolabError:
    """Any exception as a sentence and a hint."""
    if isinstance(error, PicolabError):
        return error
    if isinstance(error, OSError) and error.strerror:
        return _as_file_error(error)
    if isinstance(error, MemoryError) or "not enough memory" in str(error) or "out of memory" in str(error):
        return Unexpected("the memory does not suffice", hint="a smaller batch, context or model needs less")
    says = f"{type(error).__name__}: {error}".splitlines()[0]
    return Unexpected(
        f"picolab failed in a way nobody foresaw: {says}",
        hint=f"please report it with the command and what it prints with {DEBUG}=1 set",
    )


def _as_file_error(error: OSError) -> PicolabError:
    says = (error.strerror or "").lower()
    message = says if error.filename is None else f"`{error.filename}`: {says}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unexpected(message, hint="free some space; what was saved is whole: `picolab train --resume last`")
    return BadInput(message, hint="check the path and who may read or write it")


def as_bad_input(error: CycloptsError, verbs: Iterable[str]) -> PicolabError:
    """A complaint of the parser in our words."""
    verb = " ".join(["picolab", *(error.command_chain or ())])
    see = f"`{verb} --help` says what it takes"
    flag = "" if error.argument is None else error.argument.name
    if isinstance(error, UnknownCommandError):
        return UnknownName("verb", (error.unused_tokens or ["?"])[0], verbs)
    if isinstance(error, UnknownOptionError):
        known = [name for argument in error.argument_collection for name in argument.names]
        return UnknownName(f"option of `{verb}`", error.token.keyword or error.token.value, known)
    if isinstance(error, UnusedCliTokensError):
        return BadInput(f"`{(error.unused_tokens or ['?'])[0]}` is not expected here", hint=see)
    if isinstance(error, RepeatArgumentError):
        return BadInput(f"`{error.token.keyword}` is given twice", hint="give it once")
    if isinstance(error, CoercionError) and error.token is not None and error.target_type is not None:
        return BadInput(f"`{flag}` is `{error.token.value}`, not {_kind(error.target_type)}", hint=see)
    if isinstance(error, MissingArgumentError):
        if error.keyword is not None:
            return BadInput(f"`{error.keyword}` is given without a value", hint=see)
        return BadInput(f"`{verb}` needs `{flag}`", hint=see)
    error.verbose = False
    return BadInput(str(error).splitlines()[0].rstrip("."), hint=see)


def _kind(wanted: type) -> str:
    return {"int": "a whole number", "float": "a number", "bool": "true or false"}.get(
        getattr(wanted, "__name__", ""), f"one of {wanted}"
    )
