"""Does the smallest attention model learn rules, or documents? softmax-pico and linear-pico on integers, three minutes each.

    rules it never saw      determined numbers right, in every family without chance         at least 99 %
    rules it trained on     nats above the exact floor, on fresh documents, every family     less than 0.05

Both models have the same settings. The clock runs while they train; the data is prepared before. `--steps N` for a trial, whose
results are not kept.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from picolab.compare.sequences import DOCUMENTS
from picolab.data.corpus import numeric_world
from picolab.data.dataset import Dataset
from picolab.data.numeric import WALK, World, rule_of, sample
from picolab.measure.sequences import FamilyScore, score_sequences
from picolab.runs.settings import Settings, resolve
from picolab.train.loop import train
from picolab.train.setup import dataset_of
from picolab.weights.checkpoint import load_model, load_tokenizer

from harness import finish, render

MODELS = ("softmax-pico", "linear-pico")
LIMIT_SECONDS, RIGHT, CLOSE = 180, 0.99, 0.05
FRESH_SEED = 987_654
SPEC = "numeric:documents=300000:shortest=3:longest=32:difference=6:ratio=5:width=1"
SETTINGS = {
    "data.spec": SPEC, "data.validation": 0.02, "data.test": 0.02, "data.context_length": 128, "training.batch_size": 8,
    "training.steps": 3500, "training.eval_every": 0, "training.sample_tokens": 0, "optimizer.lr": 0.004, "optimizer.min_lr": 1e-5,
    "optimizer.weight_decay": 0.3,
}  # fmt: skip


def settings_of(model: str, folder: Path) -> Settings:
    steps = {"training.steps": int(sys.argv[sys.argv.index("--steps") + 1])} if "--steps" in sys.argv else {}
    return resolve(model, overrides={**SETTINGS, **steps, "out": str(folder / model)})


def texts_of(dataset: Dataset, part: str) -> list[tuple[int, ...]]:
    """Every document of a part, as numbers."""
    store, tokenizer = dataset.part(part), dataset.tokenizer
    return [tuple(int(tokenizer.token_name(int(i))) for i in store.document(n)) for n in range(store.n_documents)]


def fresh(dataset: Dataset, world: World, count: int) -> list[tuple[int, ...]]:
    """Documents of the same world and another seed, without those of rules that were kept back."""
    kept_back = {rule_of(text, world) for part in ("validation", "test") for text in texts_of(dataset, part)} - {None}
    drawn = (example.numbers for example in sample(world, count, seed=FRESH_SEED))
    return [numbers for numbers in drawn if rule_of(numbers, world) not in kept_back]


def main() -> None:
    rows, world = [], numeric_world(SPEC)[0]
    promised: dict[str, bool] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            settings = settings_of(name, Path(folder))
            dataset = dataset_of(settings)
            run = train(settings)
            last = run.last()
            if last is None:
                raise SystemExit(f"{name} left no checkpoint")
            model, tokenizer = load_model(last.path), load_tokenizer(last.path)
            spent = run.metrics()[-1]

            def scored(texts: list[tuple[int, ...]], model=model, tokenizer=tokenizer) -> dict[str, FamilyScore]:
                return {one.family: one for one in score_sequences(model, tokenizer, texts, world)}

            kept_back = scored([t for part in ("validation", "test") for t in texts_of(dataset, part)])
            known = scored(fresh(dataset, world, 4 * DOCUMENTS))
            for family in world.families:
                held, here = kept_back.get(family), known[family]
                accuracy = held.accuracy if held is not None and family != WALK else None
                if name == "softmax-pico":
                    promised[family] = here.excess < CLOSE and (family == WALK or (accuracy or 0) >= RIGHT)
                rows.append(
                    [
                        name,
                        family,
                        f"{spent['seconds']:.0f}",
                        f"{spent['tokens'] / 1e6:.1f} M",
                        "" if accuracy is None or held is None else f"{100 * accuracy:.1f} % of {held.determined:,}",
                        f"{here.floor:.3f}",
                        f"{here.excess:.4f}",
                        "" if held is None else f"{held.excess:.3f}",
                    ]
                )
            if name == "softmax-pico":
                promised["time"] = spent["seconds"] <= LIMIT_SECONDS
    columns = [
        "model",
        "family",
        "seconds",
        "tokens",
        "right, rules never seen",
        "floor",
        "above it",
        "above it, rules never seen",
    ]
    notes = [
        f"`{SPEC}`, one seed; " + " ".join(f"{key.split('.')[1]}={value}" for key, value in list(SETTINGS.items())[1:]),
        "right: determined numbers of rules kept back (validation and test) that are the model's favourite number",
        "above it: expected nats a token above the exact floor, on fresh documents of rules that were not kept back; the last "
        "column is that of rules kept back, whose third number surprises whoever learned exactly what it was shown",
        "promised of softmax-pico: "
        + ", ".join(f"{what} {'reached' if reached else 'MISSED'}" for what, reached in promised.items()),
    ]
    title = "Integer sequences: rules learned in three minutes"
    if "--steps" in sys.argv:
        result = {"title": title, "columns": columns, "rows": rows, "notes": notes, "command": "a trial"}
        print(render({**result, "machine": dict.fromkeys(("date", "cores", "processor", "python"), "-")}))
    else:
        finish("numeric", title, columns, rows, notes)
    if not all(promised.values()):
        raise SystemExit("not everything promised was reached: see the last note")


if __name__ == "__main__":
    main()
