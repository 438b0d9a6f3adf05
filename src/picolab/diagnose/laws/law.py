"""What is a law? Something that holds of every correct model, checked on this one, and said in numbers.

Patient    what is examined: at least tokens -> logits; more where it offers more
Law        check(patient) -> Finding
Finding    pass, fail or skip; one sentence with the numbers; what to do
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from picolab.diagnose.laws.offered import Data, History, Words
from picolab.diagnose.laws.own import own_offers
from picolab.diagnose.laws.sampling import Sampling
from picolab.errors import BadInput
from picolab.models.contract import LanguageModel

Status = Literal["pass", "fail", "skip"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a law found. `says` is one sentence with the numbers, `evidence` the numbers, `hint` what to look at."""

    law: str
    status: Status
    says: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    hint: str = ""
    seconds: float = 0.0


Forward = Callable[[Tensor], Tensor]
"""Tokens `(batch, time)` int64 to logits `(batch, time, vocab)`."""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """What is examined. Laws that need what is None here are skipped, and say so.

    `read` continues a text: `read(tokens, memory)` gives logits and takes what `new_memory(batch, capacity)` made.
    `trained` is None where nobody knows; laws about what a model has
    learned are then skipped. `run(copy, tokens)` gives the logits of a changed copy of `module`, with their gradient. `build(seed)`
    makes the model anew as it was made, after seeding torch, numpy and random. `checkpoint` is the folder or file its weights came
    from. `quantise(matrix)` packs a float matrix and unpacks it again.

    About training and words (`offers.py` says how somebody's object offers them): `tokenizer` has `encode` and `decode`; `sampling`
    chooses tokens; `loss(tokens)` is the mean nats of all next tokens and has a gradient; `accumulate(tokens, pieces)` leaves the
    gradient of one step in `module`; `packed(tokens, documents)` reads rows that hold several documents; `optimizer` trains
    `module`; `data` are documents and batches; `history` the rows a training left. `missing` is why there is no model: laws that
    need none are still asked.
    """

    name: str
    forward: Forward
    vocab_size: int
    context_length: int | None = None
    module: nn.Module | None = None
    model: LanguageModel | None = None
    tokenizer: Words | None = None
    trained: bool | None = None
    new_memory: Callable[[int, int], Any] | None = None
    read: Callable[[Tensor, Any], Tensor] | None = None
    text: Tensor | None = None
    seed: int = 0
    run: Callable[[nn.Module, Tensor], Tensor] | None = None
    build: Callable[[int], nn.Module] | None = None
    checkpoint: Path | None = None
    quantise: Callable[[Tensor], Tensor] | None = None
    sampling: Sampling | None = None
    loss: Callable[[Tensor], Tensor] | None = None
    accumulate: Callable[[Tensor, int], object] | None = None
    packed: Callable[[Tensor, Tensor], Tensor] | None = None
    optimizer: torch.optim.Optimizer | None = None
    data: Data | None = None
    history: History | None = None
    missing: str = ""

    @classmethod
    def of(cls, model: LanguageModel, *, name: str = "the model", **known: Any) -> Patient:
        """A model of the zoo, in evaluation mode."""
        model.eval()
        return cls(
            name=name,
            forward=lambda tokens: model(tokens.to(model.device)),
            vocab_size=int(model.config.vocab_size),
            context_length=int(model.config.context_length),
            module=model,
            model=model,
            new_memory=model.new_cache,
            read=lambda tokens, memory: model(tokens.to(model.device), cache=memory),
            run=lambda copy, tokens: copy(tokens.to(model.device)),
            **(own_offers(model) | known),
        )

    def random(self, batch: int, time: int, *, salt: int = 0) -> Tensor:
        """Random tokens `(batch, time)`, the same for the same seed; no longer than the model reads."""
        limit = time if self.context_length is None else min(time, self.context_length)
        generator = torch.Generator().manual_seed(self.seed * 1000 + salt)
        return torch.randint(0, self.vocab_size, (batch, limit), generator=generator)

    def tokens(self, batch: int, time: int, *, salt: int = 0) -> Tensor:
        """Rows of the text that belongs to the model, if there is one: trained weights behave there; else random tokens."""
        if self.text is None or self.text.numel() < batch * time:
            return self.random(batch, time, salt=salt)
        limit = time if self.context_length is None else min(time, self.context_length)
        return self.text[: batch * limit].reshape(batch, limit)

    @torch.no_grad()
    def logits(self, tokens: Tensor) -> Tensor:
        """Logits as float32 in main memory."""
        return self.forward(tokens).detach().float().cpu()


class Law(ABC):
    """One law. `name` is its page and its row; `id` the number of the research table; `says` the law itself.

    One that `compares` the answers of two passes says nothing about a model that answers the same question differently.
    """

    name: ClassVar[str]
    id: ClassVar[str]
    says: ClassVar[str]
    hint: ClassVar[str] = ""
    order: ClassVar[int] = 50
    needs_model: ClassVar[bool] = True
    compares: ClassVar[bool] = False

    @abstractmethod
    def check(self, patient: Patient) -> Finding:
        """Examine, and say what was found; may raise whatever the patient raises."""

    def passes(self, says: str, **evidence: Any) -> Finding:
        return Finding(law=self.name, status="pass", says=says, evidence=evidence)

    def fails(self, says: str, hint: str = "", **evidence: Any) -> Finding:
        return Finding(law=self.name, status="fail", says=says, evidence=evidence, hint=hint or self.hint)

    def skips(self, says: str) -> Finding:
        return Finding(law=self.name, status="skip", says=says)


def examine(patient: Patient, laws: Sequence[Law]) -> list[Finding]:
    """Every law, in order; one that the patient answers with an exception is a finding too."""
    findings: list[Finding] = []
    for law in laws:
        started = time.monotonic()
        try:
            if patient.missing and law.needs_model:
                finding = law.skips(patient.missing)
            elif law.compares and any(found.evidence.get("unsteady") for found in findings):
                finding = law.skips("it answers the same tokens differently each time: comparing answers says nothing")
            else:
                finding = law.check(patient)
        except BadInput as error:
            finding = law.fails(f"the model refused: {error}", hint=error.hint or "")
        except Exception as error:  # noqa: BLE001  somebody else's code: whatever it raises is what was found
            finding = law.fails(
                f"the model raised {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
            )
        findings.append(replace(finding, seconds=time.monotonic() - started))
    return findings


def gap(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the largest absolute value of the first; infinite where only one is finite."""
    if not torch.equal(a.isfinite(), b.isfinite()):
        return float("inf")
    size = float(a[a.isfinite()].abs().max()) if a.isfinite().any() else 1.0
    return float((a - b).nan_to_num(0.0).abs().max()) / (size or 1.0)
