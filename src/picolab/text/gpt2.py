"""GPT-2's vocabulary: 50,257 byte-level tokens. Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".

    encoder.json (token -> id) + vocab.bpe (pairs, most frequent first)         OpenAI's names
    vocab.json                 + merges.txt                                     Hugging Face's names, the same content

Looked for in the folder given, else in the folder the variable PICOLAB_GPT2 names, else in $PICOLAB_SHARED/data/gpt2
(PICOLAB_SHARED is ../shared unless set), else on the hub. A folder that is named and does not serve is an error: nothing
else is tried in its place.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from picolab.errors import BadCheckpoint, BadData, MissingExtra
from picolab.text.spelling import BYTE_TO_CHARACTER
from picolab.text.tokenizer import EOT, Tokenizer, closed

NAMES = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
REPOSITORY = "openai-community/gpt2"
HINT = "give the folder of encoder.json and vocab.bpe with `--gpt2-dir` or the variable PICOLAB_GPT2"


def gpt2_tokenizer(folder: Path | None = None) -> Tokenizer:
    """GPT-2's tokenizer, from the first of the places above."""
    vocabulary_file, pairs_file = _files(folder)
    try:
        vocabulary = json.loads(vocabulary_file.read_text(encoding="utf-8"))
        lines = pairs_file.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:  # ValueError: not JSON, not UTF-8
        where = vocabulary_file.parent
        raise BadCheckpoint(f"GPT-2's vocabulary in `{where}` cannot be read: {error}", hint=HINT) from error
    pairs = [line.split(" ") for line in lines if line.strip() and not line.startswith("#version")]
    # A file cut short still loads, and gives other ids: count.
    expected = len(BYTE_TO_CHARACTER) + len(pairs) + 1
    whole = isinstance(vocabulary, dict) and len(vocabulary) == expected and all(len(pair) == 2 for pair in pairs)
    if not whole or EOT not in vocabulary or sorted(vocabulary.values()) != list(range(expected)):
        raise BadCheckpoint(
            f"`{vocabulary_file}` has {len(vocabulary):,} tokens, and {pairs_file.name} has {len(pairs):,} pairs",
            hint=f"{len(pairs):,} pairs, 256 bytes and `{EOT}` would be {expected:,}: a file is torn or foreign",
        )
    try:
        inner = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[(left, right) for left, right in pairs]))
    except Exception as error:  # the library raises nothing more particular
        message = f"`{vocabulary_file}` and {pairs_file.name} do not belong together: {error}"
        raise BadCheckpoint(message, hint=HINT) from error
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return closed(inner, kind="gpt2")


def _files(folder: Path | None) -> tuple[Path, Path]:
    named = os.environ.get("PICOLAB_GPT2")
    if folder is not None:
        return _pair_in(folder, "the folder given for GPT-2's vocabulary")
    if named:
        return _pair_in(Path(named), "the folder of the variable PICOLAB_GPT2")
    shared = Path(os.environ.get("PICOLAB_SHARED") or "../shared") / "data" / "gpt2"
    return _pair_in(shared, "the shared folder") if shared.is_dir() else _from_hub()


def _pair_in(folder: Path, what: str) -> tuple[Path, Path]:
    for names in NAMES:
        vocabulary, pairs = (folder / name for name in names)
        if vocabulary.is_file() and pairs.is_file():
            return vocabulary, pairs
    raise BadData(f"{what}, `{folder}`, does not hold encoder.json and vocab.bpe", hint=HINT)


def _from_hub() -> tuple[Path, Path]:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise MissingExtra("GPT-2's vocabulary from the hub", "hub") from error
    try:
        vocabulary, pairs = (Path(hf_hub_download(REPOSITORY, name)) for name in NAMES[1])
    except (OSError, HfHubHTTPError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = f"GPT-2's vocabulary is not on this machine and the hub does not answer: {reason}"
        raise BadData(message, hint=HINT) from error
    return vocabulary, pairs
