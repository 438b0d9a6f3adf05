"""How does a model write? It reads the prompt once, then one token at a time: each choice is read before the next.

    eot + prompt -> model (fills the cache) -> logits -> Sampler.pick -> token -> text
                       ^------------------------------------------------/

Every text is opened by the end-of-text token, as documents are in training, and ends when the model picks that token,
at a stop string, after `max_new_tokens`, or where the model's context ends: `Generation.reason` says which. Prompts are read
together, of whatever lengths where the model's memory allows it (`sample/reader.py`). A text is the same whatever else is
written beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from numbers import Integral

import torch

from picolab.errors import BadSetting
from picolab.models.contract import LanguageModel
from picolab.sample.meter import Meter
from picolab.sample.pick import Sampler
from picolab.sample.reader import Reader, Reads, can_start_late
from picolab.sample.rows import Generation, Interrupted, Prompt, Row
from picolab.sample.speculate import Speculation, check_speculation, write_with_drafts
from picolab.sample.steps import Steps
from picolab.text.tokenizer import Tokenizer

__all__ = ["Generation", "Interrupted", "Meter", "Prompt", "Speculation", "generate", "stream"]

AS_IT_IS = Sampler()
"""The model's own distribution."""


def generate(
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    prompts: Prompt | Sequence[Prompt],
    *,
    max_new_tokens: int = 100,
    sampler: Sampler = AS_IT_IS,
    seed: int = 0,
    n: int = 1,
    stop: Sequence[str] = (),
    ignore_eot: bool = False,
    batch_size: int = 64,
    speculation: Speculation | None = None,
    compiled: bool = False,
    meter: Meter | None = None,
) -> list[Generation]:
    """Continue each prompt n times: the n texts of the first prompt, then those of the second, and so on.

    A prompt is a text, or token ids that are read as they are (no end-of-text is put before them); without a tokenizer, ids
    only. At most `batch_size` texts are written at once, one at a time where there is `speculation`. `ignore_eot` writes on
    where the model would end the text. `compiled` lets torch compile the step, which pays for long texts. The model is used in
    evaluation mode and left in the mode it came in. `meter` counts tokens and seconds.

    Ctrl-C raises `Interrupted`, which carries what was written by then.
    """
    _check(max_new_tokens=max_new_tokens, n=n, batch_size=batch_size)
    _check_ways(model, speculation, compiled)
    rows = [
        Row(
            model,
            tokenizer,
            prompt,
            seed=seed,
            sample=sample,
            stop=stop,
            max_new_tokens=max_new_tokens,
            ignore_eot=ignore_eot,
        )
        for prompt in _as_list(prompts)
        for sample in range(n)
    ]
    meter = Meter() if meter is None else meter
    together = batch_size if speculation is None else 1
    mixed = can_start_late(model) and not compiled
    reader_of = _readers(model, rows, compiled)
    try:
        for group in groups(rows, together, mixed=mixed):
            for _ in _write(model, tokenizer, group, reader_of, sampler, speculation, meter):
                pass
    except KeyboardInterrupt as error:
        for row in rows:
            row.end("interrupted")
        raise Interrupted([row.result() for row in rows]) from error
    return [row.result() for row in rows]


def stream(
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    prompt: Prompt,
    *,
    max_new_tokens: int = 100,
    sampler: Sampler = AS_IT_IS,
    seed: int = 0,
    sample: int = 0,
    stop: Sequence[str] = (),
    ignore_eot: bool = False,
    speculation: Speculation | None = None,
    compiled: bool = False,
    meter: Meter | None = None,
) -> Generator[str, None, Generation]:
    """Sample number `sample` of `generate`, handed out in pieces as it is written; joined they are its text.

    No piece holds half a character, nor the beginning of what becomes a stop string. The iterator's return value is the
    `Generation`.
    """
    _check(max_new_tokens=max_new_tokens)
    _check_ways(model, speculation, compiled)
    row = Row(
        model,
        tokenizer,
        prompt,
        seed=seed,
        sample=sample,
        stop=stop,
        max_new_tokens=max_new_tokens,
        ignore_eot=ignore_eot,
    )
    meter = Meter() if meter is None else meter
    given = 0
    try:
        for _ in _write(model, tokenizer, [row], _readers(model, [row], compiled), sampler, speculation, meter):
            yield from row.pieces[given:]
            given = len(row.pieces)
    except KeyboardInterrupt as error:
        row.end("interrupted")
        raise Interrupted([row.result()]) from error
    return row.result()


def _write(
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    rows: Sequence[Row],
    reader_of: Callable[[Sequence[Row]], Reads],
    sampler: Sampler,
    speculation: Speculation | None,
    meter: Meter,
) -> Iterator[None]:
    """Write the rows to their ends; yields after every pass."""
    # A vocabulary rounded up for speed has rows that stand for nothing.
    readable = model.config.vocab_size if tokenizer is None else tokenizer.vocab_size
    if speculation is not None:
        for row in rows:
            yield from write_with_drafts(Reader(model, [row]), row, sampler, speculation, readable, meter)
        return
    reader = reader_of(rows)
    with meter.reading():
        logits = reader.begin([row.prompt_ids for row in rows])[:, -1, :readable]
        picked = _pick(logits, rows, sampler)
        meter.tokens_read += sum(len(row.prompt_ids) for row in rows)
    yield
    while not all(row.reason for row in rows):
        with meter.writing():
            kept = reader.keep(rows)
            rows = [rows[at] for at in kept]
            tokens = torch.tensor([picked[at] for at in kept], device=model.device)[:, None]
            meter.tokens_written += sum(row.reason is None for row in rows)
            picked = _pick(reader.read(tokens)[:, -1, :readable], rows, sampler)
        yield


def _readers(model: LanguageModel, rows: Sequence[Row], compiled: bool) -> Callable[[Sequence[Row]], Reads]:
    """What reads rows for the loop: the model as it is written, or compiled steps."""
    return Steps(model, rows) if compiled else partial(Reader, model)


def _pick(logits: torch.Tensor, rows: Sequence[Row], sampler: Sampler) -> list[int]:
    """One token for each row, appended to it."""
    histories = [row.history for row in rows] if sampler.repetition_penalty != 1 else None
    picked: list[int] = sampler.pick(logits, [row.generator for row in rows], histories).tolist()
    for row, token in zip(rows, picked, strict=True):
        row.take(token)
    return picked


def groups(rows: Sequence[Row], batch_size: int, *, mixed: bool) -> Iterator[list[Row]]:
    """Groups of at most `batch_size` rows to be read together, of one prompt length unless `mixed`; neighbours in length, so that
    little is padded."""
    by_length: dict[int, list[Row]] = {}
    for row in sorted(rows, key=lambda row: len(row.prompt_ids)):
        by_length.setdefault(0 if mixed else len(row.prompt_ids), []).append(row)
    for group in by_length.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def _as_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """One prompt or several, as several."""
    if isinstance(prompts, str) or (prompts and all(isinstance(token, Integral) for token in prompts)):
        return [prompts]  # type: ignore[list-item]
    return list(prompts)  # type: ignore[arg-type]


def _check(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise BadSetting(f"`{name}` is {value}, not a whole number from 1 up", hint=f"`{name}` 1 is the least")


def _check_ways(model: LanguageModel, speculation: Speculation | None, compiled: bool) -> None:
    """Refuse ways of writing that the model does not have."""
    if speculation is not None:
        check_speculation(model)
        if compiled:
            raise BadSetting(
                "a compiled step reads one token at a time, and drafts are read several at once",
                hint="choose one of `compiled` and `speculation`",
            )
