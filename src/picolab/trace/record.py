"""How is a pass recorded? Somebody listens at the places he wants while the model runs as it always does.

    with record(model, "blocks.*.attention.*") as recording:
        model(tokens)                         -> prefill, step 0
        model(next_token, cache=cache)        -> decode, step 0 1 2 ..
        loss.backward()                       -> grad/..., with gradients=True

keep="device"       the tensors themselves, where they are: nothing is copied
keep="cpu"          copies in main memory
keep=Path(folder)   each into a file at once: the folder becomes a trace bundle (bundle.py), of one text
keep="statistics"   a few numbers a place, and of attention a few a query: any length fits

A module that is none of ours is recorded by what its submodules return, under their own names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from picolab import __version__
from picolab.errors import BadInput, UnknownName
from picolab.models.contract import LanguageModel
from picolab.parts.tap import as_written, listening
from picolab.trace.bundle import Writer
from picolab.trace.memory import keep_freed_memory
from picolab.trace.passes import Recorder
from picolab.trace.recording import LOSS, Recording
from picolab.trace.sites import check_patterns, chosen, patterns_of

Keep = Literal["device", "cpu", "statistics"] | Path

KEEPS = ("device", "cpu", "statistics")

ROWS = 64
"""Most queries whose attention is looked at together where only statistics are kept."""


@contextmanager
def record(
    model: nn.Module,
    sites: str | Sequence[str] = "*",
    *,
    gradients: bool = False,
    keep: Keep = "device",
) -> Iterator[Recording]:
    """Record every pass of a model at the sites that match these patterns, until the block ends.

    `recording["blocks.0.attention.probs"]` is then a tensor, here `(batch, heads, time, past)`; `picolab.trace.sites` has all
    names with their axes. Patterns know `*`, `?` and `[..]`. `gradients` also keeps, as `grad/<site>`, the gradient that a
    backward pass inside the block brings to each of them. `keep` says where values go: "device" keeps the tensors themselves,
    "cpu" copies of them, a `pathlib.Path` writes each at once into that folder, a trace bundle, and "statistics" keeps a few
    numbers a place, of attention a few a query: entropies in nats, weights as shares. The numbers are those of an unwatched
    pass, bit for bit, except where attention has to show scores or probabilities, which its fused kernel never has: there to
    rounding. A compiled model runs as it is written while it is recorded. With "device" on Linux, memory that a dropped recording
    frees stays with the process for the next one (memory.py).

    Raises `UnknownName` after the first pass for a pattern that no site of it matches, with the nearest one; `BadInput` for a
    model without any, and where the folder cannot be written.
    """
    if not isinstance(keep, Path) and keep not in KEEPS:
        raise UnknownName("way to keep a recording", str(keep), KEEPS)
    model = getattr(model, "_orig_mod", model)  # what torch.compile returns wraps the model it was given
    patterns, wanted = patterns_of(sites), chosen(sites)
    if keep == "device":
        keep_freed_memory()
    asked: dict[str, None] = {}

    def note(site: str) -> bool:
        asked[site] = None
        return wanted(site)

    recording = Recording(engine=f"picolab {__version__}", dtype=_dtype(model), config=_config(model))
    with ExitStack() as stack:
        writer = stack.enter_context(Writer(keep, recording)) if isinstance(keep, Path) else None
        recorder = Recorder(
            recording, gradients=gradients, keep=keep if isinstance(keep, str) else "device", writer=writer
        )
        if isinstance(model, LanguageModel):
            stack.enter_context(listening(model, recorder.see, note, rows=ROWS if keep == "statistics" else None))
        else:
            places = _places(model)
            check_patterns(patterns, places)
            stack.enter_context(as_written())
            stack.callback(_hook(model, recorder.see, [name for name in places if note(name)]))

        def end(module: nn.Module, args: Any, output: Any) -> None:
            recorder.end()
            check_patterns([p for p in patterns if not fnmatchcase(LOSS, p)], asked)  # a loss would come later

        begun = model.register_forward_pre_hook(_begin(recorder), with_kwargs=True, prepend=True)
        stack.callback(begun.remove)
        stack.callback(model.register_forward_hook(end).remove)
        stack.callback(recorder.close)
        yield recording
        if asked:  # passes that did not go through `forward`, such as `losses`
            check_patterns(patterns, asked)


def _begin(recorder: Recorder) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
    """A hook that tells the recorder which tokens a pass reads, and how many were read before."""

    def begin(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [args[0] if args else None, kwargs.get("tokens"), kwargs.get("input_ids")]
        tokens = next((x for x in given if isinstance(x, Tensor) and x.ndim == 2 and not x.is_floating_point()), None)
        lengths = (
            getattr(kwargs.get("cache"), "length", None),
            getattr(kwargs.get("past_key_values"), "get_seq_length", lambda: None)(),  # transformers
        )
        recorder.begin(tokens, next((int(length) for length in lengths if length is not None), 0))

    return begin


def _places(model: nn.Module) -> list[str]:
    names = [name for name, _ in model.named_modules() if name]
    if not names:
        raise BadInput(f"`{type(model).__name__}` has no submodules whose values could be recorded")
    return names


def _hook(model: nn.Module, see: Callable[[str, Tensor], None], names: Sequence[str]) -> Callable[[], None]:
    """Listen to what the submodules of a foreign module return; returns how to stop."""
    modules = dict(model.named_modules())

    def listener(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def returned(module: nn.Module, args: Any, output: Any) -> None:
            first = output[0] if isinstance(output, (tuple, list)) and output else output
            if isinstance(first, Tensor):
                see(name, first)

        return returned

    handles = [modules[name].register_forward_hook(listener(name)) for name in names]

    def stop() -> None:
        for handle in handles:
            handle.remove()

    return stop


def _dtype(model: nn.Module) -> str:
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    return "float32" if parameter is None else str(parameter.dtype).removeprefix("torch.")


def _config(model: nn.Module) -> dict[str, Any]:
    if isinstance(model, LanguageModel):
        from picolab.zoo import settings_of

        return {"architecture": model.architecture, **settings_of(model)}
    to_dict = getattr(getattr(model, "config", None), "to_dict", None)
    return dict(to_dict()) if callable(to_dict) else {}
