"""How does a model that was taught to converse see a conversation? As one text that its template makes, with control tokens.

    [{"role": "user", "content": "Hi"}]  ->  <|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n  ->  ids

The template is a Jinja program that comes with the model (Hugging Face's convention). It is foreign code, so it runs in a process
of its own (`template_worker.py`), for so long and in so much memory. Control tokens in what it writes become their ids; the same
letters in what somebody said stay letters (`controls.py`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from picolab.errors import BadData, BadInput, UnknownName
from picolab.text.controls import TakenApart, controls_of
from picolab.text.tokenizer import Tokenizer

Message = Mapping[str, Any]

ROLES = ("system", "user", "assistant", "tool", "developer", "function")
"""Who may speak. A role is part of the template's own language, which may spell control tokens with it: `<|user|>`."""

SECONDS, MEMORY, CHARACTERS = 10, 1 << 30, 1 << 24
"""Limits of one rendering."""


def render(
    tokenizer: Tokenizer, messages: Sequence[Message], *, add_generation_prompt: bool = True, **variables: Any
) -> list[int]:
    """The ids of a conversation as the model's template writes it, ready to be continued by the assistant.

    Each message has a `role` and, most often, a `content`. `variables` are whatever else the template reads, such as
    `enable_thinking=False`. Nothing is put before the ids: what opens a text is the template's business too.
    """
    return render_each(tokenizer, [messages], add_generation_prompt=add_generation_prompt, **variables)[0]


def render_each(
    tokenizer: Tokenizer,
    conversations: Sequence[Sequence[Message]],
    *,
    add_generation_prompt: bool = True,
    **variables: Any,
) -> list[list[int]]:
    """`render` of several conversations, for little more than the time of one."""
    template = tokenizer.chat_template
    if template is None:
        raise BadInput(
            "the model has no chat template", hint="it was not taught to converse: give it a text to continue"
        )
    for messages in conversations:
        _check(messages)
    controls = controls_of(tokenizer)
    names = {"bos_token": tokenizer.bos, "eos_token": tokenizer.eot, "pad_token": tokenizer.pad}
    spelled = {name: tokenizer.inner.id_to_token(i) for name, i in names.items() if i is not None}
    always = {**spelled, "add_generation_prompt": add_generation_prompt, **controls.guarded(variables)}
    texts = run_template(
        template, [{**always, "messages": controls.guarded(list(messages))} for messages in conversations]
    )
    try:
        rows = [controls.encode(text) for text in texts]
    except TakenApart as error:
        raise _bad("it takes apart what was said, so that control tokens cannot be told from text") from error
    beyond = [i for ids in rows for i in ids if i >= tokenizer.vocab_size]
    if beyond:
        raise BadData(
            f"the conversation needs the token {beyond[0]}, and the vocabulary has {tokenizer.vocab_size}",
            hint="a compact vocabulary spells its own corpus; `--compact-vocab` off keeps every token",
        )
    return rows


def run_template(template: str, conversations: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a template writes for each set of variables; BadInput where it refuses one, BadData where it cannot run."""
    limits = {"seconds": SECONDS, "bytes": MEMORY, "characters": CHARACTERS}
    request = json.dumps({"template": template, "variables": list(conversations), "limits": limits})
    worker = [sys.executable, "-P", str(Path(__file__).with_name("template_worker.py"))]
    try:
        done = subprocess.run(worker, input=request, capture_output=True, text=True, timeout=SECONDS + 5)
    except subprocess.TimeoutExpired as error:
        raise _bad(f"it has not ended after {SECONDS} seconds") from error
    if done.returncode < 0:  # a signal: the system's limits
        raise _bad(f"it was stopped at {SECONDS} seconds or {MEMORY >> 20} MB")
    if done.returncode > 0:
        raise _bad((done.stderr.strip().splitlines() or ["its process failed"])[-1])
    answer: dict[str, Any] = json.loads(done.stdout)
    if "refuses" in answer:
        raise BadInput(
            f"the chat template refuses the conversation: {_sentence(answer['refuses'])}",
            hint="the template came with the model and says what the model was taught to read",
        )
    if "fails" in answer:
        raise _bad(answer["fails"])
    texts: list[str] = answer["texts"]
    return texts


def _check(messages: Sequence[Message]) -> None:
    """Refuse what is no conversation."""
    if not messages:
        raise BadInput("the conversation is empty", hint="give it at least one message")
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping) or "role" not in message:
            raise BadInput(f"message {number} has no `role`", hint='a message is {"role": "user", "content": "..."}')
        if message["role"] not in ROLES:
            raise UnknownName("role in a conversation", str(message["role"]), ROLES)


def _bad(why: str) -> BadData:
    return BadData(
        f"the chat template cannot be used: {_sentence(why)}", hint="it came with the model; leave `--chat` out"
    )


def _sentence(text: str) -> str:
    """A foreign message on one line, of a length one can read."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= 300 else line[:300] + "…"
