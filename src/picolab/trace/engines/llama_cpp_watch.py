"""How is llama.cpp watched while it computes? It asks about every tensor before it is made, and hands over the wanted ones.

asks(node) -> bool -> computed -> takes(node)      a copy: its memory is used again a few tensors later
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from picolab.trace.engines.engine import See
from picolab.trace.engines.ggml import Ggml, float_parameter, node_at
from picolab.trace.engines.llama_cpp_sites import HEADS, SQUARES, TURNED, Lanes, Places, place_of


class Live:
    """A tensor of the graph that is being computed."""

    def __init__(self, ggml: Ggml, pointer: int) -> None:
        self.ggml, self.key = ggml, pointer
        self.node = node_at(pointer)
        self.name = self.node.name.decode(errors="replace")
        self.op = ggml.op(self.node)

    def source(self, index: int) -> Live | None:
        pointer = self.node.src[index]
        return None if pointer is None else Live(self.ggml, pointer)


class Watch:
    """One pass. Values whose place only their reader can tell are held until it comes."""

    def __init__(self, ggml: Ggml, see: See, wanted: Callable[[str], bool], *, lanes: Lanes, past: int) -> None:
        self.ggml, self.see, self.wanted = ggml, see, wanted
        self.lanes, self.past = lanes, past
        self.places = Places()
        self.held: dict[int, Tensor] = {}

    def asks(self, pointer: int) -> bool:
        """Before a tensor is computed: whether its numbers are wanted."""
        made = Live(self.ggml, pointer)
        for settled, source in self.places.settled_by(made):
            value = self.held.pop(source.key, None)
            if value is not None:
                self._tell(settled, value * float_parameter(made.node, 0) if settled.endswith("scores") else value)
        site = self.places.site(made)
        if site is None:
            return any(self.wanted(possible) for possible in self.places.may_be(made))
        if place_of(site) == "resid_post":
            self.held.clear()
        return self.wanted(site)

    def takes(self, pointer: int) -> None:
        """A tensor whose numbers were wanted is computed."""
        made, value = Live(self.ggml, pointer), self.ggml.value(pointer)
        site = self.places.site(made)
        if value is None:
            return
        if site is None:
            self.held[pointer] = value
        else:
            self._tell(site, value)

    def _tell(self, site: str, value: Tensor) -> None:
        if not self.wanted(site):
            return
        place = place_of(site)
        if place in SQUARES:
            value = value[..., : self.past]
        elif place in TURNED and self.lanes == "unknown":
            return
        elif place in TURNED and self.lanes == "pairs":
            value = value.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)
        elif place not in HEADS:
            value = value.flatten(0, 2)[None]
        self.see(site, value)
