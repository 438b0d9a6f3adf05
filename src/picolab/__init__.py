"""picolab: a workbench for small language models.

    model = picolab.load("runs/x")                       a run, a checkpoint or a preset -> nn.Module, tokens -> logits
    text = picolab.generate(model, "Once upon a")        what it writes
    with picolab.record(model) as recording: ..          every value of a pass, by the name of its place
    picolab.diagnose(model)                              what is wrong with it, by laws that need no reference
    picolab.diff(reference, target, tokens=..)           which line of mathematics is wrong, with proof

The names are imported when they are used, so that `import picolab` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from picolab.api import diagnose, diff, generate, load, record

__version__ = "0.1.0"
__all__ = ["__version__", "diagnose", "diff", "generate", "load", "record"]


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "diagnose":  # a package that can be called
        return import_module("picolab.diagnose")
    return getattr(import_module("picolab.api"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
