"""What does every part of a narration look at? The recording of one text, the model it is of, and the token that is followed.

scene.value("blocks.0.attention.q")     (time, heads, head_dim), float32: the first row of the batch
scene.step("blocks.0.attention.q", ..)  a step with shape, statistics, a few values and the line filled in
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from picolab.models.contract import LanguageModel
from picolab.parts.rope import Rope
from picolab.report.narration.step import Source, Step, Table, Values, Word
from picolab.text.tokenizer import Tokenizer
from picolab.trace.recording import PREFILL, Entry, Recording
from picolab.trace.sites import dims_of
from picolab.trace.statistics import attention_of

SHOWN = 6
"""Numbers shown of a tensor."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A recorded pass with everything that explains it.

    `model` is the model opened here, None where only another engine can open it. `sources` is empty for another engine's pass:
    its lines are not ours. `rows` holds the followed token's attention `(heads, keys)` where the whole was too large to keep.
    """

    model: LanguageModel | None
    recording: Recording
    words: tuple[Word, ...]
    followed: int
    tokenizer: Tokenizer | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)
    rows: Mapping[str, Tensor] = field(default_factory=dict)
    _entries: dict[str, Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for entry in self.recording.entries:
            if entry.phase == PREFILL and entry.site not in self._entries:
                self._entries[entry.site] = entry

    @property
    def layers(self) -> list[int]:
        """The blocks something was seen of."""
        return sorted({int(site.split(".")[1]) for site in self._entries if site.startswith("blocks.")})

    @property
    def order(self) -> list[str]:
        """The sites in the order of computation."""
        return list(self._entries)

    @property
    def time(self) -> int:
        return len(self.words)

    @property
    def rope(self) -> Rope | None:
        """The model's rotation, if it has one."""
        return None if self.model is None else next((m for m in self.model.modules() if isinstance(m, Rope)), None)

    @property
    def vocab_size(self) -> int | None:
        """How many words there are to choose from."""
        logits = self.entry("logits")
        known = logits.statistics.shape[-1] if logits is not None else None
        return known if self.model is None else int(self.model.config.vocab_size)

    def setting(self, name: str, default: Any = None) -> Any:
        """A setting of the model; the default where it has none of that name."""
        return default if self.model is None else getattr(self.model.config, name, default)

    def module(self, path: str) -> nn.Module | None:
        """The part of the model at a path."""
        return None if self.model is None else dict(self.model.named_modules()).get(path)

    def entry(self, site: str) -> Entry | None:
        return self._entries.get(site)

    def value(self, site: str) -> Tensor | None:
        """The first text's values at a site, float32 on the CPU; None where there are none, or only their statistics."""
        entry = self._entries.get(site)
        if entry is None or entry.kept is None:
            return None
        return entry.value[0].detach().to("cpu", torch.float32)

    def word(self, position: int, *, place: bool = False) -> str:
        """A token by name, and where two tokens of the text are called the same, by place."""
        word = self.words[position]
        twice = place or sum(w.piece == word.piece for w in self.words) > 1
        return f"`{word.piece}`" + (f" ({position})" if twice else "")

    def piece(self, token: int) -> str:
        """Any token of the vocabulary by name."""
        return piece_of(self.tokenizer, token)

    def step(
        self,
        site: str,
        title: str,
        says: str,
        *,
        formula: str | None = None,
        tables: Sequence[Table] = (),
        level: str = "normal",
    ) -> Step:
        """A step about a recorded place."""
        entry = self._entries[site]
        statistics = entry.statistics
        return Step(
            title=title,
            says=says,
            site=site,
            formula=formula,
            shape=statistics.shape,
            dims=entry.dims or dims_of(site),
            dtype=statistics.dtype,
            statistics=statistics,
            values=self._few(site),
            source=self.sources.get(site),
            tables=tuple(tables),
            level=level,
        )

    def _few(self, site: str) -> tuple[Values, ...]:
        """The first numbers of the token that is followed."""
        value, dims = self.value(site), (dims_of(site) or "").split()[1:]
        if value is None or value.ndim != len(dims) or "time" not in dims:
            return ()
        where = [f"token {self.followed} {self.word(self.followed)}"]
        row = value.select(dims.index("time"), self.followed)
        if row.ndim == 2:
            row = row[0]
            where.append("head 0")
        if row.ndim == 0:
            return (Values(where=", ".join(where), numbers=(float(row),)),)
        what = "keys" if dims[-1] == "past" else "words" if dims[-1] == "vocab" else "lanes"
        shown = min(SHOWN, len(row))
        return (
            Values(
                where=", ".join([*where, f"{what} 0 to {shown - 1}"]),
                numbers=tuple(float(x) for x in row[:shown]),
            ),
        )

    def row(self, site: str) -> Tensor | None:
        """How the followed token's attention is shared out, `(heads, keys)`."""
        value = self.value(site)
        return self.rows.get(site) if value is None else value[:, self.followed]

    def attention(self, site: str) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        """Row sum, entropy, heaviest weight and its key of every query, each `(heads, time)`."""
        entry = self._entries.get(site)
        if entry is None:
            return None
        found = entry.attention
        if found is None:
            if entry.kept is None:
                return None
            found = attention_of(entry.value)
        return tuple(x[0].cpu() for x in (found.row_sum, found.entropy, found.heaviest, found.heaviest_key))  # type: ignore[return-value]


def piece_of(tokenizer: Tokenizer | None, token: int) -> str:
    """A token as it is shown: its name, or its number where nobody knows names."""
    if tokenizer is None or token >= tokenizer.vocab_size:
        return str(token)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in tokenizer.token_name(token))
