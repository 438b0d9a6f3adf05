"""What a model shows besides its loss: what it writes, where it looks, how large it is.

model, tokenizer, prompt -> three samples (greedy, p=0.95, p=1), one seed for all models
model, tokenizer, text   -> Attention: every layer and head over the first tokens of the text
model                    -> Size
"""

from __future__ import annotations

import torch

from picolab.compare.result import Attention, Sample, Size
from picolab.measure.attention import attention_of
from picolab.measure.parameters import Parameters, count_parameters
from picolab.models.contract import LanguageModel
from picolab.sample.generate import generate
from picolab.sample.pick import Sampler
from picolab.text.tokenizer import Tokenizer

SAMPLERS: dict[str, Sampler] = {
    "greedy": Sampler(temperature=0.0),
    "p=0.95": Sampler(top_p=0.95),
    "p=1": Sampler(),
}
LONGEST_TEXT = 40
"""Tokens of an attention map: as many as a page shows legibly."""


def samples_of(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str, *, seed: int, max_new_tokens: int
) -> tuple[Sample, ...]:
    """One continuation of the prompt for each way of sampling."""
    return tuple(
        Sample(sampler=name, seed=seed, prompt=prompt, text=made.text)
        for name, sampler in SAMPLERS.items()
        for made in generate(model, tokenizer, prompt, max_new_tokens=max_new_tokens, sampler=sampler, seed=seed)
    )


def attention_over(model: LanguageModel, tokenizer: Tokenizer, text: str, *, name: str, seed: int) -> Attention | None:
    """Where the model looks in the text, opened by end-of-text as in training; None without attention."""
    ids = [tokenizer.eot, *tokenizer.encode(text)][: min(LONGEST_TEXT, model.config.context_length)]
    maps = attention_of(model, torch.tensor([ids]))
    if maps is None:
        return None
    # A row sums to 1000 but for rounding; thousandths are what the page shows.
    thousandths = (maps.probs * 1000).round().int()
    time = len(ids)
    rows, columns = torch.tril_indices(time, time)
    return Attention(
        model=name,
        seed=seed,
        tokens=tuple(tokenizer.token_name(token) for token in ids),
        weights=tuple(tuple(tuple(head[rows, columns].tolist()) for head in layer) for layer in thousandths),
    )


def size_of(model: LanguageModel) -> Size:
    """The model's parameters, as the table shows them."""
    counted: Parameters = count_parameters(model)
    return Size(
        total=counted.total,
        trainable=counted.trainable,
        frozen=counted.frozen,
        buffers=counted.buffers,
        percentages=counted.percentages(),
    )
