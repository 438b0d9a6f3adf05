"""What did a run run on? Versions, machine, code and command, so that a number can be traced to its origin years later."""

from __future__ import annotations

import functools
import os
import platform
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from picolab import __version__

PASSWORD_OPTION = re.compile(r"([?&])[^=&?]*pass[^=&]*=[^&]*&?", re.IGNORECASE)
PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "pydantic")


def describe() -> dict[str, Any]:
    """Everything about the place of a run that can change its numbers."""
    return {
        "command": command(),
        "folder": str(Path.cwd()),
        "versions": {"picolab": __version__, "python": platform.python_version(), **_packages()},
        "machine": place(),
        "git": _git(),
    }


def command() -> list[str]:
    """The words this program was started with, passwords of addresses left out: they are kept in runs and shown on pages."""
    return [without_password(word) if "://" in word else word for word in sys.argv]


def command_line() -> str:
    """The same as it is typed, whatever name the program was started by."""
    return shlex.join(["picolab", *command()[1:]])


def without_password(url: str) -> str:
    """An address that may be shown and kept: no password before the host's name, and none among what follows a `?`."""
    before, mark, rest = PASSWORD_OPTION.sub(r"\1", url).rstrip("?&").partition("://")
    login, at, host = rest.rpartition("@")
    return f"{before}{mark}{login.partition(':')[0]}{at}{host}"


def place() -> dict[str, Any]:
    """The machine alone."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cpus": _usable_cpus(),
        "host": platform.node(),
    }


@functools.cache
def _packages() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git() -> dict[str, Any] | None:
    """The commit of the code in the working folder, and whether it was changed since; None outside a repository."""

    def ask(*words: str) -> str:
        asked = subprocess.run(("git", *words), capture_output=True, text=True, timeout=5, check=True)
        return asked.stdout.strip()

    try:
        return {
            "commit": ask("rev-parse", "HEAD"),
            "changed": bool(ask("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None
