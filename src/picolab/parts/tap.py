"""Sites: named places where a value of the real forward pass can be watched or replaced.

    x = tap(self, "resid_mid", x)        nobody listening: x goes straight on, one `if` is the whole cost
                                         a listener:       it sees ("blocks.3.resid_mid", x) and may hand back another x

The name of a site is the path of the module inside the model, a dot, and the local name. The model is never re-implemented
for display: what a listener sees is the value that flows on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

Listener = Callable[[str, Tensor], Tensor | None]

_listeners: list[tuple[dict[int, str], Callable[[str], bool], Listener]] = []


def tap(module: nn.Module, name: str, value: Tensor) -> Tensor:
    """Pass `value` on, through every listener that wants the site `name` of `module`."""
    if not _listeners:
        return value
    for paths, wanted, listener in _listeners:
        site = _site(paths, module, name)
        if site is not None and wanted(site):
            replaced = listener(site, value)
            value = value if replaced is None else replaced
    return value


def watched(module: nn.Module, *names: str) -> bool:
    """Whether anybody listens to one of these sites, so that a fused kernel must give way to the plain one."""
    return any(
        (site := _site(paths, module, name)) is not None and wanted(site)
        for paths, wanted, _ in _listeners
        for name in names
    )


@contextmanager
def listening(
    model: nn.Module, listener: Listener, wanted: Callable[[str], bool] = lambda site: True
) -> Iterator[None]:
    """While open, `listener(site, value)` is called at every site of `model` for which `wanted(site)`."""
    entry = ({id(module): path for path, module in model.named_modules()}, wanted, listener)
    _listeners.append(entry)
    try:
        yield
    finally:
        _listeners.remove(entry)


def _site(paths: dict[int, str], module: nn.Module, name: str) -> str | None:
    path = paths.get(id(module))
    return None if path is None else f"{path}.{name}".lstrip(".")
