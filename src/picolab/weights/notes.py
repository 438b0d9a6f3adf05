"""What must somebody know who opens a converted model with another engine? One sentence for each thing that is not in the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from picolab.models.contract import LanguageModel
from picolab.text.tokenizer import Tokenizer
from picolab.weights.destination import FOLDER, GGUF
from picolab.weights.gguf.write_vocabulary import cuts_as


def notes(model: LanguageModel, tokenizer: Tokenizer | None, written_as: str, kinds: Sequence[str]) -> Iterator[str]:
    """The sentences, for a format and the types that its tensors have."""
    if written_as == GGUF:
        yield from _of_gguf(model, tokenizer, kinds)
    elif written_as == FOLDER:
        yield from _of_folder(model, tokenizer)
    elif tokenizer is not None and tokenizer.chat_template is not None:
        yield "its chat template has no place in the format and is left out"
    if tokenizer is None:
        yield "there is no tokenizer in it"


def _of_gguf(model: LanguageModel, tokenizer: Tokenizer | None, kinds: Sequence[str]) -> Iterator[str]:
    if model.gguf is not None:
        yield f"llama.cpp runs it as the architecture `{model.gguf.architecture}`"
    window = getattr(model.config, "window", 0)
    if window:
        yield f"its window of {window} tokens is not in the file: it is never reached in its context"
    if "Q8_0" in kinds and "F16" in kinds:
        yield f"{kinds.count('F16')} tensors are F16: their rows are no multiple of the 32 numbers of a Q8_0 block"
    if tokenizer is not None and not json.loads(tokenizer.inner.to_str())["model"].get("merges"):
        yield "a vocabulary of bytes is read by llama.cpp, and not by transformers' reader of GGUF files"


def _of_folder(model: LanguageModel, tokenizer: Tokenizer | None) -> Iterator[str]:
    if model.hugging_face is None:
        yield f"transformers does not know the architecture `{model.architecture}`: only picolab opens it"
        return
    yield f"transformers opens it as {model.hugging_face.class_name}"
    if model.architecture == "gpt_oss":
        yield "there an up projection is computed as (up - 1) + 1, which costs digits in bfloat16: run it in float32"
    if tokenizer is not None and model.architecture == "qwen2" and not cuts_as(tokenizer, "qwen2"):
        yield "beside a qwen2 AutoTokenizer puts Qwen2's rule for words in the place of this one: use PreTrainedTokenizerFast"
    if tokenizer is not None and tokenizer.keep is not None:
        yield f"tokens outside the compact vocabulary get ids from {tokenizer.vocab_size} up in transformers"
