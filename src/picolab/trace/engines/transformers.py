"""transformers as an engine: any decoder folder it can open, or a GGUF file through its own reader, in float32.

    folder -> AutoModelForCausalLM -> past_key_values -> logits
                '- hooks and wrapped functions (transformers_flow.py) -> sites (transformers_sites.py)

No code of the checkpoint is run and nothing is fetched. While somebody watches, attention is the one that is written out in the
architecture's file (`eager`); otherwise the library's own choice. Wolf et al. 2020, arXiv:1910.03771.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from picolab.errors import BadCheckpoint, BadInput, MissingExtra
from picolab.trace.engines.engine import See
from picolab.trace.engines.limits import check_tokens
from picolab.trace.engines.transformers_flow import Flow, Keeping, watching_blocks
from picolab.trace.engines.transformers_sites import sites_of_block

ALL_POSITIONS = frozenset({"full_attention", "sliding_attention"})
"""Kinds of layers whose keys may be kept without end: a window then hides them, and scores have a column for each position."""


class Transformers:
    """A decoder in transformers, one text at a time."""

    def __init__(self, path: Path) -> None:
        self._library = _library()
        self.name = f"transformers {self._library.__version__}"
        self._source = _Source(path)
        self.model, self.unused = _load(self._library, self._source)
        config = self.model.config.get_text_config(decoder=True)
        self.vocab_size = int(config.vocab_size)
        self.context_length: int | None = getattr(config, "max_position_embeddings", None)
        kinds = set(getattr(config, "layer_types", None) or ALL_POSITIONS)
        if "past_key_values" not in inspect.signature(self.model.forward).parameters:
            raise BadCheckpoint(
                f"transformers keeps no keys and values for `{config.model_type}`, so it cannot read a text on",
                hint="decoders with attention can be read on",
            )
        self._cache_config = None if kinds <= ALL_POSITIONS else self.model.config
        self._blocks = _blocks(self.model, int(config.num_hidden_layers))
        self._tokenizer: Any = None
        self._cache: Any = None
        self._read = self._past = 0
        self._watch: tuple[See, Callable[[str], bool], Keeping] | None = None

    @classmethod
    def open(cls, path: Path) -> Transformers:
        """A Hugging Face folder or a .gguf file. `unused` names its tensors for which the architecture has no place."""
        return cls(Path(path))

    def forget(self) -> None:
        self._cache, self._read = None, 0

    @torch.inference_mode()
    def read(self, tokens: Sequence[int]) -> Tensor:
        check_tokens(tokens, before=self._read, vocab_size=self.vocab_size, context_length=self.context_length)
        if self._cache is None:
            self._cache = self._library.DynamicCache(config=self._cache_config)
        self._past = self._read + len(tokens)
        ids = torch.tensor([list(tokens)], device=self.model.device)
        try:
            with nullcontext() if self._watch is None else self._watch[2](self._cache):
                logits: Tensor = self.model(ids, past_key_values=self._cache, use_cache=True).logits
        except BaseException:
            self.forget()  # some layers have read on, others have not
            raise
        self._read = self._past
        if self._watch is not None:
            self._tell("logits", logits)
        return logits[0].float()

    def encode(self, text: str) -> list[int]:
        try:
            ids: list[int] = self._words().encode(text, add_special_tokens=False, split_special_tokens=True)
        except Exception as error:
            raise BadInput(f"transformers cannot encode the text: {_first_line(error)}") from error
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._words().decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    @contextmanager
    def watching(self, see: See, wanted: Callable[[str], bool]) -> Iterator[None]:
        if self._watch is not None:
            raise RuntimeError("somebody watches already")
        places = [f"blocks.{number}.attention.scores" for number in range(len(self._blocks))]
        head = self.model.get_output_embeddings()
        with ExitStack() as stack:
            stack.enter_context(_written_out(self._library, self.model))
            keeping = stack.enter_context(
                watching_blocks(self._blocks, self._passed, with_scores=any(wanted(place) for place in places))
            )
            if head is not None:
                stack.callback(head.register_forward_pre_hook(lambda _, args: self._tell("final_norm", args[0])).remove)
            self._watch = (see, wanted, keeping)
            try:
                yield
            finally:
                self._watch = None

    def _passed(self, number: int, flow: Flow) -> None:
        """A block is done."""
        if number == 0:
            self._tell("embed", flow.x)
        for place, value in sites_of_block(flow, self._past):
            self._tell(f"blocks.{number}.{place}", value)

    def _tell(self, site: str, value: Tensor) -> None:
        assert self._watch is not None
        see, wanted, _ = self._watch
        if wanted(site):
            see(site, value)

    def _words(self) -> Any:
        if self._tokenizer is None:
            with _quiet(self._library):
                self._tokenizer = _open_tokenizer(self._library, self._source)
        return self._tokenizer


class _Source:
    """Where the files are, and how the library is told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.parent if path.is_file() else path
        self.how: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        if path.is_file():
            self.how["gguf_file"] = path.name


def _library() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise MissingExtra("running a model in transformers", "reference") from error


def _load(library: Any, source: _Source) -> tuple[Any, tuple[str, ...]]:
    """The model, every parameter of it from the file; and the tensors of the file it has no place for."""
    if not source.path.exists():
        raise BadCheckpoint(f"`{source.path}` does not exist")
    if "gguf_file" in source.how:
        _needs_accelerate()
    try:
        with _quiet(library):
            model, report = library.AutoModelForCausalLM.from_pretrained(
                source.folder, dtype=torch.float32, output_loading_info=True, **source.how
            )
    except Exception as error:
        raise BadCheckpoint(f"transformers cannot open `{source.path}`: {_first_line(error)}") from error
    wrong = sorted(str(name) for key in ("missing_keys", "mismatched_keys") for name in report[key])
    if wrong:
        raise BadCheckpoint(
            f"transformers finds no `{wrong[0]}` in `{source.path}` and would begin it at random",
            hint=f"{len(wrong)} of its parameters have no tensor, or one of another shape",
        )
    return model.eval(), tuple(sorted(str(name) for name in report["unexpected_keys"]))


def _needs_accelerate() -> None:
    try:
        importlib.import_module("accelerate")
    except ImportError as error:
        raise MissingExtra("opening a GGUF file in transformers", "reference") from error


def _open_tokenizer(library: Any, source: _Source) -> Any:
    """The tokenizer beside the model. Beside some architectures AutoTokenizer would build its own and ignore tokenizer.json."""
    whole = (source.folder / "tokenizer.json").exists() and "gguf_file" not in source.how
    kind = library.PreTrainedTokenizerFast if whole else library.AutoTokenizer
    try:
        return kind.from_pretrained(source.folder, **source.how)
    except Exception as error:
        raise BadInput(
            f"transformers finds no tokenizer in `{source.path}`: {_first_line(error)}",
            hint="token ids can be read without one",
        ) from error


def _blocks(model: nn.Module, n_layers: int) -> list[nn.Module]:
    """The list of layers, in order: the first one in the model that has so many."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return list(module)
    return []


@contextmanager
def _written_out(library: Any, model: Any) -> Iterator[None]:
    """Attention as it is written in the architecture's file; where it cannot be chosen, sites inside it are absent."""
    usual = model.config._attn_implementation
    with _quiet(library):
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        with _quiet(library):
            model.set_attn_implementation(usual)


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Neither progress bars nor warnings on a person's terminal."""
    logging = library.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
