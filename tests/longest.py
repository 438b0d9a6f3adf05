"""In which order do test files begin? Those that take long first, so that at the end no core waits for another's long one.

    pytest -n auto --dist loadfile --no-loadscope-reorder        xdist would begin with the files of most tests, not of most seconds

A file that is not named takes less than ten seconds of a processor; its turn comes afterwards.
"""

from __future__ import annotations

import pytest

LONGEST = [
    "docs/test_tour.py",
    "diagnose/test_named.py",
    "train/test_distributed.py",
    "compare/test_compare.py",
    "measure/planning/test_memory.py",
    "models/test_zoo.py",
    "studies/test_shipped.py",
    "diagnose/test_diff.py",
    "cli/test_verbs.py",
    "sample/test_compiled.py",
    "recipes/test_demo.py",
    "studies/test_sweep.py",
    "docs/test_learn.py",
    "diagnose/test_causes.py",
    "weights/test_dtypes.py",
    "cli/test_diff_cases.py",
    "train/test_resume.py",
    "report/test_trace_page.py",
    "train/test_setup.py",
    "diagnose/test_laws_of_models.py",
    "train/test_loop.py",
    "diagnose/test_align.py",
    "recipes/test_counted_attention.py",
    "cli/test_dpo.py",
    "studies/test_launch.py",
    "cli/test_interpret.py",
    "diagnose/test_laws.py",
    "diagnose/test_laws_of_sampling.py",
    "diagnose/test_verify.py",
    "diagnose/test_minimise.py",
    "cli/test_generate.py",
    "cli/test_trace.py",
    "studies/test_shared.py",
]
"""Of most seconds first, as measured in one process."""

_turns = {f"tests/{name}": turn for turn, name in enumerate(LONGEST)}


def begin_with_the_longest(items: list[pytest.Item]) -> None:
    """Sort tests by the turn of their file; within a file they stay as they are."""
    items.sort(key=lambda item: _turns.get(item.nodeid.partition("::")[0], len(_turns)))
