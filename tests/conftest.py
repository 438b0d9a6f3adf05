"""What every test stands on: shapes are checked at run time, one thread, no network."""

from __future__ import annotations

import gc
import os
import signal

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["OMP_NUM_THREADS"] = "1"

from checked_shapes import check_packages
from longest import begin_with_the_longest

# Every array annotation of the mathematics is checked on every call while tests run.
check_packages("picolab.parts", "picolab.models")

import pytest  # noqa: E402  (after the hook)
import torch  # noqa: E402

# A shell that starts tests in the background has Ctrl-C ignored, and every process they start would ignore it, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def _what_stands_is_not_searched_for_garbage() -> None:
    """Measuring memory collects garbage first; with a million objects of modules that takes longer than a tiny training."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    begin_with_the_longest(items)
