"""How is one token read as fast as the memory delivers the weights? By a step that is compiled once and then only run.

prompt      read(tokens)      the model as it is written: large products, which libraries do best
one token   step(token)       compiled: for each product of a matrix and one vector, the sums are taken as the matrix streams by

One token needs every weight once and computes little, so the time is that of reading the weights, and between two small products
that of calling the next. A compiled step has no Python between its products, and takes a product with one vector as the plain sum
`(weight * x).sum(-1)`: MKL's own, on an AMD processor, used one core (12 GB/s of 36; as sums 40). The step reads the memory up to
the newest token and no further, whatever the capacity.

Compiling takes ten to thirty seconds the first time, and a few when torch finds the step in its cache on disk. With
`compiled=False` a `Step` is the same without a compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.parts.cache import KeyValueCache
from picolab.parts.static_cache import StaticCache
from picolab.parts.tap import tap
from picolab.sample.reader import reading
from picolab.shapes import Tokens

NextLogits = Float[Tensor, "batch vocab"]

SMALLEST = 256
"""Positions set aside at least. Capacities are rounded up to a power of two, so that another text finds its step compiled."""


def compiled_step(model: LanguageModel, batch_size: int, capacity: int) -> Step:
    """A compiled `Step` for `batch_size` rows of at most `capacity` tokens."""
    return Step(model, batch_size, capacity)


class Step:
    """A model and its memory of what it has read. `read` a prompt, then call with one token a row; `clear` begins anew."""

    def __init__(self, model: LanguageModel, batch_size: int, capacity: int, *, compiled: bool = True) -> None:
        example = model.new_cache(batch_size, 1)
        if not isinstance(example, KeyValueCache):
            raise BadInput(
                f"a step of `{model.architecture}` cannot be compiled: what it remembers is not a list of keys and values",
                hint="leave `compiled` out",
            )
        self.model, self.batch_size, self.capacity = model, batch_size, capacity
        self.length = 0
        n_layers, _, _, _, kv_heads, head_dim = example.memory.shape
        self._limit = min(max(SMALLEST, 1 << (capacity - 1).bit_length()), int(model.config.context_length))
        # One position more than is ever filled: a view of a whole tensor has another layout, and another step to be compiled.
        shape = (batch_size, self._limit + 1, kv_heads, head_dim)
        self._keys = [example.memory.new_zeros(shape) for _ in range(n_layers)]
        self._values = [example.memory.new_zeros(shape) for _ in range(n_layers)]
        self._positions = torch.arange(self._limit, device=model.device)
        self._tokens = torch.zeros(batch_size, 1, dtype=torch.int64, device=model.device)
        self._kinds = _kinds(model)
        self._decode = _decode
        if compiled and self._limit > 1:
            self._compile()

    def read(self, tokens: Tokens) -> NextLogits:
        """Read a prompt, or more of it; what follows its last token."""
        filled = self._reach(tokens)
        if _kinds(self.model) != self._kinds:
            raise BadInput(
                "the model's weights are of another type, size or device than when the step was made",
                hint="move or convert the model first, then make its step",
            )
        with reading(self.model):
            cache = StaticCache(self._keys, self._values, filled, tokens.shape[1])
            features = self.model.features(tokens, cache=cache)[:, -1:]
            logits: NextLogits = tap(self.model, "logits", self.model.head(features))[:, 0]
        self.length += tokens.shape[1]
        return logits

    def __call__(self, tokens: Tokens) -> NextLogits:
        """Read one token a row; what follows it."""
        if tokens.shape[1] != 1:
            raise BadInput(f"a step reads one token a row, not {tokens.shape[1]}", hint="`read` reads several")
        if self.length == 0:  # the compiled step counts on keys from before
            return self.read(tokens)
        filled = self._reach(tokens)
        with reading(self.model):
            self._tokens.copy_(tokens)  # compiled code takes its inputs' type and layout for granted
            logits = self._decode(self.model, self._tokens, self._keys, self._values, filled)
        self.length += 1
        return logits

    def clear(self) -> None:
        """Forget what was read."""
        self.length = 0

    def _reach(self, tokens: Tokens) -> Int64[Tensor, " past"]:
        """The positions filled once these tokens are read."""
        end = self.length + tokens.shape[1]
        if tokens.shape[0] != self.batch_size:
            raise BadInput(f"the step reads {self.batch_size} rows, not {tokens.shape[0]}")
        if end > self.capacity or end > self._limit:
            raise BadInput(
                f"the cache holds {min(self.capacity, self._limit)} positions and {end} are needed",
                hint="shorten the prompt, generate fewer tokens, or use a model with a longer context",
            )
        return self._positions[:end]

    def _compile(self) -> None:
        """Compile the step and run it once on an empty memory; what that writes, the next token writes over."""
        from torch._dynamo.exc import BackendCompilerFailed

        # torch keeps what it compiled with the code it was compiled from, eight times at most; each step brings its own.
        own = FunctionType(_decode.__code__.replace(), globals())
        # Guards ask before every token whether all is still what was compiled, a sixth of a small model's time. Here everything a
        # step reads is its own, but for the weights: `read` looks at those once a text.
        no_guards = getattr(torch.compiler, "skip_all_guards_unsafe", None)  # not in every torch that compiles
        options: dict[str, Any] = {"guard_filter_fn": no_guards} if no_guards else {}
        self._decode = torch.compile(own, fullgraph=True, backend=_backend, options=options)
        filled = self._positions[:2]
        if self._limit > 2:
            torch._dynamo.mark_dynamic(filled, 0, min=2, max=self._limit)
        try:
            with reading(self.model):
                self._decode(self.model, self._tokens, self._keys, self._values, filled)
        except BackendCompilerFailed as error:
            if "C++ compiler" not in str(error):
                raise
            raise BadInput(
                "a step is compiled with a C++ compiler, and none is here",
                hint="install one (g++ or clang++), name it in `CXX`, or leave `compiled` out",
            ) from error


def _decode(
    model: LanguageModel, tokens: Tokens, keys: Sequence[Tensor], values: Sequence[Tensor], filled: Tensor
) -> NextLogits:
    """One token a row through the model as it is written: what the compiler is given."""
    logits: NextLogits = model(tokens, cache=StaticCache(keys, values, filled, 1))[:, 0]
    return logits


def _kinds(model: LanguageModel) -> list[tuple[object, ...]]:
    """What compiled code takes for granted about the weights: type, device, sizes, layout."""
    return [(x.dtype, x.device, x.shape, x.stride()) for x in (*model.parameters(), *model.buffers())]


def _backend(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    """torch's own compiler, given sums for products with few rows."""
    from torch._inductor.compile_fx import compile_fx

    for node in graph.graph.nodes:
        if node.target is F.linear:
            node.target = product
    graph.recompile()
    # What the compiled code would check for every tensor and token is what it was compiled with.
    return compile_fx(graph, inputs, config_patches={"size_asserts": False})  # type: ignore[return-value]


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` of one token a row as a processor's cores read the weight fastest."""
    n_rows = x.shape[:-1].numel()
    if x.device.type != "cpu" or n_rows > MOST_ROWS.get(x.dtype, 1):
        return F.linear(x, weight, bias)
    wide = torch.promote_types(x.dtype, torch.float32)
    rows = x.reshape(n_rows, -1).to(wide)
    # Sums over the same matrix become one loop, which reads it once.
    sums = torch.stack([(weight.to(wide) * row).sum(-1) for row in rows.unbind(0)])
    if bias is not None:
        sums = sums + bias.to(wide)
    return sums.to(x.dtype).unflatten(0, x.shape[:-1])


MOST_ROWS = {torch.float32: 8, torch.bfloat16: 2}
"""Rows up to which sums were faster than the library's product: of 32,000 x 512 in float32 they took half the time for 1 to 8 rows,
in bfloat16 0.6 for one, 0.7 for two, as much for four."""
