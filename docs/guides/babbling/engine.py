"""A person's engine for models of Qwen2's shape, in NumPy: it loads everything, crashes nowhere, and babbles.

python engine.py FOLDER "Old Tom"                what it writes, greedily
python engine.py FOLDER "Old Tom" --dump five    and five arrays of its first pass, as a bundle for `picolab diff`
"""

import json
import math
import re
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

LETTERS = [*range(33, 127), *range(161, 173), *range(174, 256)]
OTHERS = [byte for byte in range(256) if byte not in LETTERS]
ALPHABET = {byte: chr(byte) for byte in LETTERS} | {byte: chr(256 + n) for n, byte in enumerate(OTHERS)}
WORDS = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


class Tokenizer:
    """Byte-level byte-pair encoding, read from tokenizer.json."""

    def __init__(self, path):
        model = json.loads(Path(path).read_text(encoding="utf-8"))["model"]
        self.ids = model["vocab"]
        self.strings = {token: string for string, token in self.ids.items()}
        pairs = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
        self.rank = {pair: n for n, pair in enumerate(pairs)}

    def encode(self, text):
        return [self.ids[part] for word in WORDS.findall(text) for part in self._merged(word)]

    def _merged(self, word):
        parts = [ALPHABET[byte] for byte in word.encode("utf-8")]
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: self.rank.get(pair, math.inf))
            if best not in self.rank:
                break
            joined, n = [], 0
            while n < len(parts):
                both = tuple(parts[n : n + 2]) == best
                joined.append(parts[n] + parts[n + 1] if both else parts[n])
                n += 2 if both else 1
            parts = joined
        return parts

    def decode(self, ids):
        return "".join(self.strings.get(i, "") for i in ids)


def norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def rotate(x, positions, theta):
    """Turn the pairs of lanes of every head, `(time, heads, lanes)`, by angles that grow with the position."""
    half = x.shape[-1] // 2
    angles = positions[:, None, None] * theta ** (-np.arange(half) / half)
    cos, sin = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
    a, b = x[..., 0::2], x[..., 1::2]
    return np.stack((a * cos - b * sin, b * cos + a * sin), -1).reshape(x.shape)


def attend(q, k, v):
    """Every query reads keys up to its own position; heads in groups share keys and values."""
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
    scores = np.where(np.tri(len(q), dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("hqk,khd->qhd", weights / weights.sum(-1, keepdims=True), v)


class Engine:
    """Tokens in, logits out; the whole text is read again for every token."""

    trained = True

    def __init__(self, folder):
        self.config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        self.weights = load_file(Path(folder) / "model.safetensors")
        self.tokenizer = Tokenizer(Path(folder) / "tokenizer.json")

    def __call__(self, tokens):
        """Logits `(batch, time, vocab)`."""
        return np.stack([self.run(row) for row in np.asarray(tokens)])

    def run(self, tokens, note=lambda site, value: None):
        c, w = self.config, self.weights
        positions, eps = np.arange(len(tokens)), c["rms_norm_eps"]
        theta = c.get("rope_theta") or c["rope_parameters"]["rope_theta"]
        x = w["model.embed_tokens.weight"][tokens]
        note("embed", x)
        for i in range(c["num_hidden_layers"]):
            at = f"model.layers.{i}."

            def part(name, y, at=at):
                return y @ w[at + name + ".weight"].T + w.get(at + name + ".bias", np.float32(0))

            y = norm(x, w[at + "input_layernorm.weight"], eps)
            q, k, v = (part(f"self_attn.{n}_proj", y) for n in "qkv")
            q = rotate(q.reshape(len(tokens), c["num_attention_heads"], -1), positions, theta)
            k = rotate(k.reshape(len(tokens), c["num_key_value_heads"], -1), positions, theta)
            v = v.reshape(k.shape)
            note(f"blocks.{i}.attention.q_rope", q)
            y = part("self_attn.o_proj", attend(q, k, v).reshape(len(tokens), -1))
            note(f"blocks.{i}.attention.out", y)
            x = x + y
            y = norm(x, w[at + "post_attention_layernorm.weight"], eps)
            gate = part("mlp.gate_proj", y)
            x = x + part("mlp.down_proj", gate / (1 + np.exp(-gate)) * part("mlp.up_proj", y))
            note(f"blocks.{i}.resid_post", x)
        logits = norm(x, w["model.norm.weight"], eps) @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T
        note("logits", logits)
        return logits

    def prompt(self, text):
        """A text's ids, after the token that opens every text."""
        return [self.config["bos_token_id"], *self.tokenizer.encode(text)]

    def write(self, text):
        """The text and what follows, the likeliest token each time, until the end or a full context."""
        ids = self.prompt(text)
        while len(ids) <= self.config["max_position_embeddings"]:
            ids.append(int(self.run(ids)[-1].argmax()))
            if ids[-1] == self.config["eos_token_id"]:
                break
        return self.tokenizer.decode(ids[1:])


FIVE = {
    "embed": "batch time d_model",
    "blocks.0.attention.q_rope": "batch time heads head_dim",
    "blocks.0.attention.out": "batch time d_model",
    "blocks.0.resid_post": "batch time d_model",
    "logits": "batch time vocab",
}


def dump(engine, text, folder):
    """Five arrays of one pass, as a bundle."""
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    tokens, entries = engine.prompt(text), []

    def note(site, value):
        if site in FIVE:
            np.save(folder / f"{len(entries)}.npy", value[None])
            entries.append(
                {
                    "site": site,
                    "phase": "prefill",
                    "step": 0,
                    "positions": list(range(len(tokens))),
                    "dims": FIVE[site],
                    "file": f"{len(entries)}.npy",
                }
            )

    engine.run(tokens, note)
    trace = {
        "format": "picolab-trace/1",
        "engine": "my engine 0.1",
        "dtype": "float32",
        "tokens": [tokens],
        "entries": entries,
    }
    (folder / "trace.json").write_text(json.dumps(trace), encoding="utf-8")


def make():
    """For `picolab doctor engine.py:make`."""
    return Engine(newest("runs/tale"))


def newest(run):
    """The last checkpoint of a run."""
    return max(Path(run).glob("checkpoints/step-*"))


def main(folder, text, *rest):
    print(Engine(folder).write(text))
    if rest[:1] == ("--dump",):
        dump(Engine(folder), text, rest[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
