"""A program in a process of its own, to be killed or joined with others, without the seconds Python takes to read torch.

    pytest -> a server that has read torch, once -> fork -> main(*words), its words in a pipe, its exit code as ever

What a process does to itself and to the disk is the same; only its birth is shorter. Launchers, signals to groups of processes and
the start itself are asked of real commands.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import TextIOWrapper
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["torch._dynamo", "picolab.train.loop", "picolab.train.setup"])


@dataclass(frozen=True, slots=True)
class Program:
    """A running process: `out` is what it writes, to be read line by line; errors too."""

    process: BaseProcess
    out: TextIOWrapper

    def kill(self) -> None:
        """End it with SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.join()
        self.out.close()

    def end(self) -> tuple[int, str]:
        """Its exit code, negative for a signal, and what it wrote and nobody has read."""
        with self.out:
            said = self.out.read()
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode, said


def start(main: Callable[..., int], *words: str, environment: Mapping[str, str] | None = None) -> Program:
    """Run `main`, a function of a module that can be imported, and exit with what it returns."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = _server.Process(target=_run, args=(there, main, words, dict(environment or {})), daemon=True)
    process.start()
    there.close()
    out = os.fdopen(os.dup(here.fileno()), encoding="utf-8")
    here.close()
    return Program(process, out)


def _run(pipe: Connection, main: Callable[..., int], words: tuple[str, ...], environment: dict[str, str]) -> None:
    for number in (1, 2):
        os.dup2(pipe.fileno(), number)
    pipe.close()
    os.environ |= environment
    gc.freeze()  # of the server's modules nothing becomes garbage
    sys.exit(main(*words))
