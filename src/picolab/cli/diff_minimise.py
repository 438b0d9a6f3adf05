"""`picolab diff --minimise`: the failure, as small as it gets, in a folder that runs by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from picolab.cli import console
from picolab.diagnose.minimise import Ask, Minimal, minimise, said_size, write_case
from picolab.diagnose.target import STEPS, is_bundle, recording_of
from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.runs.foreign import is_code
from picolab.runs.reference import Opened, open_reference

if TYPE_CHECKING:
    from picolab.trace.recording import Recording

FOLDER = Path("diff-case")
"""Where the case is written, where nobody says."""


@dataclass(frozen=True, slots=True)
class Written:
    """A case and where it lies."""

    minimal: Minimal
    case: Path

    def tell(self, *, as_json: bool) -> int:
        """Say what is left; exit code 1, as of any two that differ."""
        born = self.minimal.verdict.born[0]
        text = self.minimal.text
        document = {
            "case": self.case,
            "size": said_size(self.minimal),
            "tokens": text.tokens,
            "prefill": text.prefill,
            "tried": self.minimal.tried,
            **console.plain(self.minimal.verdict),
        }
        if as_json:
            console.emit(document)
            return 1
        console.show(Text.assemble((born.cause, "bold"), f" at {born.site} remains with {said_size(self.minimal)}"))
        console.show(Text(f"python {self.case}", style="bold"))
        console.progress().print(f"[{self.minimal.tried} tries]", style="dim", markup=False)
        return 1


def open_to_shrink(reference: str, tokenizer: str | None, seed: int) -> Opened:
    """A reference that can be run again and again."""
    if is_bundle(reference):
        raise BadInput(f"`{reference}` is a bundle: it cannot be run again on less", hint="--minimise takes a model")
    return open_reference(reference, tokenizer=tokenizer, seed=seed)


def shrink(
    opened: Opened,
    target: str,
    ids: Sequence[int],
    *,
    prefill: int | None,
    engine: str,
    tokenizer: str | None,
    folder: Path | None,
) -> Written:
    """Make the failure smaller, and write it."""
    if is_bundle(target):
        raise BadInput(
            f"`{target}` is a bundle: it cannot be run again on less", hint="--minimise takes a model or a file.py"
        )
    if engine != "picolab":
        raise BadInput(f"`--minimise` does not run `{engine}` again and again", hint="--engine picolab, or a file.py")
    folder = folder or FOLDER
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"`{folder}` is there already", hint="--out NEW_FOLDER")
    first = max(len(ids) - STEPS, 1) if prefill is None else prefill
    subject: LanguageModel | Ask

    def ask(tokens: Sequence[int], prefill: int) -> Recording:
        return recording_of(target, tokens, prefill=prefill, tokenizer=tokenizer)[0]

    subject = ask if is_code(target) else open_reference(target, tokenizer=tokenizer).model
    with console.progress().status("shrinking") as status:
        minimal = minimise(opened.model, subject, ids, first, say=lambda line: status.update(Text(line)))
    return Written(minimal, write_case(minimal, folder, code=target if is_code(target) else None))
