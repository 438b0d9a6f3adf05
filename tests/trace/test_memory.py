"""Freed memory is kept for the next recording where the C library can be asked, unless somebody has asked for something else."""

import platform
import subprocess
import sys

import pytest

ASK = "from picolab.trace.memory import keep_freed_memory; print(keep_freed_memory())"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library, with no such setting")
@pytest.mark.parametrize(("environment", "kept"), [({}, "True"), ({"MALLOC_TRIM_THRESHOLD_": "100000"}, "False")])
def test_it_is_kept_unless_the_environment_says_otherwise(environment, kept):
    ran = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == kept
