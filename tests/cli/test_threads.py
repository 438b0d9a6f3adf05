"""Threads that wait leave the core to others, unless somebody asked for something else; and PyTorch is told before it is there."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from picolab.cli import threads
from picolab.cli.app import main

first, ask = [], threads.wait_briefly
threads.wait_briefly = lambda: (first.append("torch" not in sys.modules), ask())
assert main(["ls", "laws"]) == 0
print(first, os.environ.get(threads.SPINS))
"""


@pytest.mark.parametrize(
    ("asked", "got"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")]
)
def test_waiting_is_short_unless_asked_otherwise(asked, got):
    clean = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    ran = subprocess.run([sys.executable, "-c", PROGRAM], env=clean | asked, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == f"[True] {got}"
