"""A small whole file of every kind that is read, and ways to break it: what hostile-file tests and the fuzz benchmark share."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from picolab.text.bpe import train_bpe
from picolab.text.spm import Kind, Pieces, spm_tokenizer
from picolab.weights.checkpoint import save_model
from picolab.weights.formats import open_checkpoint, open_tokenizer
from picolab.weights.gguf.write import write_gguf
from picolab.weights.llama2c import HEADER, layout
from picolab.weights.row_order import to_pairs
from picolab.zoo import build, settings_of

TINY = {"d_model": 12, "n_layers": 2, "n_heads": 2, "d_ff": 20, "context_length": 9}


@dataclass(frozen=True)
class Sample:
    """A file, and what opens it together with whatever lies beside it."""

    path: Path
    open: Callable[[], Any]


def pieces() -> Pieces:
    """A vocabulary of control tokens, 256 bytes and a few pieces."""
    words = ["▁", "a", "b", "c", "▁a", "ab", "▁ab", "abc", "ca", "▁ca", "bb", "é", "▁▁"]
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    kinds = [Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL, *[Kind.BYTE] * 256, *[Kind.NORMAL] * len(words)]
    return Pieces(texts=texts, scores=[0.0] * 259 + [-float(i) for i in range(len(words))], kinds=kinds)


def spm():
    return spm_tokenizer(pieces(), eot=2, bos=1)


def bpe():
    return train_bpe(["the cat sat on the mat, the hat of the cat; 12 34 12"] * 3, vocab_size=272)


def tiny(architecture: str, vocab_size: int, **settings):
    torch.manual_seed(0)
    sizes = {**TINY, "vocab_size": vocab_size}
    if architecture == "qwen3":
        sizes |= {"n_kv_heads": 1, "head_dim": 10}
    return build(architecture, {**sizes, **settings}).eval()


def write_llama2c(model, path: Path) -> None:
    """What llama2.c's legacy export writes for one of our Llamas."""
    settings, state = settings_of(model), model.state_dict()
    vocab = settings["vocab_size"] * (1 if settings["tied"] else -1)
    names = ("d_model", "d_ff", "n_layers", "n_heads", "n_kv_heads")
    with path.open("wb") as file:
        file.write(HEADER.pack(*(settings[name] for name in names), vocab, settings["context_length"]))
        for name, shape, each in layout(settings):
            for layer in range(settings["n_layers"] if each else 1):
                tensor = state[name.replace("{i}", str(layer))] if name else torch.zeros(shape)
                if name.endswith(("q_proj.weight", "k_proj.weight")):
                    tensor = to_pairs(tensor, settings["n_heads" if "q_proj" in name else "n_kv_heads"])
                file.write(tensor.contiguous().numpy().tobytes())


def write_llama2c_tokenizer(vocabulary: Pieces, path: Path) -> None:
    """What llama2.c's tokenizer.py writes."""
    texts = ["<unk>", "\n<s>\n", "\n</s>\n", *(text.replace("▁", " ") for text in vocabulary.texts[3:])]
    rows = (
        struct.pack("<fi", score, len(text.encode())) + text.encode()
        for text, score in zip(texts, vocabulary.scores, strict=True)
    )
    path.write_bytes(struct.pack("<i", max(len(text.encode()) for text in texts)) + b"".join(rows))


def write_sentencepiece(vocabulary: Pieces, path: Path) -> None:
    """The same vocabulary as SentencePiece writes one."""

    def varint(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)

    def message(number: int, content: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(content)) + content

    def number(field: int, value: int) -> bytes:
        return varint(field << 3) + varint(value)

    rows = (
        message(1, text.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score) + number(3, kind)
        for text, score, kind in zip(vocabulary.texts, vocabulary.scores, vocabulary.kinds, strict=True)
    )
    trainer = number(3, 2) + number(40, 0) + number(41, 1) + number(42, 2) + number(43, 2**64 - 1)
    normalizer = message(1, b"identity") + number(3, int(vocabulary.space_first)) + number(4, int(vocabulary.one_space))
    path.write_bytes(b"".join(message(1, row) for row in rows) + message(2, trainer) + message(3, normalizer))


