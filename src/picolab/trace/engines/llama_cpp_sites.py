"""Which tensor of llama.cpp's graph is which site? Told by its name, its operation, and who reads it.

    Qcur-0 MUL_MAT, RESHAPE -> Qcur-0 ROPE -> kq-0 MUL_MAT -> kq_soft_max-0 -> kqv_out-0 -> node_31 -> ffn_inp-0 ADD
                    q          q_rope         scores / scale  probs            mixed        out        resid_mid

A value without a name of its own (`node_31`) is known by who reads it. Where a graph is wired otherwise than the sites' definitions
ask (norms after the sum, a parallel feed-forward), the place is not reported: better absent than wrong.

What differs from picolab, and what is done about it wherever the values are read (llama_cpp_watch.py, eval_callback.py):

| llama.cpp                                                  | here                                                          |
|------------------------------------------------------------|---------------------------------------------------------------|
| axes are named fastest first: (head_dim, heads, time)      | read backwards: (batch, time, heads, head_dim)                |
| architectures that turn adjacent pairs (`llama`) keep the  | put in halves as the weights are (weights/row_order.py): q, k |
|   lanes of a query or key as 0 half 1 half+1 ..            |   and all that is made of them; values are never turned       |
| `kq` is q . k, its scale is applied inside the softmax     | scores are multiplied by the scale that the softmax names     |
| keys are padded to a multiple of 256                       | scores and probs are cut to the positions read                |
| the sum after a llama's feed-forward is called `ffn_out`   | told apart by what `l_out` reads                              |
|   too                                                      |                                                               |
| GELU is looked up in a table of half-precision numbers     | reported as it is, up to 1e-3 from ours                       |
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, Protocol

Lanes = Literal["halves", "pairs", "unknown"]
"""The order of the lanes in a head, as in weights/row_order.py."""


class Made(Protocol):
    """A tensor of the graph: what it is called, the operation that makes it and what that reads."""

    @property
    def key(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def op(self) -> str: ...
    def source(self, index: int) -> Made | None: ...


WHOLE = {
    "attn_norm": "attention_norm",
    "Qcur_normed": "attention.q_norm",
    "Kcur_normed": "attention.k_norm",
    "kq_soft_max": "attention.probs",
    "kqv_out": "attention.mixed",
    "ffn_norm": "mlp_norm",
    "l_out": "resid_post",
}
"""Names in a block that say all; the block's number follows after a dash."""

ENDS = {"result_norm": "final_norm", "result_output": "logits"}

LETTERS = {"Qcur": "q", "Kcur": "k", "Vcur": "v"}

ACTIVATIONS = frozenset(
    {"ffn_silu", "ffn_gelu", "ffn_relu", "ffn_sqr(relu)", "ffn_swiglu", "ffn_geglu", "ffn_reglu", "ffn_gate_par"}
)

DOWNS = frozenset({"ffn_out", "ffn_moe_out"})

MAY_BE = {
    "kq": ("attention.scores",),
    "ffn_up": ("mlp.up", "mlp.gate"),
    "ffn_gate": ("mlp.up", "mlp.gate"),
    **dict.fromkeys(DOWNS, ("mlp.down",)),
    **dict.fromkeys(ACTIVATIONS, ("mlp.act",)),
}
"""Names whose place their reader will tell, and what it may be."""

THROUGH = frozenset({"UNARY", "SQR", "CLAMP"})
"""Operations that may stand between an expansion and the product with the other one."""

TURNED = frozenset(f"attention.{letter}{step}" for letter in "qk" for step in ("", "_norm", "_rope"))
"""Places whose lanes follow the order of rotation."""

HEADS = TURNED | {"attention.v"}
SQUARES = frozenset({"attention.scores", "attention.probs"})

_IN_BLOCK = re.compile(r"^(.+)-(\d+)$")


