"""How long does it take to open a model, and how much memory does it take then, against transformers and llama.cpp?

    python benchmarks/loading.py [--json]      a llama of 56 M parameters (225 MB in float32) in four files

Every opening is a process of its own, all arms in turn: it imports what it needs and opens a model of two small layers, so that
nothing is loaded late; from there on the time and the memory are counted. It opens the model, then reads 8 tokens: a mapped file is
read when it is used. The logits that follow are compared with picolab's in float32, so an arm that opened something else shows.

    peak        the most that was resident, above what was before the model was opened
    own         anonymous memory afterwards, above what was before: a copy of the process's own
    mapped      pages of files that are resident afterwards, above what was before: the system's to drop and read again
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from decoding import SIZES

from harness import finish

TOKENS = [(7 * i + 3) % 4096 for i in range(8)]
SMALL = {
    "vocab_size": 4096,
    "context_length": 64,
    "d_model": 64,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "d_ff": 96,
}

ARMS = [
    ("picolab", "folder", "float32"),
    ("transformers", "folder", "float32"),
    ("picolab", "folder", "bfloat16"),
    ("transformers", "folder", "bfloat16"),
    ("picolab", "folder", "int8"),
    ("picolab", "F32.gguf", "float32"),
    ("transformers", "F32.gguf", "float32"),
    ("llama.cpp", "F32.gguf", "as stored"),
    ("picolab", "F32.gguf", "int8"),
    ("picolab", "Q8_0.gguf", "float32"),
    ("transformers", "Q8_0.gguf", "float32"),
    ("picolab", "Q8_0.gguf", "stored"),
    ("llama.cpp", "Q8_0.gguf", "as stored"),
]

Open = Callable[[], Callable[[], Any]]


def picolab(path: Path, form: str) -> Open:
    import torch

    from picolab.weights.formats import open_checkpoint

    def open_() -> Callable[[], Any]:
        model = open_checkpoint(path, dtype=form)[0]

        @torch.inference_mode()
        def read() -> Any:
            features = model.features(torch.tensor([TOKENS]))[:, -1:]
            return model.head(features)[0, 0].float().numpy()

        return read

    return open_


def transformers(path: Path, form: str) -> Open:
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    place = {"gguf_file": path.name} if path.suffix == ".gguf" else {}

    def open_() -> Callable[[], Any]:
        folder = path.parent if place else path
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, form), **place).eval()

        @torch.inference_mode()
        def read() -> Any:
            return model(torch.tensor([TOKENS]), logits_to_keep=1).logits[0, 0].float().numpy()

        return read

    return open_


def llama_cpp(path: Path, form: str) -> Open:
    import ctypes

    import llama_cpp as c
    import numpy as np

    c.llama_backend_init()
    silent = c.llama_log_callback(lambda *_: None)
    c.llama_log_set(silent, ctypes.c_void_p(0))

    def open_() -> Callable[[], Any]:
        parameters = c.llama_model_default_params()
        instead = (c.llama_model_kv_override * 2)()  # the file holds no words, and needs none
        instead[0].key, instead[0].tag = b"tokenizer.ggml.model", c.LLAMA_KV_OVERRIDE_TYPE_STR
        instead[0].value.val_str = b"no_vocab"
        parameters.kv_overrides = instead
        model = c.llama_model_load_from_file(str(path).encode(), parameters)
        settings = c.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = 64
        settings.n_threads = settings.n_threads_batch = threads()
        context = c.llama_init_from_model(model, settings)
        vocab_size = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))

        tokens = (c.llama_token * len(TOKENS))(*TOKENS)

        def read(_: object = (silent, model)) -> Any:
            if c.llama_decode(context, c.llama_batch_get_one(tokens, len(tokens))):
                raise RuntimeError("llama.cpp could not read")
            return np.array(np.ctypeslib.as_array(c.llama_get_logits_ith(context, -1), (vocab_size,)))

        return read

    return open_


MAKERS: dict[str, Callable[[Path, str], Open]] = {
    "picolab": picolab,
    "transformers": transformers,
    "llama.cpp": llama_cpp,
}


def threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def worker(who: str, file: str, form: str, folder: str) -> None:
    """Open one model once; what it took, as JSON."""
    import numpy as np

    MAKERS[who](Path(folder) / "small" / file, form)()()  # what is imported late is imported now
    open_ = MAKERS[who](Path(folder) / "large" / file, form)
    Path("/proc/self/clear_refs").write_text("5")  # the kernel counts the peak from here
    before, start = status(), time.perf_counter()
    read = open_()
    opened = time.perf_counter()
    logits = read()
    done, after = time.perf_counter(), status()
    np.save(Path(folder) / f"{who} {file} {form}.npy", logits)
    took = {"open": opened - start, "both": done - start, "peak": after["VmHWM"] - before["VmRSS"]}
    print(
        json.dumps(
            {**took, "own": after["RssAnon"] - before["RssAnon"], "mapped": after["RssFile"] - before["RssFile"]}
        )
    )


def status() -> dict[str, float]:
    """What the kernel says of this process, in MB."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0][:-1]: int(words[1]) * 1024 / 1e6 for words in lines if words[0].startswith(("Vm", "Rss"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="the 1.8 M-parameter llama, to see whether it runs")
    parser.add_argument("--worker", nargs=4)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.worker:
        worker(*args.worker)
        return
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    taken: dict[tuple[str, str, str], list[dict[str, float]]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        count = export(SIZES["1.8 M" if args.small else "56 M"], Path(folder) / "large")
        export(SMALL, Path(folder) / "small")
        for at in range(args.rounds + 1):
            for arm in ARMS:
                if at and not taken[arm] and at > 1:
                    continue  # it does not run here
                command = [sys.executable, __file__, "--worker", *arm, folder]
                ran = subprocess.run(command, capture_output=True, text=True, check=False)
                if ran.returncode == 0 and at:  # the first round brings the files into the system's memory
                    taken[arm].append(json.loads(ran.stdout.splitlines()[-1]))
                elif ran.returncode and at == 1:
                    print(f"{' '.join(arm)}: {(ran.stderr.strip() or 'no word').splitlines()[-1]}", file=sys.stderr)
        rows = [row(arm, taken[arm], Path(folder)) for arm in ARMS]
    finish(
        "loading",
        "Opening a model",
        ["who", "file", "weights kept as", "opened", "opened, 8 tokens read", "peak", "own", "mapped", "logits off"],
        rows,
        [
            f"a llama of {count / 1e6:.1f} M parameters, {4 * count / 1e6:.0f} MB in float32; {args.threads} thread(s); files in "
            f"the system's memory; median of {args.rounds} processes",
            "memory above what the process held before, after 8 tokens were read; mapped pages are the file's own, and the system "
            "may drop them",
            "logits off: relative distance from picolab's in float32 of the folder; Q8_0, bfloat16 and int8 round the weights",
        ],
    )


def row(arm: tuple[str, str, str], taken: list[dict[str, float]], folder: Path) -> list[str]:
    import numpy as np

    if not taken:
        return [*arm, "does not run here", "", "", "", "", ""]
    middle = {key: statistics.median(one[key] for one in taken) for key in taken[0]}
    found, expected = (np.load(folder / f"{' '.join(which)}.npy") for which in (arm, ARMS[0]))
    off = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    times = [f"{middle['open']:.3f} s", f"{middle['both']:.3f} s"]
    return [*arm, *times, *(f"{middle[key]:,.0f} MB" for key in ("peak", "own", "mapped")), f"{off:.1e}"]


def export(sizes: dict[str, int], folder: Path) -> int:
    """The same model in every file; its parameters."""
    import torch

    from picolab.weights.checkpoint import save_model
    from picolab.weights.gguf.write import write_gguf
    from picolab.zoo import build

    torch.manual_seed(0)
    model = build("llama", sizes)
    save_model(model, None, folder / "folder")
    for kind in ("F32", "Q8_0"):
        write_gguf(model, None, folder / f"{kind}.gguf", kind=kind)
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    main()
