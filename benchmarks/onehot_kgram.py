"""How much is the gather worth? A layer over k one-hot tokens, as a gather of rows and as the product it stands for.

    python benchmarks/onehot_kgram.py [--json]          k 2, hidden 64, 50,257 tokens, batch 8 x 128

Both do the same work on the same weights in turns: the layer forward and backward, then a whole training step of the model
(forward, loss, backward, AdamW). The product is given its one-hot array in float32, filled in place.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from unittest import mock

import torch
from torch import Tensor

from picolab.models import kgram
from picolab.parts.onehot import onehot_product, onehot_product_plainly
from picolab.parts.recent import recent

from harness import finish

Product = Callable[[Tensor, Tensor], Tensor]
PRODUCTS: dict[str, Product] = {"gather": onehot_product, "one-hot product": onehot_product_plainly}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"batch": 8, "time": 128, "k": 2, "hidden": 64, "vocab": 50257, "rounds": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    report(measure(args.batch, args.time, args.k, args.hidden, args.vocab, args.rounds))


def measure(batch: int, time_: int, k: int, hidden: int, vocab: int, rounds: int) -> dict[str, Any]:
    """Seconds of both ways, interleaved, median of `rounds`; largest differences of what they compute."""
    torch.manual_seed(0)
    config = kgram.Config(form="onehot", vocab_size=vocab, k=k, hidden=hidden, context_length=max(time_, k))
    tokens = torch.randint(0, vocab, (batch, time_ + 1))
    context, upstream = recent(tokens[:, :-1], k), torch.randn(batch, time_, hidden)
    weight = cast(Tensor, kgram.KGram(config).input.weight)
    model = {name: kgram.KGram(config) for name in PRODUCTS}
    for twin in model.values():
        twin.load_state_dict(model["gather"].state_dict())
    optimizer = {name: torch.optim.AdamW(twin.parameters(), lr=1e-3) for name, twin in model.items()}

    def layer(name: str) -> tuple[Tensor, Tensor]:
        out = PRODUCTS[name](context, weight)
        return out.detach(), torch.autograd.grad(out, weight, upstream)[0]

    def step(name: str) -> Tensor:
        with computing_with(PRODUCTS[name]):
            loss = model[name].losses(tokens[:, :-1], tokens[:, 1:]).mean()
        optimizer[name].zero_grad()
        loss.backward()
        optimizer[name].step()
        return loss.detach()

    (value, grad), (plain_value, plain_grad) = layer("gather"), layer("one-hot product")
    differences = {"values": _apart(value, plain_value), "gradients": _apart(grad, plain_grad)}
    del value, grad, plain_value, plain_grad
    result: dict[str, Any] = {
        "sizes": {"batch": batch, "time": time_, "k": k, "hidden": hidden, "vocab": vocab, "rounds": rounds},
        "largest_difference": differences,
    }
    for title, run in (("input layer", layer), ("training step", step)):
        seconds = _in_turns(run, rounds)
        result[title] = {
            "seconds": seconds,
            "tokens_per_second": {name: batch * time_ / s for name, s in seconds.items()},
            "ratio": seconds["one-hot product"] / seconds["gather"],
        }
    return result


@contextmanager
def computing_with(product: Product) -> Iterator[None]:
    """The model's input layer computed by `product`, for as long as this is open."""
    with mock.patch.object(kgram, "onehot_product", product):
        yield


def report(result: dict[str, Any]) -> None:
    """Print the table and keep it."""
    rows = []
    for title in ("input layer", "training step"):
        for name in PRODUCTS:
            seconds, rate = result[title]["seconds"][name], result[title]["tokens_per_second"][name]
            ratio = f"{result[title]['ratio']:.1f} x" if name == "gather" else "1.0 x"
            rows.append([title, name, f"{seconds * 1e3:,.2f} ms", f"{rate:,.0f}", ratio])
    apart = result["largest_difference"]
    finish(
        "onehot_kgram",
        "One-hot k-gram: a gather instead of a product",
        ["what", "who", "forward and backward", "tokens/s", "speed"],
        rows,
        [
            ", ".join(f"{name} {value:,}" for name, value in result["sizes"].items()),
            f"largest difference: values {apart['values']:.1e}, gradients {apart['gradients']:.1e}",
        ],
    )


def _in_turns(run: Callable[[str], object], rounds: int) -> dict[str, float]:
    """Median seconds of each way; each turn runs twice and counts the second, whose memory the first has touched."""
    seconds: dict[str, list[float]] = {name: [] for name in PRODUCTS}
    for _ in range(rounds):
        for name, taken in seconds.items():
            run(name)
            start = time.perf_counter()
            run(name)
            taken.append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def _apart(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


if __name__ == "__main__":
    main()
