"""Does linear attention cost the same for every token, however long the text? Time, memory, and whether its three forms agree.

    read       one pass over n tokens, n = 1k .. 32k          softmax-pico beside linear-pico, plain and gated
    train      forward and backward of one row of n tokens    up to 8k
    decode     one token more after n were read               and the bytes that are carried from token to token
    growth     slope of log(cost) over log(n)                 linear attention: at most 1.1

`--small` measures up to 2k with fewer rounds, to try the script; its results are not kept.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

import torch

from picolab.compare.lengths import growth
from picolab.models.contract import LanguageModel
from picolab.parts.linear_attention import attend_in_chunks, attend_in_square, attend_step, feature_map
from picolab.zoo import create

from harness import finish, measure, render, serve, worker_arguments

VOCAB = 1024
ARMS = {
    "softmax-pico": ("softmax-pico", {}),
    "linear-pico": ("linear-pico", {}),
    "gated": ("linear-pico", {"gated": True}),
}
SMALL = "--small" in sys.argv
READ = (1024, 2048) if SMALL else (1024, 2048, 4096, 8192, 16384, 32768)
TRAIN = (1024, 2048) if SMALL else (1024, 2048, 4096, 8192)
DECODE = (1024, 2048) if SMALL else (1024, 8192, 32768)
ROUNDS = 2 if SMALL else 5
DECODED = 32
"""Tokens a unit of decoding writes."""


def built(arm: str, length: int) -> LanguageModel:
    preset, settings = ARMS[arm]
    return create(preset, vocab_size=VOCAB, context_length=length, **settings).eval()


def work(arm: str, what: str, length: int) -> Iterator[None]:
    """What a worker does again and again."""
    torch.manual_seed(0)
    tokens = torch.randint(0, VOCAB, (1, length))
    model = built(arm, length + 2**16 if what == "decode" else length)
    if what == "read":
        with torch.inference_mode():
            while True:
                yield
                model.features(tokens)
    elif what == "train":
        model.train()
        while True:
            yield
            model.losses(tokens, tokens.roll(-1, 1)).mean().backward()
            model.zero_grad(set_to_none=True)
    else:
        with torch.inference_mode():
            cache = model.new_cache(1, length + 2**16)
            model.features(tokens, cache=cache)
            while True:
                yield
                for _ in range(DECODED):
                    model(tokens[:, :1], cache=cache)


def carried(arm: str, length: int) -> int:
    """Bytes of a cache with room for so many tokens."""
    return int(built(arm, length).new_cache(1, length).memory.nbytes)


def agreement(time_: int = 2048) -> dict[str, float]:
    """The largest relative difference between the plain form and the others, values and gradients, gates and texts included."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, time_, 2, 64, generator=generator) for _ in "qkv")
    log_kept = torch.nn.functional.logsigmoid(torch.randn(1, time_, 2, generator=generator)) / 16
    opens = torch.rand(1, time_, 1, generator=generator) < 1 / 300
    worst = {}

    def outcome(form) -> list[torch.Tensor]:
        leaves = [x.clone().requires_grad_() for x in (q, k, v, log_kept)]
        mapped = feature_map(leaves[0]), feature_map(leaves[1]), leaves[2], leaves[3].masked_fill(opens, -torch.inf)
        mixed = form(*mapped)
        towards = torch.randn(mixed.shape, generator=torch.Generator().manual_seed(1))
        return [mixed.detach(), *torch.autograd.grad((mixed * towards).sum(), leaves)]

    plain = outcome(attend_in_square)
    state = torch.zeros(1, 2, 64, 65)
    for name, form in {
        "chunks": lambda *x: attend_in_chunks(*x)[0],
        "steps": lambda *x: attend_step(*x, state)[0],
    }.items():
        worst[name] = max(float((a - b).norm() / b.norm()) for a, b in zip(outcome(form), plain, strict=True))
    return worst


def table(what: str, lengths: Sequence[int]) -> list[list[str]]:
    """A row for each arm: milliseconds at every length, and their growth."""
    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for length in lengths:
        timings = measure(__file__, [[arm, what, str(length)] for arm in ARMS], rounds=ROUNDS, warm_up=1)
        for arm, timing in zip(ARMS, timings, strict=True):
            if timing is None:
                raise SystemExit(f"{arm} did not {what} {length} tokens")
            found[arm].append(timing.seconds / (DECODED if what == "decode" else 1))
    return [
        [
            arm,
            what,
            *(f"{1000 * found[arm][lengths.index(n)]:.2f}" if n in lengths else "" for n in READ),
            f"{growth(lengths, seconds):.2f}",
        ]
        for arm, seconds in found.items()
    ]


def main() -> None:
    begun = time.perf_counter()
    rows = [*table("read", READ), *table("train", TRAIN), *table("decode", DECODE)]
    for arm in ARMS:
        sizes = [carried(arm, length) for length in READ]
        rows.append([arm, "carried, kB", *(f"{size / 1000:,.1f}" for size in sizes), f"{growth(READ, sizes):.2f}"])
    forms = agreement(512 if SMALL else 2048)
    grown = {row[0]: float(row[-1]) for row in rows if row[1] == "read"}
    notes = [
        "milliseconds (median) of one row of n tokens; decode: one token after n; carried: the cache; growth: exponent of n",
        f"reading grows as n^{grown['linear-pico']:.2f}, gated n^{grown['gated']:.2f}, softmax's n^{grown['softmax-pico']:.2f}; "
        "at most n^1.1 is asked of linear attention",
        "the forms agree, values and gradients, with gates and several texts: largest relative difference to the plain one "
        + ", ".join(f"{name} {worst:.1e}" for name, worst in forms.items()),
    ]
    title, columns = "Linear attention against length", ["model", "work", *(f"{n // 1024}k" for n in READ), "growth"]
    if SMALL:
        print(render({"title": title, "columns": columns, "rows": rows, "notes": notes, "command": "a small trial",
                      "machine": {"date": "", "cores": "", "processor": "", "python": ""}}))  # fmt: skip
        print(f"{time.perf_counter() - begun:.0f} s")
    else:
        finish("linear_attention", title, columns, rows, notes)
    # Two short lengths do not tell an exponent: a trial asks only whether the forms agree.
    if max(forms.values()) > 1e-5 or (not SMALL and max(grown["linear-pico"], grown["gated"]) > 1.1):
        raise SystemExit("a claim does not hold: see the figures above")


if __name__ == "__main__":
    arm = worker_arguments()
    if arm is None:
        main()
    else:
        serve(work(arm[0], arm[1], int(arm[2])))