def split_name(name: str) -> tuple[str, str]:
    """A tensor's name without its block, and how that block's sites begin; nothing where it is in none."""
    found = _IN_BLOCK.match(name)
    return (name, "") if found is None else (found[1], f"blocks.{found[2]}.")


def place_of(site: str) -> str:
    """A site without its block."""
    return site.split(".", 2)[2] if site.startswith("blocks.") else site


class Places:
    """One pass through the graph, tensor after tensor in the order of computation."""

    def __init__(self) -> None:
        self.began = False
        """Whether the first norm of the first block has been seen."""
        self.block = ""
        self._mixed: int | None = None
        self._out: int | None = None

    def settled_by(self, made: Made) -> Iterator[tuple[str, Made]]:
        """The sites that earlier tensors turn out to be, now that `made` reads them. To be asked once for every tensor."""
        name, block = split_name(made.name)
        first, second = made.source(0), made.source(1)
        if not self.began:
            if made.op in ("NORM", "RMS_NORM") and block == "blocks.0." and first is not None:
                self.began = True
                yield "embed", first
            return
        self.block = block or self.block
        if name == "kq_soft_max" and first is not None:
            yield f"{block}attention.scores", first
        elif name == "kqv_out":
            self._mixed = made.key
        elif name == "ffn_inp" and made.op == "ADD":
            for summand in (first, second):
                if summand is not None and summand.key == self._out:
                    yield f"{block}attention.out", summand
        elif name == "l_out" and made.op == "ADD" and first is not None and split_name(first.name)[0] in DOWNS:
            yield f"{block}mlp.down", first
        elif made.op == "MUL_MAT" and second is not None and split_name(second.name)[0] in ACTIVATIONS:
            for place, expansion in _expansions(second):
                yield f"{self.block}{place}", expansion
            yield f"{self.block}mlp.act", second
        if self._leads_out(made):
            self._out = made.key

    def site(self, made: Made) -> str | None:
        """The site of a tensor whose name and operation say all."""
        name, block = split_name(made.name)
        if not self.began:
            return None
        if not block:
            return ENDS.get(name)
        if name in LETTERS:
            if made.op == "ROPE":
                return f"{block}attention.{LETTERS[name]}_rope"
            # Flat after the projection and after the bias; heads stand apart once both are done.
            return f"{block}attention.{LETTERS[name]}" if made.op in ("RESHAPE", "VIEW") else None
        if name == "ffn_inp":
            return f"{block}resid_mid" if made.op == "ADD" else None
        place = WHOLE.get(name)
        return None if place is None else block + place

    def may_be(self, made: Made) -> tuple[str, ...]:
        """The sites that a later reader may find a tensor to be."""
        if not self.began:
            return ("embed",)
        if made.key == self._out:
            return (f"{self.block}attention.out",)
        name, block = split_name(made.name)
        name = "kq" if name.startswith("kq_") else name
        places = MAY_BE.get(name) or MAY_BE.get(name.removesuffix("_b").removesuffix("_s"), ())
        return tuple(block + place for place in places) if block else ()

    def _leads_out(self, made: Made) -> bool:
        """Whether this is the output projection of attention, its bias added, or its rows picked out."""
        first, second = made.source(0), made.source(1)
        if made.op == "MUL_MAT":
            return self._mixed is not None and second is not None and second.key == self._mixed
        follows = self._out is not None and first is not None and first.key == self._out
        return follows and (made.op == "GET_ROWS" or (made.op == "ADD" and second is not None and second.op == "NONE"))


def _expansions(act: Made) -> Iterator[tuple[str, Made]]:
    """What was bent and multiplied into the value that enters the contraction."""
    first, second = _root(act.source(0)), _root(act.source(1))
    if act.op in ("GLU", "MUL"):
        if first is not None and second is not None:
            yield "mlp.gate", first
            yield "mlp.up", second
    elif first is not None:
        yield "mlp.up", first


def _root(made: Made | None) -> Made | None:
    """What was made before activations bent it."""
    while made is not None and made.op in THROUGH:
        made = made.source(0)
    return made
