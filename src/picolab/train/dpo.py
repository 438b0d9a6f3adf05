"""From settings to preference training: a base model, pairs, a frozen reference, and the loop that trains everything else too.

    dpo.base -> model + tokenizer -> pairs in its tokens -> reference's log-probabilities (cached) -> batch(step) of pairs
                                  -> plain text of the same corpus -> validation: what the preference costs

`task_of` is the one place that tells this task from next-token prediction: a run's settings say which it was.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from picolab.data.pairs import PairBatch, TokenPair, batch_of
from picolab.data.preferences import Limits, Preferences, corpus_of, fingerprint, make_preferences
from picolab.data.split import Split
from picolab.errors import BadInput, BadSetting
from picolab.models.contract import LanguageModel
from picolab.objectives.dpo import Dpo
from picolab.runs.reference import Opened, open_reference
from picolab.runs.settings import Settings
from picolab.text.tokenizer import Tokenizer
from picolab.train.distributed import pick_device
from picolab.train.dpo_judge import Judge
from picolab.train.dpo_reference import identity, reference_logps
from picolab.train.setup import dataset_of, next_token_task, settle, text_bytes, validation_batches
from picolab.train.task import Task
from picolab.zoo import PRESETS, create


def task_of(settings: Settings) -> Task:
    """The task that settings describe."""
    return next_token_task(settings) if settings.dpo.base is None else dpo_task(settings)


def dpo_task(settings: Settings) -> Task:
    """Preference training of `dpo.base` on pairs made of `data.spec`; a step reads `training.batch_size` pairs."""
    objective = objective_of(settings)
    base = _base(settings)
    tokenizer = base.reading()
    model = base.model
    rows = min(model.config.context_length, settings.data.context_length or model.config.context_length)
    pairs = preferences_of(settings, tokenizer, context_length=rows)
    reference = _reference(settings, base)
    fill = tokenizer.eot if tokenizer.pad is None else tokenizer.pad
    key = identity(reference, tokenizer.fingerprint)
    device = pick_device(settings.training.device)
    train, held_out = (
        reference_logps(reference, part, fill=fill, key=key, device=device) for part in (pairs.train, pairs.held_out)
    )
    loader = PairLoader(
        pairs=pairs.train, logps=train, batch_size=settings.training.batch_size, seed=settings.seed, fill=fill
    )
    steps = _steps(settings, loader)
    validation = validation_batches(pairs.dataset, settings, rows)
    judge = Judge(
        objective=objective, pairs=pairs.held_out, logps=held_out, reference=reference, fill=fill,
        readable=tokenizer.vocab_size, seed=settings.seed,
    )  # fmt: skip
    t = settings.training
    return Task(
        settings=settle(settings, model, rows=rows, steps=steps),
        model=model,
        tokenizer=tokenizer,
        objective=objective,
        batch=loader.batch,
        steps=steps,
        tokens_per_step=loader.tokens_per_step,
        validation=validation,
        validation_bytes=text_bytes(validation, tokenizer),
        judge=judge,
        data_fingerprint=_fingerprint(pairs, identity(model, tokenizer.fingerprint), key),
        prompt=pairs.shown[0].prompt if t.sample_prompt is None else t.sample_prompt,
        facts=_facts(pairs, tokenizer, key),
        notes=(*pairs.notes, *_notes(loader, steps)),
    )


def objective_of(settings: Settings) -> Dpo:
    """The objective, or the refusal of its settings."""
    d = settings.dpo
    return Dpo(
        beta=d.beta, variant=d.variant, label_smoothing=d.label_smoothing, per_token=d.per_token, imitation=d.imitation
    )


def preferences_of(settings: Settings, tokenizer: Tokenizer, *, context_length: int) -> Preferences:
    """The pairs that settings describe, as one tokenizer spells them."""
    data, d = settings.data, settings.dpo
    return make_preferences(
        data.spec,
        tokenizer,
        context_length=context_length,
        limits=Limits(
            prompt_tokens=d.prompt_tokens, response_tokens=d.response_tokens, pairs=d.pairs, held_out=d.held_out
        ),
        kinds=d.kinds,
        split=Split(validation=data.validation, test=data.test),
        seed=data.seed,
        limit_examples=data.limit_examples,
    )


@dataclass(frozen=True, kw_only=True)
class PairLoader:
    """Which pairs does a step read? A pure function of (seed, step): every epoch is a new order of all pairs."""

    pairs: Sequence[TokenPair]
    logps: Float[Tensor, "pairs 2"]
    batch_size: int
    seed: int
    fill: int

    @property
    def tokens_per_step(self) -> float:
        """Response tokens a step, on average."""
        return self.batch_size * sum(len(pair.chosen) + len(pair.rejected) for pair in self.pairs) / len(self.pairs)

    def batch(self, step: int) -> PairBatch:
        """The pairs of one step: always the same for a seed."""
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        chosen = [int(self._order(place // len(self.pairs))[place % len(self.pairs)]) for place in places]
        return batch_of([self.pairs[i] for i in chosen], self.logps[chosen], fill=self.fill)

    def _order(self, epoch: int) -> np.ndarray[Any, Any]:
        return np.random.default_rng([self.seed, 11, epoch]).permutation(len(self.pairs))


def _base(settings: Settings) -> Opened:
    base = str(settings.dpo.base)
    if base in PRESETS:
        raise BadInput(
            f"`{base}` is a preset, and preferences are taught to a model that can write already",
            hint=f"`picolab dpo --model {base} --base-steps 1000` trains one first",
        )
    opened = open_reference(base)
    if hasattr(opened.model, "estimate"):
        raise BadInput(f"`{base}` is a model that counts: it has no gradient to follow", hint="choose a neural model")
    if settings.training.strategy == "fsdp":
        raise BadSetting("`training.strategy` fsdp does not go with preference training", hint="use ddp")
    return opened


def _reference(settings: Settings, base: Opened) -> LanguageModel:
    """The frozen model: another one that reads the same tokens, or the base, opened once more so that it does not train."""
    d = settings.dpo
    opened = open_reference(d.reference or str(d.base))
    mine, theirs = base.reading(), opened.reading()
    if mine.fingerprint != theirs.fingerprint:
        raise BadInput(
            f"the reference `{d.reference}` reads another tokenizer ({theirs.vocab_size:,} tokens) than `{d.base}` "
            f"({mine.vocab_size:,} tokens)",
            hint="log-probabilities of other tokens cannot be compared: take a reference trained with the same tokenizer",
        )
    if opened.model.config.context_length < base.model.config.context_length and settings.data.context_length is None:
        raise BadInput(
            f"the reference `{d.reference}` reads {opened.model.config.context_length} tokens, and `{d.base}` "
            f"{base.model.config.context_length}",
            hint=f"--context-length {opened.model.config.context_length}",
        )
    opened.model.requires_grad_(False)
    return opened.model


def _steps(settings: Settings, loader: PairLoader) -> int:
    t = settings.training
    return t.steps if t.steps is not None else math.ceil((t.tokens or 0) / loader.tokens_per_step)


def _fingerprint(pairs: Preferences, *models: str) -> str:
    parts = (fingerprint(pairs.train), fingerprint(pairs.held_out), *models)
    return hashlib.blake2b(" ".join(parts).encode(), digest_size=16).hexdigest()


def _facts(pairs: Preferences, tokenizer: Tokenizer, reference: str) -> dict[str, Any]:
    kinds = {kind: sum(pair.kind == kind for pair in pairs.held_out) for kind in pairs.kinds}
    return {
        "pairs": len(pairs.train),
        "held_out_pairs": len(pairs.held_out),
        "held_out_kinds": kinds,
        "reference": reference,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "examples": [
            {"kind": pair.kind, "prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
            for pair in {pair.kind: pair for pair in reversed(pairs.shown)}.values()
        ],
    }


def _notes(loader: PairLoader, steps: int) -> list[str]:
    read = steps * loader.batch_size / len(loader.pairs)
    return [f"pairs are read more than once: {read:.1f} times"] if read > 1 else []


def check(settings: Settings, *, tokenizer: str) -> str:
    """Refuse now what would be refused after a base was trained: settings, kinds, pairs. The corpus that the base learns."""
    objective_of(settings)
    corpus = corpus_of(settings.data.spec)
    data = settings.data.model_copy(update={"spec": corpus, "tokenizer": tokenizer})
    words = dataset_of(settings.model_copy(update={"data": data})).tokenizer
    reach = int(create(str(settings.dpo.base), vocab_size=words.vocab_size).config.context_length)
    preferences_of(settings, words, context_length=settings.data.context_length or reach)
    return corpus
