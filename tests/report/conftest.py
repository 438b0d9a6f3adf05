"""A comparison that never took place but looks like one, and a real browser to read its report in."""

from __future__ import annotations

import math
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from picolab.compare.bands import band
from picolab.compare.curves import Curve, Series
from picolab.compare.ranking import in_words, rank
from picolab.compare.result import Attention, Comparison, Row, Sample, SeedRun, Setup, Size

EVIL = "<script>window.hurt = 1</script><img src=x onerror='window.hurt = 2'> & \"quoted\" </script> \x00\x1b"
FLOOR, UNIFORM, STEPS, TOKENS = 1.62, math.log(2048), 400, 200_000
#                model          loss at the end  speed   architecture, one line
PRETENDED = (
    ("ngram", 3.02, 910_000, "ngram", "interpolated Kneser-Ney 5-gram counts: the baseline of every table"),
    ("kgram-embed", 3.31, 21_300, "kgram", "MLP over the embeddings of 4 tokens (Bengio et al. 2003)"),
    ("lstm", 2.66, 9_450, "lstm", "one-layer LSTM (Hochreiter and Schmidhuber 1997)"),
    ("softmax-pico", 2.41, 12_800, "gpt2", "the smallest attention model: 2 blocks of 128"),
    ("gpt2-hot", None, 0, "gpt2", "GPT-2 at a learning rate that is far too high"),
)
STORY = (
    "Once upon a time there was a little fox named Fen who lived beside the quiet harbour. Every morning she counted "
    "the boats and wrote their names into a small blue book."
)


@pytest.fixture
def comparison() -> Comparison:
    """Five models, two seeds: a baseline, two good ones, one worse than counting, one that diverged, and a hostile sample."""
    return pretend()


def pretend(*, seeds: tuple[int, ...] = (0, 1), floor: float | None = FLOOR) -> Comparison:
    chance = random.Random(0)
    setup = Setup(
        data="stories", tokenizer="bpe-2048", vocab_size=2048, context_length=128, batch_size=8, tokens=TOKENS,
        seeds=seeds, scored_split="validation", scored_tokens=21_480, scored_bytes=84_200, held_out=True, uniform=UNIFORM,
        floor=floor, prompt="Once upon a", overrides={"training.batch_size": "8"}, device="cpu",
        machine="x86_64, 2 cores", created="2026-01-01", picolab="0.1.0",
    )  # fmt: skip
    rows, curves = [], []
    for model, end, speed, family, says in PRETENDED:
        finals = {} if end is None else {seed: end + chance.gauss(0, 0.006) for seed in seeds}
        runs = tuple(
            SeedRun(
                seed=seed, run=f"runs/{model}_seed-{seed}", status="finished", loss=finals[seed], tokens=TOKENS,
                bits_per_byte=finals[seed] / math.log(2) * setup.scored_tokens / 84_200, seconds=TOKENS / speed,
                tokens_per_second=speed * chance.uniform(0.97, 1.03), peak_memory=int(speed * 9000),
            )
            if seed in finals
            else SeedRun(seed=seed, run=f"runs/{model}_seed-{seed}", status="failed", reason="the loss is nan at step 37")
            for seed in seeds
        )  # fmt: skip
        samples = [
            Sample(sampler=sampler, seed=0, prompt="Once upon a", text=STORY.removeprefix("Once upon a") + tail)
            for sampler, tail in (("greedy", ""), ("p=0.95", " Then it rained."), ("p=1", f" zq {EVIL}"))
        ]
        rows.append(
            Row(
                model=model, family=family, says=says, baseline=model == "ngram", runs=runs,
                loss=band(list(finals.values())) if finals else None,
                bits_per_byte=band([run.bits_per_byte for run in runs if run.bits_per_byte]) if finals else None,
                excess=band([loss - floor for loss in finals.values()]) if finals and floor is not None else None,
                tokens_per_second=band([run.tokens_per_second for run in runs if run.tokens_per_second]) if finals else None,
                peak_memory=int(max(speed * 9000, 1)) if finals else None,
                size=_size(family),
                samples=tuple(samples) if finals else (),
            )
        )  # fmt: skip
        if model != "ngram":
            curves += [_curve(model, seed, end, speed or 12_000, chance) for seed in seeds]
    ranked = rank(rows)
    return Comparison(
        complete=True,
        setup=setup,
        rows=ranked,
        ranking=in_words(ranked, setup),
        curves=tuple(curves),
        attention=(_attention(),),
    )


