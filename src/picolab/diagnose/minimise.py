"""How small can a failure be? Tokens, blocks, heads and words are taken away while the same fault is found at the same place.

    20 tokens, 12 blocks, 8 heads, 50257 words    -> drop something -> the same cause, the same place? keep it dropped
                                                     nothing more can go: write what is left as a folder

    case/case.py       reads both, says what is wrong, exit code 1 as long as it is
         reference/    the smaller model that is right            target/    the one that is wrong, or nothing: somebody's file.py
         values/       what the target computed, as a trace bundle

The reducing is that of delta debugging (Zeller and Hildebrandt 2002), one thing at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from picolab.diagnose.diff import diff
from picolab.diagnose.shrink import Cut, can_be_cut, can_lose_heads, cut_down
from picolab.diagnose.verdict import Verdict
from picolab.diagnose.walk import local
from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.trace.bundle import write_bundle
from picolab.trace.elsewhere import record_engine
from picolab.trace.engines.here import Here
from picolab.trace.recording import Recording
from picolab.weights.checkpoint import save_model

Ask = Callable[[Sequence[int], int], Recording]
"""Tokens, and how many of them at once -> what the target computes."""

TOKENS = 2
"""No text is made shorter than this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """What is read, and how much of it at once."""

    tokens: tuple[int, ...]
    prefill: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Minimal:
    """What is left: models (`target` None where it is somebody's code), text in the small vocabulary, and what is found in it."""

    reference: LanguageModel
    target: LanguageModel | None
    text: Text
    cut: Cut | None
    recording: Recording
    verdict: Verdict
    tried: int


@dataclass(frozen=True, slots=True)
class Failure:
    """What must stay: the first fault's name, kind of place and phase."""

    cause: str
    place: str
    phase: str

    @classmethod
    def of(cls, verdict: Verdict) -> Failure | None:
        if verdict.verdict != "diverged" or not verdict.born:
            return None
        born = verdict.born[0]
        return cls(born.cause, local(born.site), born.phase)


class _Trials:
    """Runs what is asked for, counts, and says whether the failure is still there."""

    def __init__(self, reference: LanguageModel, target: LanguageModel | Ask, say: Callable[[str], None]) -> None:
        self.reference, self.target, self.say = reference, target, say
        self.failure: Failure | None = None
        self.tried = 0
        self._remained: dict[tuple[Text, Cut | None], bool] = {}

    def run(self, text: Text, cut: Cut | None) -> Minimal:
        self.tried += 1
        tokens, prefill = text.tokens, text.prefill
        if cut is None:
            reference, target = self.reference, None
            assert not isinstance(self.target, LanguageModel)
            recording = self.target(tokens, prefill)
        else:
            assert isinstance(self.target, LanguageModel)
            reference, target = cut_down(self.reference, cut), cut_down(self.target, cut)
            tokens = tuple(cut.words.index(token) for token in tokens)
            recording = record_engine(Here(target), tokens, prefill=prefill)
        return Minimal(
            reference=reference,
            target=target,
            text=Text(tokens=tokens, prefill=prefill),
            cut=cut,
            recording=recording,
            verdict=diff(reference, recording),
            tried=self.tried,
        )

    def remains(self, text: Text, cut: Cut | None) -> bool:
        """Whether the failure is the same; what was tried before, from another side, is not tried again."""
        if (text, cut) in self._remained:
            return self._remained[text, cut]
        left = "" if cut is None else f", {len(cut.blocks)} blocks, {len(cut.words)} words"
        self.say(f"{len(text.tokens)} tokens{left}")
        self._remained[text, cut] = Failure.of(self.run(text, cut).verdict) == self.failure
        return self._remained[text, cut]


