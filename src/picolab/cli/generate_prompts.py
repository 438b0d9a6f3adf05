"""What is a model asked to continue? Prompts from the command line, from a file, as token ids, or as what a user says.

--prompt TEXT    --prompts FILE: one a line, or FILE.jsonl {"prompt": "..."}    --tokens 5,17,200 or FILE.json
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picolab.errors import BadData, BadInput

if TYPE_CHECKING:
    from picolab.sample.rows import Prompt
    from picolab.text.tokenizer import Tokenizer

IDS = re.compile(r"[\s,]*\d[\d\s,]*")


def check_asked(
    prompt: str | None, prompts: Path | None, tokens: str | None, *, chat: bool, system: str | None
) -> None:
    """Refuse requests that contradict themselves."""
    given = [
        flag
        for flag, value in (("--prompt", prompt), ("--prompts", prompts), ("--tokens", tokens))
        if value is not None
    ]
    if len(given) > 1:
        raise BadInput(f"`{given[0]}` and `{given[1]}` both say what to continue", hint="give one of them")
    if chat and tokens is not None:
        raise BadInput("`--chat` makes the tokens itself, and `--tokens` brings them", hint="give --prompt TEXT")
    if chat and not given:
        raise BadInput("`--chat` has nothing to answer", hint="say something with --prompt TEXT")
    if system is not None and not chat:
        raise BadInput("`--system` is for models that converse", hint="add --chat")


def asked(prompt: str | None, prompts: Path | None, tokens: str | None) -> list[Prompt]:
    """Every prompt there is; the empty one where nothing was said."""
    if prompts is not None:
        return [*_of_file(prompts)]
    if tokens is not None:
        return [*_ids(tokens)]
    return [prompt or ""]


def as_shown(prompt: Prompt, reads: Tokenizer | None) -> str:
    """A prompt as it stands before the text."""
    if isinstance(prompt, str):
        return prompt
    return ",".join(map(str, prompt)) if reads is None else reads.decode(prompt)


def conversations(said: list[Prompt], reads: Tokenizer, system: str | None) -> list[Prompt]:
    """What users say, each as the beginning of a conversation, in the model's own form."""
    from picolab.text.chat import render_each

    before = [] if system is None else [{"role": "system", "content": system}]
    return [*render_each(reads, [[*before, {"role": "user", "content": str(one)}] for one in said])]


def _of_file(path: Path) -> list[str]:
    """One prompt a line, in a .jsonl file under the name `prompt`; empty lines are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise BadData(
            f"`{path}` is not UTF-8 text: {error.reason} at byte {error.start}", hint="save it as UTF-8"
        ) from error
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise BadData(f"`{path}` holds no prompt", hint='one a line, or {"prompt": "..."} a line in a .jsonl file')
    if path.suffix not in (".jsonl", ".ndjson"):
        return [line for _, line in numbered]
    return [_named(path, number, line) for number, line in numbered]


def _named(path: Path, number: int, line: str) -> str:
    hint = 'a line is {"prompt": "..."}'
    content = _json(line, f"line {number} of `{path}`", hint)
    if not isinstance(content, dict) or not isinstance(content.get("prompt"), str):
        raise BadData(f"line {number} of `{path}` has no text called `prompt`", hint=hint)
    return str(content["prompt"])


def _ids(tokens: str) -> list[list[int]]:
    """Ids from the command line, or a list of them or of such lists from a file."""
    if IDS.fullmatch(tokens):
        return [[int(number) for number in re.findall(r"\d+", tokens)]]
    path, hint = Path(tokens), "ids are written 5,17,200, or stand in a file as [5, 17, 200] or [[5, 17], [200]]"
    if not path.suffix and not path.exists():
        raise BadInput(f"`--tokens {tokens}` are no token ids", hint=hint)
    try:
        content = _json(path.read_text(encoding="utf-8"), f"`{path}`", hint)
    except UnicodeDecodeError as error:
        raise BadData(f"`{path}` is not UTF-8 text: {error.reason} at byte {error.start}", hint=hint) from error
    rows = content if isinstance(content, list) and any(isinstance(row, list) for row in content) else [content]
    for row in rows:
        if not isinstance(row, list) or not row or not all(type(i) is int for i in row):
            raise BadData(f"`{path}` does not hold lists of whole numbers", hint=hint)
    return rows


def _json(text: str, what: str, hint: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f" line {error.lineno}" if error.lineno > 1 else ""
        raise BadData(f"{what} is not JSON:{line} {error.msg} at column {error.colno}", hint=hint) from error
    except RecursionError as error:
        raise BadData(f"{what} is nested too deeply", hint=hint) from error
