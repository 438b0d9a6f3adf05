"""What does a study measure beside the loss? What was learned by heart, and how samples look.

    train_loss   the loss on the whole training split, measured as the validation loss is        at every evaluation
    memorised    texts drawn from the model -> 4-grams of tokens:                                at every evaluation
                 share that stands in the training text; share that occurs once only
    sampling     texts drawn as the point says -> diversity, repetition, loss under the model    once, at the end

Models of the same data and seed are asked for texts with the same dice. Holtzman et al. 2020 compare ways of sampling by how close
the samples' loss under the model is to that of human text; `sample_gap` is that distance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from picolab.data.dataset import Dataset
from picolab.data.loader import Loader
from picolab.data.store import Mixture
from picolab.errors import BadCheckpoint, BadSetting
from picolab.measure.loss import evaluate
from picolab.models.contract import LanguageModel
from picolab.runs.folder import Run
from picolab.runs.settings import Settings
from picolab.sample.generate import generate
from picolab.sample.pick import Sampler
from picolab.studies.study import Study
from picolab.train.setup import dataset_of
from picolab.weights.checkpoint import load_model

N = 4
"""Length of the n-grams: three tokens come together by chance in a small corpus, four hardly."""
TEXTS, TEXT_TOKENS = 8, 48
SAMPLED_TEXTS = 16
Texts = Sequence[Sequence[int]]


def judge_of(study: Study, settings: Settings) -> Callable[[LanguageModel], Mapping[str, float]] | None:
    """What looks on at every evaluation; None where nothing beside the loss was asked for."""
    wanted = {"train_loss", "memorised"} & set(study.judges)
    if not wanted:
        return None
    dataset = dataset_of(settings)
    known = training_grams(dataset) if "memorised" in wanted else None

    def judge(model: LanguageModel) -> Mapping[str, float]:
        figures: dict[str, float] = {}
        if "train_loss" in wanted:
            figures["train/whole"] = training_loss(model, dataset, settings)
        if known is not None:
            texts = _drawn(model, dataset, Sampler(), seed=settings.seed, n=TEXTS)
            figures |= {f"samples/{name}": value for name, value in of_texts(texts, known, dataset).items()}
        return figures

    return judge


def training_loss(model: LanguageModel, dataset: Dataset, settings: Settings) -> float:
    """The loss on the whole training split, nothing dropped out."""
    rows = settings.data.context_length or model.config.context_length
    batches = Loader(dataset.train, batch_size=settings.training.batch_size, context_length=rows, seed=0).epoch()
    return evaluate(model, batches).nats_per_token


def of_texts(texts: Texts, known: NDArray[np.int64], dataset: Dataset) -> dict[str, float]:
    """Share of the texts' n-grams that stand in the training text, and share that are different ones; empty without an n-gram."""
    size = dataset.tokenizer.vocab_size
    written = np.concatenate([grams(np.asarray(text, np.int64), size) for text in texts] or [np.empty(0, np.int64)])
    if not len(written):
        return {}
    return {"memorised": float(np.isin(written, known).mean()), "distinct": len(np.unique(written)) / len(written)}


def repetition(texts: Texts, vocab_size: int) -> float:
    """Share of the n-grams that have stood earlier in the same text: loops."""
    here = [grams(np.asarray(text, np.int64), vocab_size) for text in texts]
    total = sum(len(one) for one in here)
    return sum(len(one) - len(np.unique(one)) for one in here) / total if total else 0.0


def training_grams(dataset: Dataset) -> NDArray[np.int64]:
    """The different n-grams of the training documents; one that spans two documents holds their divider and meets no sample's."""
    stores = dataset.train.stores if isinstance(dataset.train, Mixture) else (dataset.train,)
    size = dataset.tokenizer.vocab_size
    return np.unique(np.concatenate([grams(np.asarray(store.ids, np.int64), size) for store in stores]))


def grams(ids: NDArray[np.int64], vocab_size: int) -> NDArray[np.int64]:
    """Every run of `N` tokens as one number, exactly: its digits to the base `vocab_size`."""
    if vocab_size**N >= 2**63:
        raise BadSetting(
            f"{N}-grams of a vocabulary of {vocab_size:,} do not fit a whole number",
            hint="set `compact_vocab: true`, or a smaller tokenizer",
        )
    count = max(0, len(ids) - N + 1)
    keys = np.zeros(count, np.int64)
    for place in range(N):
        keys = keys * vocab_size + ids[place : place + count]
    return keys


def sampled_figures(run: Run, sampler: Sampler, *, held_out_loss: float) -> dict[str, float]:
    """How a finished run writes when asked in this way."""
    last = run.last()
    if last is None:
        raise BadCheckpoint(f"`{run.path}` is finished and has no checkpoint", hint="remove the folder to train again")
    dataset = dataset_of(run.settings)
    return written_figures(load_model(last.path), dataset, sampler, seed=run.settings.seed, held_out_loss=held_out_loss)


def written_figures(
    model: LanguageModel, dataset: Dataset, sampler: Sampler, *, seed: int, held_out_loss: float
) -> dict[str, float]:
    """How a model writes when asked in this way."""
    texts = [text for text in _drawn(model, dataset, sampler, seed=seed, n=SAMPLED_TEXTS) if text]
    figures = of_texts(texts, training_grams(dataset), dataset)
    figures["repetition"] = repetition(texts, dataset.tokenizer.vocab_size)
    if texts:
        nats = sum(_nats(model, [dataset.tokenizer.eot, *text]) for text in texts) / sum(map(len, texts))
        figures |= {"sample_nats": nats, "sample_gap": abs(nats - held_out_loss)}
    return figures


@torch.no_grad()
def _nats(model: LanguageModel, ids: Sequence[int]) -> float:
    tokens = torch.tensor([ids])
    return float(model.losses(tokens[:, :-1], tokens[:, 1:]).sum(dtype=torch.float64))


def _drawn(model: LanguageModel, dataset: Dataset, sampler: Sampler, *, seed: int, n: int) -> list[tuple[int, ...]]:
    """Texts from the very beginning: what the model says when nothing was said."""
    length = min(TEXT_TOKENS, model.config.context_length - 1)
    made = generate(model, dataset.tokenizer, "", max_new_tokens=length, sampler=sampler, seed=seed, n=n)
    return [one.ids for one in made]
