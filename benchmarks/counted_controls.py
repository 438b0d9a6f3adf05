"""Where do controls gain that should gain nothing? Attention that averages, or looks anywhere, held against none, token by token.

    python benchmarks/counted_controls.py --out FOLDER          what benchmarks/counted_attention.py left there

A loss is a mean over tokens, so the gain of an arm over zero attention is a sum over kinds of tokens. In plays names stand in
capitals: after a capital letter even a bag of the letters before tells a name from the beginning of a sentence.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from torch import Tensor

from picolab.data.loader import Loader
from picolab.runs.folder import Run
from picolab.text.tokenizer import Tokenizer
from picolab.train.setup import dataset_of
from picolab.weights.checkpoint import load_model

from harness import finish

ZERO, TRAINABLE = "zero", "trainable"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", default="uniform random published counted")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    arms = [*args.arms.split(), TRAINABLE]
    gains: dict[str, list[tuple[float, float]]] = {arm: [] for arm in arms}
    shares = []
    seeds = sorted(path.name.partition("_")[2] for path in (args.out / "runs").glob(f"{ZERO}_seed-*"))
    for seed in seeds:
        zero, capital = losses_of(args.out / "runs" / f"{ZERO}_{seed}")
        shares.append(float(capital.double().mean()))
        for arm in arms:
            gain = zero - losses_of(args.out / "runs" / f"{arm}_{seed}")[0]
            gains[arm].append((float((gain * capital).mean()), float((gain * ~capital).mean())))
    rows = []
    for arm in arms:
        after, others = zip(*gains[arm], strict=True)
        best_after, best_others = zip(*gains[TRAINABLE], strict=True)
        rows.append(
            [
                arm,
                said([a + b for a, b in gains[arm]]),
                said(after),
                said(others),
                percent([a + b for a, b in gains[arm]], [a + b for a, b in gains[TRAINABLE]]),
                percent(after, best_after),
                percent(others, best_others),
            ]
        )
    data = Run(args.out / "runs" / f"{ZERO}_{seeds[0]}").settings.data.spec
    finish(
        f"counted_controls_{Path(data).stem}",
        f"Where controls gain over no attention: {Path(data).stem}, characters",
        [
            "arm",
            "gain, nats a token",
            "of it after capitals",
            "of it elsewhere",
            "of trainable's gain",
            "after capitals",
            "elsewhere",
        ],
        rows,
        [
            f"{100 * statistics.fmean(shares):.1f} % of held-out tokens stand after a capital letter; {len(seeds)} seeds, smallest "
            "and largest in brackets",
            "gains are parts of the mean over all tokens: the two parts are the whole",
        ],
    )


def losses_of(path: Path) -> tuple[Tensor, Tensor]:
    """The loss of every held-out token in nats, and whether it stands after a capital letter."""
    run = Run(path)
    last = run.last()
    assert last is not None
    model, dataset = load_model(last.path).eval(), dataset_of(run.settings)
    capital = capitals(dataset.tokenizer)
    losses, after = [], []
    rows = run.settings.training.batch_size
    for batch in Loader(dataset.validation, batch_size=rows, context_length=128, seed=0).epoch():
        scored = batch.targets >= 0
        with torch.no_grad():
            losses.append(model.losses(batch.tokens, batch.targets, documents=batch.documents)[scored])
        after.append(capital[batch.tokens[scored]])
    return torch.cat(losses).double(), torch.cat(after)


def capitals(tokenizer: Tokenizer) -> Tensor:
    """Of every token whether it is one capital letter."""
    spelled = [tokenizer.decode([token]) for token in range(tokenizer.vocab_size)]
    return torch.tensor([len(letter) == 1 and letter.isupper() for letter in spelled])


def said(values: list[float] | tuple[float, ...]) -> str:
    return f"{statistics.fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def percent(values: list[float] | tuple[float, ...], whole: list[float] | tuple[float, ...]) -> str:
    return f"{100 * sum(values) / sum(whole):.0f} %"


if __name__ == "__main__":
    main()
