"""Training tokens a second of a GPT-2 against transformers' GPT2LMHeadModel, same sizes, batch, optimizer, processor.

softmax-pico   batch 8 x 256      mingpt   batch 16 x 128      50,257 tokens
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from harness import copy_rate, finish, matrix_rate, measure, serve, worker_arguments

SIZES = {"softmax-pico": (8, 256), "mingpt": (16, 128)}
PEERS = [(mode, dtype) for mode in ("eager", "compiled") for dtype in ("float32", "bfloat16")]
OURS = [("eager", "float32"), ("eager", "bfloat16"), ("compiled", "bfloat16")]
VOCAB = 50257


def step(who: str, preset: str, mode: str, dtype: str) -> Iterator[None]:
    """One optimizer step for each `next`."""
    import torch

    from picolab.data.batch import Batch
    from picolab.objectives.next_token import next_token
    from picolab.runs.settings import OptimizerSettings
    from picolab.train.optimizers import adamw
    from picolab.zoo import create

    batch_size, time = SIZES[preset]
    torch.manual_seed(0)
    tokens = torch.randint(0, VOCAB, (batch_size, time + 1))
    batch = Batch(
        tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), torch.zeros(batch_size, time, dtype=torch.long)
    )
    model = create(preset, vocab_size=VOCAB)
    if who == "transformers":
        model = _peer(model.config)
    model.train()
    run = torch.compile(model) if mode == "compiled" and who == "transformers" else model
    if mode == "compiled" and who == "picolab":
        model.features = torch.compile(model.features)

    def loss() -> torch.Tensor:
        if who == "transformers":
            return run(input_ids=batch.tokens, labels=batch.tokens).loss
        return next_token(model, batch).mean

    optimizer = adamw(model, OptimizerSettings(lr=1e-3))
    while True:
        yield
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _peer(c):
    """transformers' GPT-2 of the same sizes, without dropout."""
    import transformers

    transformers.logging.set_verbosity_error()
    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    sizes = {"n_embd": c.d_model, "n_layer": c.n_layers, "n_head": c.n_heads, "n_inner": c.d_ff}
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=c.vocab_size, n_positions=c.context_length, **sizes, **none)
    )


def main() -> None:
    rows = []
    limit = {dtype: matrix_rate(dtype) for dtype in ("float32", "bfloat16")}
    for preset, (batch_size, time) in SIZES.items():
        arms = [("transformers", preset, *how) for how in PEERS] + [("picolab", preset, *how) for how in OURS]
        timings = measure(__file__, arms)
        tokens = batch_size * time
        peers = {arm: t for arm, t in zip(arms, timings, strict=True) if arm[0] == "transformers" and t is not None}
        best = min(peers.values(), key=lambda t: t.seconds)
        for arm, timing in zip(arms, timings, strict=True):
            if timing is None:
                rows.append([preset, *arm[:1], " ".join(arm[2:]), "does not run here", "", "", "", ""])
                continue
            share = 6 * _matrix_parameters(preset) * tokens / timing.seconds / limit[arm[3]]
            rows.append(
                [
                    preset,
                    arm[0],
                    " ".join(arm[2:]),
                    f"{tokens / timing.seconds:,.0f}",
                    f"{best.seconds / timing.seconds:.2f} x",
                    f"{timing.peak_mb:,.0f} MB",
                    f"{timing.peak_mb / best.peak_mb:.2f} x",
                    f"{share:.0%}",
                ]
            )
    finish(
        "training",
        "Training throughput",
        [
            "preset",
            "who",
            "how",
            "tokens/s",
            "speed / best peer",
            "peak memory",
            "memory / best peer",
            "of matrix limit",
        ],
        rows,
        [
            f"batch {', '.join(f'{p} {b} x {t}' for p, (b, t) in SIZES.items())}; vocabulary {VOCAB:,}; forward, backward, "
            "clipping and a fused AdamW step",
            f"matrix limit: {limit['float32'] / 1e9:,.0f} GFLOP/s float32, {limit['bfloat16'] / 1e9:,.0f} GFLOP/s bfloat16 "
            f"(2,048 cubed); copy {copy_rate() / 1e9:.1f} GB/s",
            "`of matrix limit` counts 6 FLOP a matrix parameter and token (attention scores left out)",
        ],
    )


def _matrix_parameters(preset: str) -> int:
    from picolab.zoo import create

    model = create(preset, vocab_size=VOCAB)
    positions = model.position_embedding.weight
    return sum(p.numel() for p in model.parameters() if p.ndim == 2 and p is not positions)


if __name__ == "__main__":
    arm = worker_arguments()
    if arm:
        serve(step(*arm))
    else:
        sys.exit(main())
