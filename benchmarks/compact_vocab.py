"""Training on shipped stories with GPT-2's 50,257 tokens, and with only those the corpus uses: speed, and the same loss?

The compact model starts with the rows of the full one that it keeps, and sees the same batches. `over kept tokens` is the full
model's loss with its distribution renormalised over the tokens both can predict: before training the two are the same number.
"""

from __future__ import annotations

import math
import statistics
import time

import torch

from picolab.data.batch import IGNORE, Batch
from picolab.data.loader import Loader
from picolab.data.prepare import prepare
from picolab.objectives.next_token import next_token
from picolab.runs.settings import OptimizerSettings
from picolab.train.optimizers import adamw
from picolab.zoo import create

from harness import finish

STEPS, BATCH, TIME = 120, 8, 128


def main() -> None:
    full_data = prepare("stories-shipped", tokenizer="gpt2")
    compact_data = prepare("stories-shipped", tokenizer="gpt2", compact_vocab=True)
    keep = torch.from_numpy(compact_data.tokenizer.keep).long()
    full = create("softmax-pico", vocab_size=full_data.tokenizer.vocab_size)
    compact = create("softmax-pico", vocab_size=compact_data.tokenizer.vocab_size)
    state = {
        name: tensor[keep] if tensor.shape[0] == len(full.head.weight) else tensor
        for name, tensor in full.state_dict().items()
    }
    compact.load_state_dict(state)
    arms = {"full": (full, full_data), "compact": (compact, compact_data)}
    loaders = {
        name: Loader(data.train, batch_size=BATCH, context_length=TIME, seed=0) for name, (_, data) in arms.items()
    }
    held = {
        name: list(Loader(data.validation, batch_size=BATCH, context_length=TIME, seed=0).epoch())[:8]
        for name, (_, data) in arms.items()
    }
    optimizers = {name: adamw(model, OptimizerSettings(lr=1e-3)) for name, (model, _) in arms.items()}
    before = _losses(arms, held, keep)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for step in range(STEPS):
        for name, (model, _) in arms.items():
            start = time.perf_counter()
            batch = loaders[name].batch(step)
            with torch.autocast("cpu", torch.bfloat16):
                loss = next_token(model.train(), batch).mean
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizers[name].step()
            optimizers[name].zero_grad(set_to_none=True)
            seconds[name].append(time.perf_counter() - start)
    after = _losses(arms, held, keep)
    rows = []
    for name, (model, data) in arms.items():
        rate = BATCH * TIME / statistics.median(seconds[name][5:])
        rows.append(
            [
                name,
                f"{data.tokenizer.vocab_size:,}",
                f"{sum(p.numel() for p in model.parameters()):,}",
                f"{rate:,.0f}",
                *(f"{x:.4f}" for x in (before[name], after[name])),
            ]
        )
    rows.append(["full, over kept tokens", f"{len(keep):,}", "", "", f"{before['kept']:.4f}", f"{after['kept']:.4f}"])
    finish(
        "compact_vocab",
        "Compact vocabulary",
        ["model", "vocabulary", "parameters", "tokens/s", "loss before", f"loss after {STEPS} steps"],
        rows,
        [
            f"softmax-pico, batch {BATCH} x {TIME}, bfloat16 autocast, GPT-2's tokens; loss in nats a token on held-out stories",
            f"uniform guessing: {math.log(50257):.2f} and {math.log(len(keep)):.2f}",
        ],
    )


@torch.no_grad()
def _losses(arms: dict, held: dict[str, list[Batch]], keep: torch.Tensor) -> dict[str, float]:
    """Mean loss of both models, and of the full one over the tokens it shares with the compact one."""
    found = {}
    for name, (model, _) in arms.items():
        losses = [next_token(model.eval(), batch) for batch in held[name]]
        found[name] = float(sum(loss.total for loss in losses) / sum(loss.count for loss in losses))
    total, count = 0.0, 0
    for batch, small in zip(held["full"], held["compact"], strict=True):
        features = arms["full"][0].features(batch.tokens, documents=batch.documents)
        logits = (features @ arms["full"][0].head.weight[keep].T).flatten(0, 1)
        targets = small.targets.flatten()
        total += float(torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum"))
        count += int((targets != IGNORE).sum())
    return {**found, "kept": total / count}


if __name__ == "__main__":
    main()
