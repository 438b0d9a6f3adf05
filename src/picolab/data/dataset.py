"""A corpus ready to be learned: its tokenizer, its three parts, and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass

from picolab.data.store import Mixture, TokenStore
from picolab.errors import UnknownName
from picolab.text.tokenizer import Tokenizer

Store = TokenStore | Mixture


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceSummary:
    """What one source gives to training: its size, the share of rows asked for, and the shares and repeats that follow.

    Rows are equally long, so the share of tokens is the share of rows but for padding (`Loader.drawn` counts that too); a source
    of short documents gives more documents than its share.
    """

    name: str
    says: str
    documents: int
    tokens: int
    bytes: int
    weight: float
    share_of_documents: float
    share_of_tokens: float
    repeats: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitSummary:
    """One part; `floor` is the least mean nats a token that any model can reach on it, where the rule of the data is known."""

    name: str
    documents: int
    tokens: int
    bytes: int
    floor: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Everything worth showing before training. `tokens` is the budget that the repeats are counted for."""

    name: str
    sources: tuple[SourceSummary, ...]
    splits: tuple[SplitSummary, ...]
    held_out: bool
    tokens: int
    tokenizer: str
    vocab_size: int
    bytes_per_token: float

    @property
    def note(self) -> str | None:
        """What a reader of the numbers must know, if anything."""
        return None if self.held_out else "nothing is held out: the validation text is the training text"


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Tokens for training, validation and test. A part that the split leaves out has no documents."""

    name: str
    says: tuple[str, ...]
    tokenizer: Tokenizer
    train: Store
    validation: Store
    test: Store
    held_out: bool

    def part(self, split: str) -> Store:
        """`train`, `validation` or `test`."""
        parts: dict[str, Store] = {"train": self.train, "validation": self.validation, "test": self.test}
        if split not in parts:
            raise UnknownName("split", split, parts)
        return parts[split]

    def floor(self, split: str) -> float | None:
        """The exact entropy floor in nats a token, end-of-text included: the mean of -log P(document) under the rule of the data.

        None where the rule is not known. It is that of whole documents: a model whose context is shorter than they are cannot
        reach it. It is also that of all rules: one that knew which rules were kept out of training could go a little below.
        """
        return self.part(split).floor

    def summary(self, tokens: int | None = None) -> Summary:
        """What is learned; `tokens` is the training budget, one pass's worth if it is not given."""
        mixture = self.train if isinstance(self.train, Mixture) else Mixture(stores=(self.train,), weights=(1.0,))
        budget = mixture.n_tokens if tokens is None else tokens
        shares = [w / sum(mixture.weights) for w in mixture.weights]
        repeats = [budget * share / store.n_tokens for share, store in zip(shares, mixture.stores, strict=True)]
        read = [r * store.n_documents for r, store in zip(repeats, mixture.stores, strict=True)]
        return Summary(
            name=self.name,
            sources=tuple(
                SourceSummary(
                    name=store.name,
                    says=says,
                    documents=store.n_documents,
                    tokens=store.n_tokens,
                    bytes=store.n_bytes,
                    weight=share,
                    share_of_documents=documents / sum(read),
                    share_of_tokens=share,
                    repeats=r,
                )
                for store, says, share, documents, r in zip(
                    mixture.stores, self.says, shares, read, repeats, strict=True
                )
            ),
            splits=tuple(
                SplitSummary(
                    name=name, documents=part.n_documents, tokens=part.n_tokens, bytes=part.n_bytes, floor=part.floor
                )
                for name, part in (("train", self.train), ("validation", self.validation), ("test", self.test))
            ),
            held_out=self.held_out,
            tokens=budget,
            tokenizer=self.tokenizer.kind,
            vocab_size=self.tokenizer.vocab_size,
            bytes_per_token=mixture.n_bytes / mixture.n_tokens,
        )
