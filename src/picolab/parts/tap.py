"""Sites: named places where a value of the real forward pass can be watched or replaced.

    x = tap(self, "resid_mid", x)        nobody listening: x goes straight on, one `if` is the whole cost
                                         a listener:       it sees ("blocks.3.resid_mid", x) and may hand back another x

The name of a site is the path of the module inside the model, a dot, and the local name. The model is never re-implemented
for display: what a listener sees is the value that flows on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Listener = Callable[[str, Tensor], Tensor | None]


@dataclass(frozen=True, slots=True, eq=False)
class _Post:
    """Somebody who listens: to whom the modules belong, which sites are wanted, how many rows of attention at a time."""

    paths: dict[int, str]
    wanted: Callable[[str], bool]
    listener: Listener
    rows: int | None

    def site(self, module: nn.Module, name: str) -> str | None:
        """The full name of a site of a module of ours, if it is wanted."""
        path = self.paths.get(id(module))
        if path is None:
            return None
        site = f"{path}.{name}" if path else name
        return site if self.wanted(site) else None


_posts: list[_Post] = []


def tap(module: nn.Module, name: str, value: Tensor) -> Tensor:
    """Pass `value` on, through every listener that wants the site `name` of `module`."""
    if not _posts:
        return value
    for post in _posts:
        site = post.site(module, name)
        if site is not None:
            replaced = post.listener(site, value)
            value = value if replaced is None else replaced
    return value


def watched(module: nn.Module, *names: str) -> bool:
    """Whether anybody listens to one of these sites, so that a fused kernel must give way to one that shows them."""
    if not _posts:
        return False
    return any(post.site(module, name) is not None for post in _posts for name in names)


def rows_at_a_time(module: nn.Module, *names: str) -> int | None:
    """The most rows of attention that those who listen to these sites take at once; None as soon as one of them wants all."""
    rows = [post.rows for post in _posts if any(post.site(module, name) is not None for name in names)]
    few = [r for r in rows if r is not None]
    return min(few) if few and len(few) == len(rows) else None


@contextmanager
def listening(
    model: nn.Module,
    listener: Listener,
    wanted: Callable[[str], bool] = lambda site: True,
    *,
    rows: int | None = None,
) -> Iterator[None]:
    """While open, `listener(site, value)` is called at every site of `model` for which `wanted(site)`.

    With `rows`, the sites `scores` and `probs` come in blocks of at most so many queries, one call after the other, each
    `(batch, heads, rows, keys up to the last of these queries)`: a long text's whole matrix never exists. The next block may
    be written over it, so what is to be kept of one is copied. They come whole if somebody else listens to them who takes no
    rows. A compiled model runs as it is written while somebody listens.
    """
    post = _Post({id(module): path for path, module in model.named_modules()}, wanted, listener, rows)
    _posts.append(post)
    try:
        with as_written():
            yield
    finally:
        _posts.remove(post)


@contextmanager
def unheard() -> Iterator[None]:
    """While open, whoever listened before hears nothing: for a pass that is no part of what they watch."""
    others = _posts.copy()
    _posts.clear()
    try:
        yield
    finally:
        _posts[:0] = others


def as_written() -> AbstractContextManager[None]:
    """Compiled models run their Python; where the compiler was never loaded (it takes a second), nothing is compiled."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