def split_in_two(folder: Path) -> None:
    """A folder's one file of weights as two with an index."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    where = {name: f"model-0000{1 + n % 2}-of-00002.safetensors" for n, name in enumerate(tensors)}
    for file in set(where.values()):
        save_file({name: tensor.clone() for name, tensor in tensors.items() if where[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / "model.safetensors").unlink()


def _forget_ours(folder: Path) -> None:
    """Leave in a config.json what transformers would write."""
    config = json.loads((folder / "config.json").read_text())
    del config["picolab"]
    (folder / "config.json").write_text(json.dumps(config))


def samples(folder: Path) -> dict[str, Sample]:
    """Whole files of all kinds in a new folder, each with the call that opens it."""
    made: dict[str, Sample] = {}

    def add(name: str, path: Path, opens: Path | None = None, tokenizer: Path | None = None) -> None:
        made[name] = Sample(path, lambda: use(*open_checkpoint(opens or path, tokenizer)))

    spoken, words = spm(), bpe()
    llama = tiny("llama", spoken.vocab_size, n_kv_heads=1, tied=True)
    write_gguf(llama, spoken, folder / "llama.gguf")
    add("gguf llama", folder / "llama.gguf")
    scaled = tiny("qwen2", words.vocab_size, rope_scaling={"kind": "yarn", "factor": 2.0, "original_context_length": 5})
    write_gguf(scaled, words, folder / "qwen2.gguf", kind="F16")
    add("gguf qwen2", folder / "qwen2.gguf")
    gpt2 = tiny("gpt2", words.vocab_size, d_model=32, d_ff=64)
    write_gguf(gpt2, words, folder / "gpt2.gguf", kind="Q8_0")
    add("gguf gpt2", folder / "gpt2.gguf")
    (folder / "c").mkdir()
    write_llama2c(llama, folder / "c" / "model.bin")
    write_llama2c_tokenizer(pieces(), folder / "c" / "tokenizer.bin")
    add("llama2c model", folder / "c" / "model.bin")
    add("llama2c tokenizer", folder / "c" / "tokenizer.bin", folder / "c" / "model.bin")
    write_sentencepiece(pieces(), folder / "tokenizer.model")
    made["sentencepiece"] = Sample(
        folder / "tokenizer.model", lambda: use(llama, open_tokenizer(folder / "tokenizer.model"))
    )
    hub = folder / "hub"
    save_model(tiny("qwen3", words.vocab_size, n_kv_heads=1), words, hub)
    for name in (
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "picolab_tokenizer.json",
        "tokenizer_config.json",
    ):
        add(f"hub {name}", hub / name, hub)
    experts = folder / "experts"
    save_model(tiny("gpt_oss", words.vocab_size, n_kv_heads=1, window=4), None, experts)
    _forget_ours(experts)
    for name in ("config.json", "model.safetensors"):
        add(f"experts {name}", experts / name, experts)
    shards = folder / "shards"
    save_model(tiny("llama", words.vocab_size, n_kv_heads=1), None, shards)
    _forget_ours(shards)
    split_in_two(shards)
    for name in ("config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"):
        add(f"shards {name}", shards / name, shards)
    pickled = folder / "pickled"
    save_model(tiny("gpt2", words.vocab_size), None, pickled)
    from safetensors.torch import load_file

    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    add("pickle", pickled / "pytorch_model.bin", pickled)
    return made


def use(model, tokenizer) -> None:
    """A file that opens must also serve: a text is encoded and read."""
    ids = [1, 2, 3]
    if tokenizer is not None:
        ids = tokenizer.encode("a cat, é")[:5] or ids
        tokenizer.decode(ids)
    with torch.inference_mode():
        model(torch.tensor([ids[: model.config.context_length]]) % model.config.vocab_size)


EXTREMES = (0, 1, 2, 3, 7, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**60, 2**63 - 1, 2**63, 2**64 - 1)


def mutate(whole: bytes, rng: random.Random) -> bytes:
    """The file with one to four things done to it, most of them near its beginning."""
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not data:
            break
        reach = len(data) if rng.random() < 0.3 else min(len(data), rng.choice((32, 300, 3000)))
        at = rng.randrange(reach)
        match rng.randrange(8):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.randrange(256)
            case 2:
                del data[rng.randrange(len(data)) :]
            case 3:
                data[at : at + 4] = struct.pack("<I", rng.choice(EXTREMES) & 0xFFFFFFFF)
            case 4:
                data[at : at + 8] = struct.pack("<Q", rng.choice(EXTREMES))
            case 5:
                del data[at : at + rng.choice((1, 4, 8, 60))]
            case 6:
                data[at:at] = data[at : at + rng.choice((1, 4, 8, 60))]
            case 7:
                other = rng.randrange(len(data))
                data[at : at + 8] = data[other : other + 8]
    return bytes(data)
