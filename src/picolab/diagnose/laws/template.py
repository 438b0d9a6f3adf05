"""Does a conversation look to the model as it did in its training? `template` (I30).

<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n          ends where the answer begins: the generation prompt
<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\nHello<|im_end|>     the same, then the answer, closed once

Each control string is one token; opened once, closed once.
"""

from __future__ import annotations

import re
from itertools import pairwise

from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.diagnose.laws.words import Vocabulary, vocabulary_of

CONTROL = re.compile(r"<\|[^|<>\s]{2,40}\|>|</?s>|<(?:bos|eos|start_of_turn|end_of_turn)>")
"""What looks like a control token wherever it stands."""

QUESTION, ANSWER = "What is the capital of France?", "It is Paris on the Seine."
THOUGHT = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)


class Template(Law):
    name = "template"
    id = "I30"
    says = "control strings are tokens, the answer follows the prompt"
    hint = "the template of another model, letters in place of control tokens, an opening or closing token added a second time"
    order = 2
    needs_model = False

    def check(self, patient: Patient) -> Finding:
        if patient.tokenizer is None:
            return self.skips("there is no tokenizer")
        words = vocabulary_of(patient.tokenizer)
        if words.render is None:
            return self.skips("the model has no chat template (`render(messages, add_generation_prompt=)`)")
        question = [{"role": "user", "content": QUESTION}]
        prompt = words.render(question, True)
        whole = words.render([*question, {"role": "assistant", "content": ANSWER}], False)
        for wrong in (
            _broken_up(words, prompt) or _broken_up(words, whole),
            _opened_twice(words, prompt),
            _closed_twice(words, whole),
            _prompt(words, prompt, whole),
        ):
            if wrong:
                return self.fails(wrong, prompt=prompt, whole=whole)
        controls = {token for token in prompt if token in set(words.controls.values())}
        return self.passes(
            f"a question is {len(prompt)} tokens, control tokens of {len(controls)} kinds, and ends where the answer begins",
            prompt=prompt,
        )


def _broken_up(words: Vocabulary, ids: list[int]) -> str:
    """Control strings that are spelled with letters."""
    by_id = {token: name for name, token in words.controls.items()}
    # Between two control tokens there are letters only: what looks like a control string there was never matched.
    letters: list[int] = []
    runs: list[list[int]] = []
    for token in ids:
        if token in by_id:
            runs.append(letters)
            letters = []
        else:
            letters.append(token)
    for run in (*runs, letters):
        found = CONTROL.search(words.decode(run))
        if found:
            known = (
                "which the vocabulary has as one token"
                if found[0] in words.controls
                else "which is no token of this vocabulary"
            )
            return f"the template writes `{found[0]}` in letters ({len(words.encode(found[0]))} tokens), {known}"
    return ""


def _opened_twice(words: Vocabulary, prompt: list[int]) -> str:
    if words.opens is not None and prompt[:2] == [words.opens] * 2:
        return f"a conversation opens with token {words.opens} twice"
    return ""


def _closed_twice(words: Vocabulary, whole: list[int]) -> str:
    for token, following in pairwise(whole):
        if token == following and token in words.ends:
            return f"an answer is closed with token {token} twice"
    return ""


def _prompt(words: Vocabulary, prompt: list[int], whole: list[int]) -> str:
    """Whether what one generates from is what stands before the answer."""
    if not prompt:
        return "a question gives no tokens at all"
    asked, told = _letters(words, prompt), _letters(words, whole)
    at = told.find(ANSWER)
    if at < 0:
        return "the answer is not in the conversation that the template writes"
    before = THOUGHT.sub("", told[:at])
    if before.rstrip() == THOUGHT.sub("", asked).rstrip():
        return ""
    if before.startswith(asked.rstrip()):
        missing = _shown(before[len(asked.rstrip()) :])
        return f"the generation prompt is missing: `{missing}` stands between a question and its answer"
    return f"one generates after `{_shown(asked[-40:])}`, and answers stand after `{_shown(before[-40:])}`"


def _letters(words: Vocabulary, ids: list[int]) -> str:
    """The text with its control tokens written out."""
    by_id = {token: name for name, token in words.controls.items()}
    said = ""
    run: list[int] = []
    for token in ids:
        if token in by_id:
            said += words.decode(run) + by_id[token]
            run = []
        else:
            run.append(token)
    return said + words.decode(run)


def _shown(text: str) -> str:
    return text.strip().replace("\n", "\\n")
