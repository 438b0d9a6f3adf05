"""llama.cpp as an engine, through llama-cpp-python: a GGUF file runs, and every tensor of its graph can be looked at.

    file -> model -> context (keys and values of what was read, as long as needed) -> logits at every position
                        '- before and after every tensor: Watch; llama_cpp_sites.py says which is which site

Everything is float32 where the file lets it be: the cache too, no flash attention, no repacked weights, no GPU. A file without
tokenizer is opened as one that has none, which llama.cpp does only when told. A file that nobody trusts is to be read by picolab
first: llama.cpp ends the process over some broken ones. github.com/ggml-org/llama.cpp, include/llama.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from picolab.errors import BadCheckpoint, BadInput
from picolab.trace.engines.engine import See
from picolab.trace.engines.limits import check_tokens
from picolab.trace.engines.llama_cpp_sites import Lanes
from picolab.trace.engines.llama_cpp_watch import Watch
from picolab.trace.engines.llama_library import Context, Library, Model, Observer, library

SMALLEST = 256
"""llama.cpp makes every context a multiple of this."""

TOKENIZER = "tokenizer.ggml.model"
IN_PAIRS, NO_TOKENIZER = 0, 0
"""llama.h: LLAMA_ROPE_TYPE_NORM, LLAMA_VOCAB_TYPE_NONE."""


class LlamaCpp:
    """A GGUF file in llama.cpp, one text at a time."""

    def __init__(self, path: Path, *, context_length: int | None = None) -> None:
        self._library = library()
        self._api = self._library.api
        self.name = f"llama.cpp (llama-cpp-python {self._library.version})"
        self._model = _load(self._library, path)
        self._vocab = self._api.llama_model_get_vocab(self._model.pointer)
        self.vocab_size = int(self._api.llama_vocab_n_tokens(self._vocab))
        self._rope_type = int(self._api.llama_model_rope_type(self._model.pointer))
        self.context_length = self._checked(context_length)
        self._lanes = _lanes(self._model, self._rope_type)
        self._read = 0
        self._context: Context | None = None
        self._observer = Observer(self._library)
        self._see: tuple[See, Callable[[str], bool]] | None = None

    @classmethod
    def open(cls, path: Path, *, context_length: int | None = None) -> LlamaCpp:
        """A .gguf file. `context_length` is how far it may read; the file's own if not given. Memory grows with what is read."""
        return cls(Path(path), context_length=context_length)

    def forget(self) -> None:
        self._read = 0
        if self._context is not None:
            self._context.clear()

    def read(self, tokens: Sequence[int]) -> Tensor:
        check_tokens(tokens, before=self._read, vocab_size=self.vocab_size, context_length=self.context_length)
        past = self._read + len(tokens)
        context = self._large_enough(past, len(tokens))
        if self._see is not None:
            self._observer.watch = Watch(self._library.ggml, *self._see, lanes=self._lanes, past=past)
        try:
            failed = context.decode(tokens, self._read)
        finally:
            self._observer.watch = None
        error, self._observer.error = self._observer.error, None
        if error is not None or failed:
            self.forget()
            raise error or BadInput(f"llama.cpp could not read {len(tokens)} tokens: {self._library.reason()}")
        self._read = past
        return context.logits(len(tokens), self.vocab_size)

    def encode(self, text: str) -> list[int]:
        self._needs_tokenizer()
        try:
            raw = text.encode()
        except UnicodeEncodeError as error:
            raise BadInput(f"the text cannot be written as UTF-8: {error.reason}") from error
        room = len(raw) + 2
        while True:
            ids = (ctypes.c_int32 * room)()
            found = self._api.llama_tokenize(self._vocab, raw, len(raw), ids, room, False, False)
            if found >= 0:
                return list(ids[:found])
            room = -found

    def decode(self, ids: Sequence[int]) -> str:
        self._needs_tokenizer()
        if not ids:
            return ""
        check_tokens(ids, before=0, vocab_size=self.vocab_size, context_length=None)
        # Left out here: llama.cpp leaves them out too, but then keeps the space that it puts before a text's first word.
        ids = [token for token in ids if not self._api.llama_vocab_is_control(self._vocab, token)]
        tokens = (ctypes.c_int32 * len(ids))(*ids)
        room = 16 * len(ids) + 1
        while True:
            raw = ctypes.create_string_buffer(room)
            found = self._api.llama_detokenize(self._vocab, tokens, len(ids), raw, room, False, False)
            if found >= 0:
                return raw.raw[:found].decode(errors="replace")
            room = -found

    @contextmanager
    def watching(self, see: See, wanted: Callable[[str], bool]) -> Iterator[None]:
        if self._see is not None:
            raise RuntimeError("somebody watches already")
        self._see = (see, wanted)
        try:
            yield
        finally:
            self._see = None

    def _checked(self, context_length: int | None) -> int:
        trained = int(self._api.llama_model_n_ctx_train(self._model.pointer))
        if context_length is None:
            return trained
        learned = self._rope_type < 0
        if context_length < 1 or (learned and context_length > trained):
            raise BadInput(
                f"a context of {context_length} where the model has {trained} positions",
                hint="learned positions end where training did" if learned else None,
            )
        return context_length

    def _large_enough(self, past: int, time: int) -> Context:
        """The context, or a larger one that has taken over what was read."""
        old = self._context
        if old is None or old.capacity < past or old.most < time:
            capacity = max(SMALLEST, 1 << (past - 1).bit_length(), old.capacity if old else 0)
            most = max(32, 1 << (time - 1).bit_length(), old.most if old else 0)
            new = Context(self._model, self._observer, capacity=capacity, most=min(most, capacity))
            if old is not None and self._read:
                new.take_over(old)
            if old is not None:
                old.free()
            self._context = new
        assert self._context is not None
        return self._context

    def _needs_tokenizer(self) -> None:
        if self._api.llama_vocab_type(self._vocab) == NO_TOKENIZER:
            raise BadInput("the model has no tokenizer", hint="token ids can be read without one")


def _load(opened: Library, path: Path) -> Model:
    """The model of a file; one without tokenizer is opened as one that has none."""
    try:
        return opened.load(path)
    except BadCheckpoint as error:
        if TOKENIZER not in str(error):
            raise
        return opened.load(path, instead={TOKENIZER: "no_vocab"})


def _lanes(model: Model, rope_type: int) -> Lanes:
    """The order of the lanes of queries and keys in this file."""
    if rope_type != IN_PAIRS:
        return "halves"
    architecture = model.field("general.architecture")
    turned = model.field(f"{architecture}.rope.dimension_count")
    width = model.field(f"{architecture}.attention.key_length")
    if width is None:
        d_model, heads = (model.field(f"{architecture}.{key}") for key in ("embedding_length", "attention.head_count"))
        width = str(int(d_model) // int(heads)) if d_model and heads and heads.isdigit() else None
    # Where only a part of a head is turned, converters do not agree about the rest.
    return "pairs" if turned is None or turned == width else "unknown"