def minimise(
    reference: LanguageModel,
    target: LanguageModel | Ask,
    tokens: Sequence[int],
    prefill: int,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> Minimal:
    """The smallest case found in which the first fault is still the same. BadInput where the two do not differ.

    A `target` that is a model of the reference's kind is cut down with it; of anything else only the text can be shortened.
    """
    trials, text = _Trials(reference, target, say), Text(tokens=tuple(tokens), prefill=prefill)
    cut = None
    if isinstance(target, LanguageModel):
        if target.architecture != reference.architecture or not can_be_cut(reference):
            raise BadInput(
                f"a `{target.architecture}` cannot be cut down together with a `{reference.architecture}`",
                hint="--minimise takes two models of one architecture with attention, or a file.py",
            )
        cut = Cut.whole(reference)
    trials.failure = Failure.of(trials.run(text, cut).verdict)
    if trials.failure is None:
        raise BadInput("the two do not differ: there is no failure to make smaller")
    before = None
    while (text, cut) != before:
        before = text, cut
        text = _shorter(trials, text, cut)
        if cut is not None:
            cut = _smaller(trials, text, cut)
    return trials.run(text, cut)


def _shorter(trials: _Trials, text: Text, cut: Cut | None) -> Text:
    """Fewer steps, then half the text, then token by token."""
    for shorter in _without_steps(text):
        if trials.remains(shorter, cut):
            text = shorter
            break
    steps = len(text.tokens) - text.prefill
    while text.prefill // 2 + steps >= TOKENS:
        half = text.prefill // 2
        kept = Text(tokens=text.tokens[half:], prefill=text.prefill - half)
        if not trials.remains(kept, cut):
            break
        text = kept
    for at in reversed(range(len(text.tokens))):
        fewer = Text(
            tokens=(*text.tokens[:at], *text.tokens[at + 1 :]), prefill=text.prefill - (1 if at < text.prefill else 0)
        )
        if len(fewer.tokens) >= TOKENS and fewer.prefill >= 1 and trials.remains(fewer, cut):
            text = fewer
    return text


def _without_steps(text: Text) -> Iterator[Text]:
    for steps in range(len(text.tokens) - text.prefill):
        yield Text(tokens=text.tokens[: text.prefill + steps], prefill=text.prefill)


def _smaller(trials: _Trials, text: Text, cut: Cut) -> Cut:
    """Words nobody reads, positions nobody reaches, then blocks from the last, groups, and heads of every group."""
    used = tuple(sorted(set(text.tokens)))
    spare = tuple(word for word in cut.words if word not in used)[: max(0, 2 - len(used))]
    for fewer in ({"words": tuple(sorted((*used, *spare)))}, {"positions": len(text.tokens)}):
        smaller: Cut = replace(cut, **fewer)
        if smaller != cut and trials.remains(text, smaller):
            cut = smaller
    cut = _dropping(trials, text, cut, "blocks")
    if can_lose_heads(trials.reference):
        cut = _dropping(trials, text, _dropping(trials, text, cut, "groups"), "heads")
    return cut


def _dropping(trials: _Trials, text: Text, cut: Cut, what: str) -> Cut:
    for one in reversed(getattr(cut, what)):
        left = tuple(other for other in getattr(cut, what) if other != one)
        if left:
            smaller: Cut = replace(cut, **{what: left})  # type: ignore[arg-type]
            if trials.remains(text, smaller):
                cut = smaller
    return cut


CASE = '''"""{title}

Written by `picolab diff --minimise`: {size}.
Run it with picolab installed: exit code 1 as long as the failure is there, 0 once it is gone.
"""

import sys
from pathlib import Path

from picolab.diagnose.diff import diff
from picolab.diagnose.target import recording_of
from picolab.runs.reference import open_reference

HERE = Path(__file__).resolve().parent
REFERENCE = str(HERE / "reference")
TARGET = {target}
TOKENS = {tokens}
PREFILL = {prefill}  # read at once; the others one by one

reference = open_reference(REFERENCE).model
target, notes = recording_of(TARGET, TOKENS, prefill=PREFILL{engine})
verdict = diff(reference, target)

print(verdict.says)
for born in verdict.born:
    print(f"born at {{born.site}} ({{born.phase}}), among the lines of {{', '.join(born.lines)}}")
    for told in born.explanations:
        print(f"  {{told.cause}}: {{told.says}}")
sys.exit(verdict.verdict not in ("equal", "noise"))
'''


def write_case(minimal: Minimal, folder: Path, *, code: str | None = None, engine: str = "picolab") -> Path:
    """The case as a folder that runs by itself; `code` is the file.py:function where the target is one. The path of case.py."""
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"`{folder}` is not empty", hint="--out NEW_FOLDER")
    folder.mkdir(parents=True, exist_ok=True)
    save_model(minimal.reference, None, folder / "reference")
    if minimal.target is not None:
        save_model(minimal.target, None, folder / "target")
    write_bundle(minimal.recording, folder / "values")
    born = minimal.verdict.born[0]
    path = folder / "case.py"
    path.write_text(
        CASE.format(
            title=f"`{born.cause}` at `{born.site}`: {born.explanations[0].says}".replace("\\", "\\\\").replace(
                '"', "'"
            ),
            size=said_size(minimal),
            target='str(HERE / "target")' if code is None else json.dumps(_absolute(code)),
            tokens=list(minimal.text.tokens),
            prefill=minimal.text.prefill,
            engine="" if engine == "picolab" else f", engine={engine!r}",
        ),
        encoding="utf-8",
    )
    return path


def _absolute(code: str) -> str:
    path, _, name = code.rpartition(":")
    return f"{Path(path).resolve()}:{name}"


def said_size(minimal: Minimal) -> str:
    """How small it became."""
    text, config = minimal.text, minimal.reference.config
    steps = len(text.tokens) - text.prefill
    told = (
        ("1 token" if text.prefill == 1 else f"{text.prefill} tokens")
        + " at once"
        + (f" and {steps} one by one" if steps else "")
    )
    if minimal.cut is None:
        return f"{told}; the target is code, so the model keeps its size"
    return f"{told}, {_count(config.n_layers, 'block')}, {_count(config.n_heads, 'head')}, {config.vocab_size} words"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