def _size(family: str) -> Size:
    if family == "ngram":
        return Size(total=0, trainable=0, frozen=0, buffers=412_330, percentages={})
    if family == "gpt2":
        shares = {
            "embedding": 39.2,
            "position_embedding": 2.5,
            "blocks.attention": 19.7,
            "blocks.mlp": 38.4,
            "final_norm": 0.2,
        }
        return Size(total=673_280, trainable=665_088, frozen=8_192, buffers=0, percentages=shares)
    return Size(total=401_920, trainable=401_920, frozen=0, buffers=0, percentages={"embedding": 65.3, "layers": 34.7})


def _curve(model: str, seed: int, end: float | None, speed: float, chance: random.Random) -> Curve:
    last = STEPS if end is not None else 37

    def loss(step: int) -> float:
        if end is None:
            return UNIFORM + 0.02 * step
        return end + (UNIFORM - end) * math.exp(-((step / 30) ** 0.62))

    def series(steps: range, noise: float) -> Series:
        a_step = TOKENS / STEPS
        return Series(
            step=tuple(steps),
            tokens=tuple(round(step * a_step) for step in steps),
            seconds=tuple(step * a_step / speed for step in steps),
            loss=tuple(loss(step) + chance.gauss(0, noise * (1 if step else 0.1)) for step in steps),
        )

    return Curve(
        model=model, seed=seed, train=series(range(1, last + 1), 0.09), validation=series(range(0, last + 1, 20), 0.02)
    )


def _attention() -> Attention:
    words = [
        "Once",
        " upon",
        " a",
        " time",
        " there",
        " was",
        " a",
        " little",
        " fox",
        " named",
        " Fen",
        ".",
        "\n",
        EVIL[:17],
    ]
    tokens = ("<eot>", *words, *[" she", " counted", " the", " boats", " and", " wrote", " their", " names", "."])
    n = len(tokens)

    def triangle(sharp: float, lag: int) -> tuple[int, ...]:
        flat: list[int] = []
        for query in range(n):
            raw = [
                math.exp(sharp if key == max(0, query - lag) else 0.8 if key == 0 else 0.0) for key in range(query + 1)
            ]
            flat += [round(1000 * value / sum(raw)) for value in raw]
        return tuple(flat)

    return Attention(
        model="softmax-pico", seed=0, tokens=tokens,
        weights=((triangle(4.5, 1), triangle(1.0, 0)), (triangle(3.0, 6), triangle(0.2, 3))),
    )  # fmt: skip


@dataclass
class Visit:
    """An open page, what its console said and what it asked the network for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def quiet(self) -> None:
        """The page neither complained nor asked anybody for anything."""
        assert self.said == []
        assert self.asked == []


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium. Without one, a developer's tests are skipped with the reason; CI fails."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    reason = "no Chromium found on PATH, so NO REPORT WAS OPENED IN A BROWSER (apt-get install chromium)"
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-quic", *quiet]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Any]:
    """`visit(path, width=..., scheme=...)` opens a file and listens to everything it says and asks for."""
    contexts = []

    def open_page(
        path: Path,
        *,
        width: int = 1200,
        height: int = 900,
        scheme: str = "light",
        touch: bool = False,
        ready: str = ".chart svg",
    ) -> Visit:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=touch
        )
        contexts.append(context)
        page = context.new_page()
        here = Visit(page)
        page.on("console", lambda message: here.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: here.said.append(f"error: {error}"))
        page.on("request", lambda request: here.asked.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        page.wait_for_selector(ready)
        return here

    yield open_page
    for context in contexts:
        context.close()
