"""What of llama.cpp is needed to load a model, read tokens and look on? github.com/ggml-org/llama.cpp, include/llama.h.

    Library   the functions, quiet, with the reasons they would have printed
    Model     the weights of a file            Context   keys and values of one text
    Observer  what llama.cpp calls at every tensor of the graph

What C owns is freed when the Python object goes; a context keeps its model.
"""

from __future__ import annotations

import ctypes
import importlib
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from picolab.errors import BadCheckpoint, BadInput, MissingExtra
from picolab.trace.engines.ggml import Ggml
from picolab.trace.engines.llama_cpp_watch import Watch

F32, NO_FLASH, ERROR = 0, 0, 4
"""GGML_TYPE_F32, LLAMA_FLASH_ATTN_TYPE_DISABLED, GGML_LOG_LEVEL_ERROR."""


EMPTY: Mapping[str, str] = MappingProxyType({})


class Library:
    """llama-cpp-python's C interface."""

    def __init__(self) -> None:
        try:
            self.api: Any = importlib.import_module("llama_cpp.llama_cpp")
            package: Any = importlib.import_module("llama_cpp")
            extensions: Any = importlib.import_module("llama_cpp._ctypes_extensions")
        except ImportError as error:
            raise MissingExtra("running a model in llama.cpp", "reference") from error
        self.version: str = package.__version__
        self.ggml = Ggml(extensions.load_shared_library("ggml-base", Path(package.__file__).parent / "lib"))
        self.ggml.check_layout()
        self._complaints: deque[str] = deque(maxlen=20)
        self._log = self.api.llama_log_callback(self._note)
        self.api.llama_log_set(self._log, None)
        self.api.llama_backend_init()

    def load(self, path: Path, *, instead: Mapping[str, str] = EMPTY) -> Model:
        """The model of a file, on the processor, its weights as they lie in the file, some texts of its header replaced."""
        parameters = self.api.llama_model_default_params()
        parameters.n_gpu_layers = 0
        parameters.use_extra_bufts = False  # no repacking: other orders of summation
        replaced = (self.api.llama_model_kv_override * (len(instead) + 1))()  # the last one, empty, ends the list
        for entry, (key, value) in zip(replaced, instead.items(), strict=False):
            entry.key, entry.tag = key.encode(), self.api.LLAMA_KV_OVERRIDE_TYPE_STR
            entry.value.val_str = value.encode()
        parameters.kv_overrides = replaced
        self._complaints.clear()
        pointer = self.api.llama_model_load_from_file(str(path).encode(), parameters)
        if not pointer:
            raise BadCheckpoint(f"llama.cpp cannot open `{path}`: {self.reason()}")
        return Model(self, pointer)

    def reason(self) -> str:
        """The first thing the library complained about, without the name of the function that did."""
        first = next(iter(self._complaints), "it does not say why")
        return first.rpartition("error loading model: ")[2].strip()

    def _note(self, level: int, text: bytes, _: Any) -> None:
        if level == ERROR:
            self._complaints.append(text.decode(errors="replace"))


@cache
def library() -> Library:
    """The one there is in a process: C may call its log at any time."""
    return Library()


class Model:
    """Weights in memory."""

    def __init__(self, library: Library, pointer: int) -> None:
        self.library, self.pointer = library, pointer
        self._freed = weakref.finalize(self, library.api.llama_model_free, pointer)

    def field(self, key: str) -> str | None:
        """What the file says under a key, as text."""
        room = ctypes.create_string_buffer(256)
        found = self.library.api.llama_model_meta_val_str(self.pointer, key.encode(), room, len(room))
        return None if found < 0 else room.value.decode(errors="replace")


class Observer:
    """Whom llama.cpp asks about every tensor: the watch of this pass, or nobody."""

    def __init__(self, library: Library) -> None:
        self.watch: Watch | None = None
        self.error: BaseException | None = None
        self.ggml: Ggml = library.ggml
        self.callback = library.api.ggml_backend_sched_eval_callback(self._look)
        self._layout_known = False

    def _look(self, pointer: int, asking: bool, _: Any) -> bool:
        """Before a tensor is computed: is it wanted? After: shall the pass go on? An exception must not reach C."""
        if self.watch is None or self.error is not None:
            return False
        try:
            if not self._layout_known:
                self.ggml.check_layout(pointer)
                self._layout_known = True
            if asking:
                return self.watch.asks(pointer)
            self.watch.takes(pointer)
        except BaseException as error:  # noqa: BLE001  (raised again where Python is)
            self.error = error
            return False
        return True


class Context:
    """Room for `capacity` positions of one text, read at most `most` at a time."""

    def __init__(self, model: Model, observer: Observer, *, capacity: int, most: int) -> None:
        self.api, self.model, self.observer = model.library.api, model, observer
        self.capacity, self.most = capacity, most
        parameters = self.api.llama_context_default_params()
        parameters.n_ctx, parameters.n_batch, parameters.n_ubatch, parameters.n_seq_max = capacity, most, most, 1
        parameters.n_threads = parameters.n_threads_batch = torch.get_num_threads()
        parameters.flash_attn_type = NO_FLASH
        parameters.type_k = parameters.type_v = F32
        parameters.offload_kqv = parameters.op_offload = False
        parameters.swa_full = True  # a sliding window hides keys, it does not drop them
        parameters.cb_eval = observer.callback
        self.pointer = self.api.llama_init_from_model(model.pointer, parameters)
        if not self.pointer:
            raise BadInput(f"llama.cpp cannot set aside {capacity} positions: {model.library.reason()}")
        self.free = weakref.finalize(self, self.api.llama_free, self.pointer)

    def clear(self) -> None:
        """Forget what was read."""
        self.api.llama_memory_clear(self.api.llama_get_memory(self.pointer), True)

    def take_over(self, other: Context) -> None:
        """Keys and values of what another context has read, as they are."""
        size = self.api.llama_state_seq_get_size(other.pointer, 0)
        state = (ctypes.c_uint8 * size)()
        written = self.api.llama_state_seq_get_data(other.pointer, state, size, 0)
        if not written or not self.api.llama_state_seq_set_data(self.pointer, state, written, 0):
            raise BadInput(f"llama.cpp could not move what it has read: {self.model.library.reason()}")

    def decode(self, tokens: Sequence[int], before: int) -> bool:
        """Read tokens after `before` others, with logits at each of them; whether it failed."""
        batch = self.api.llama_batch_init(len(tokens), 0, 1)
        try:
            batch.n_tokens = len(tokens)
            for i, token in enumerate(tokens):
                batch.token[i], batch.pos[i], batch.logits[i] = token, before + i, True
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            return bool(self.api.llama_decode(self.pointer, batch) != 0)
        finally:
            self.api.llama_batch_free(batch)

    def logits(self, time: int, vocab_size: int) -> Tensor:
        """Logits of the tokens last read, a copy."""
        return torch.from_numpy(
            np.ctypeslib.as_array(self.api.llama_get_logits(self.pointer), (time, vocab_size)).copy()
        )
