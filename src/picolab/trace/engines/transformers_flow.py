"""What flows through one block of a transformers model while it runs: the calls of its modules, and of three functions.

    block(x) -> norm(x) -> q_proj(x) k_proj(x) v_proj(x) -> apply_rotary_pos_emb(q, k) -> cache.update(k, v)
             -> eager_attention_forward(q, k, v, mask) -> o_proj -> norm -> mlp -> y

Modules are watched by forward hooks. The functions are globals of the architecture's own file, and are wrapped there for as long as
somebody watches: what is noted is what they were given and what they gave, never computed again. Scores exist only inside
`eager_attention_forward`; they are what the mask is added to there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ROTATE, ATTEND = "apply_rotary_pos_emb", "eager_attention_forward"


@dataclass(frozen=True, slots=True)
class Call:
    """A module that has run: its path in the block, the first tensor it read, the first it gave."""

    path: str
    module: nn.Module
    x: Tensor | None
    y: Tensor | None


@dataclass(frozen=True, slots=True)
class Rotated:
    """Queries and keys before and after `apply_rotary_pos_emb`, as it was given them: heads before time, or after."""

    q: Tensor
    k: Tensor
    q_turned: Tensor
    k_turned: Tensor
    heads_first: bool


@dataclass(frozen=True, slots=True)
class Attended:
    """What entered attention and what left it: `(batch, heads, time, head_dim)`, mixed `(batch, time, heads, head_dim)`."""

    path: str
    q: Tensor
    scores: Tensor | None
    probs: Tensor | None
    mixed: Tensor


@dataclass(slots=True)
class Flow:
    """One pass through one block, in the order in which things were done."""

    x: Tensor
    y: Tensor | None = None
    events: list[Call | Rotated | Attended] = field(default_factory=list)
    k: Tensor | None = None
    """Keys and values as the cache was given them, `(batch, heads, time, head_dim)`."""
    v: Tensor | None = None

    def calls(self) -> list[Call]:
        return [event for event in self.events if isinstance(event, Call)]

    def first(self, kind: type[Any]) -> Any:
        """The one event of a kind; None if there is none, or several and nobody could say which."""
        found = [event for event in self.events if isinstance(event, kind)]
        return found[0] if len(found) == 1 else None


Tell = Callable[[int, Flow], None]
"""Called with the number of a block and what has flowed through it."""

Keeping = Callable[[Any], AbstractContextManager[None]]
"""While open, a cache notes what it is given."""


@contextmanager
def watching_blocks(blocks: Sequence[nn.Module], tell: Tell, *, with_scores: bool) -> Iterator[Keeping]:
    """While open, every pass through a block is told when it ends, if the pass keeps its keys under what this gives."""
    watch = _Watch(tell, with_scores)
    with ExitStack() as stack:
        for number, block in enumerate(blocks):
            for handle in watch.hooks(number, block):
                stack.callback(handle.remove)
        for file in {sys.modules[type(module).__module__] for block in blocks for module in block.modules()}:
            for name, wrap in ((ROTATE, watch.rotating), (ATTEND, watch.attending)):
                if callable(original := vars(file).get(name)):
                    setattr(file, name, wrap(original))
                    stack.callback(setattr, file, name, original)
        yield watch.keeping


class _Watch:
    """Notes what happens, for the block that is running."""

    def __init__(self, tell: Tell, with_scores: bool) -> None:
        self.tell, self.with_scores = tell, with_scores
        self.flow: Flow | None = None
        self.paths: dict[int, str] = {}

    def hooks(self, number: int, block: nn.Module) -> Iterator[Any]:
        """The hooks of one block."""

        def enters(_: nn.Module, args: Any, kwargs: Any) -> None:
            x = _first_tensor(args, kwargs)
            self.flow = None if x is None else Flow(x)

        def leaves(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            flow, self.flow = self.flow, None
            if flow is not None:
                flow.y = _tensor_of(output)
                self.tell(number, flow)

        yield block.register_forward_pre_hook(enters, with_kwargs=True)
        for path, module in block.named_modules():
            if path:
                self.paths[id(module)] = path
                yield module.register_forward_hook(self._ran, with_kwargs=True)
        yield block.register_forward_hook(leaves, with_kwargs=True)

    def _ran(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if self.flow is not None:
            call = Call(self.paths[id(module)], module, _first_tensor(args, kwargs), _tensor_of(output))
            self.flow.events.append(call)

    def rotating(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def rotate(q: Tensor, k: Tensor, *args: Any, **kwargs: Any) -> Any:
            turned = original(q, k, *args, **kwargs)
            both = isinstance(turned, tuple) and len(turned) == 2 and q.ndim == k.ndim == 4
            if self.flow is not None and both:  # in some files it turns one tensor at a time
                # cos, sin and, in older files, position_ids come first; the axis of heads is 1 where nobody says otherwise.
                axis = kwargs.get("unsqueeze_dim", args[-1] if args and isinstance(args[-1], int) else 1)
                self.flow.events.append(Rotated(q, k, turned[0], turned[1], heads_first=axis == 1))
            return turned

        return rotate

    def attending(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
            if self.flow is None or id(module) not in self.paths:
                return original(module, query, key, value, *args, **kwargs)
            mask = args[0] if args else kwargs.get("attention_mask")
            seen = _Scores(mask) if self.with_scores else None
            with seen or nullcontext():
                mixed, probs = original(module, query, key, value, *args, **kwargs)
            self.flow.events.append(
                Attended(self.paths[id(module)], query, None if seen is None else seen.scores, probs, mixed)
            )
            return mixed, probs

        return attend

    @contextmanager
    def keeping(self, cache: Any) -> Iterator[None]:
        original = cache.update

        def update(key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            if self.flow is not None:
                self.flow.k, self.flow.v = key_states, value_states
            return original(key_states, value_states, *args, **kwargs)

        cache.update = update
        try:
            yield
        finally:
            del cache.update


class _Scores(TorchFunctionMode):
    """Inside attention: keeps what the mask is added to, or where there is none what the softmax reads."""

    def __init__(self, mask: Tensor | None) -> None:
        super().__init__()
        self.masks = [] if mask is None else [mask]
        self.scores: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if self.scores is None:
            tensors = [arg for arg in args if isinstance(arg, Tensor)]
            masked = any(tensor is mask for tensor in tensors for mask in self.masks)
            if masked and len(tensors) == 1 and isinstance(output, Tensor):
                self.masks.append(output)  # cut to the keys there are
            elif masked and len(tensors) == 2:
                self.scores = next(tensor for tensor in tensors if all(tensor is not mask for mask in self.masks))
            elif not self.masks and "softmax" in getattr(func, "__name__", ""):
                self.scores = tensors[0]
        return output


def _first_tensor(args: Any, kwargs: Any) -> Tensor | None:
    """What a module reads: its first tensor, or the one called `hidden_states`."""
    given = [*args, kwargs.get("hidden_states"), *kwargs.values()]
    return next((value for value in given if isinstance(value, Tensor)), None)


def _tensor_of(output: Any) -> Tensor | None:
    if isinstance(output, tuple | list):
        output = output[0] if output else None
    return output if isinstance(output, Tensor) else None
