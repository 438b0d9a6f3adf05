"""Text to tokens and back, and nothing lost: `tokenizer` (I19).

decode(encode(text)) = text            for every byte, half-composed letters, scripts of the world, spaces in a row
encode("<|endoftext|>")                letters, no control token: else whoever writes about it ends the document
one token after another                the pieces joined are the whole text, no half character among them
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable

from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.diagnose.laws.words import Vocabulary, vocabulary_of
from picolab.errors import PicolabError

PLAIN = (
    "Once upon a time there was a little girl who lived in a small house near the big forest. She liked to play with her dog "
    "and every morning they went out to look for something new."
)
TEXTS = (
    "",
    "a",
    " ",
    "  two  and   three   spaces ",
    "\n\n\tTabs\tand\r\nother\rline ends\n",
    "It's 1,234.50 (about 3e-7%), isn't it?",
    "naïve café, cafe\u0301, Ångström",
    "Größe der Straße",
    "Привет, мир. Ελληνικά",
    "东京の猫は可愛い。한국어",
    "שלום مرحبا नमस्ते",
    "👩‍👩‍👧‍👦 🌹🇫🇷 ✍🏽",
    "zero\u200bwidth, \ufeffmark, \u2028line, \ufffdunknown, \u00a0hard space",
    "def f(x):\n    return x ** 2  # Ġ is a letter too",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "<0x41> <unk> [UNK] \\n \\u0041",
    PLAIN,
)
CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<bos>", "<eos>", "<pad>", "<|eot_id|>")
LEADS = [
    *range(0x80),
    *range(0x80, 0x800, 17),
    *range(0x800, 0xD800, 1789),
    *range(0xE000, 0x10000, 1789),
    *range(0x10000, 0x110000, 0x5FFF),
]
"""Code points whose UTF-8 holds every byte that UTF-8 has."""

ROUNDS, LENGTH = 40, 24

SPACE = "\u2581"
"""SentencePiece writes a space so, and reads it as one: no fault of anybody's port."""


class TokenizerLaw(Law):
    name = "tokenizer"
    id = "I19"
    says = "every text comes back, and none spells a control token"
    hint = "bytes that are no character, a missing byte token, spaces stripped, control strings that are matched in plain text"
    order = 1
    needs_model = False

    def check(self, patient: Patient) -> Finding:
        if patient.tokenizer is None:
            return self.skips("there is no tokenizer")
        words = vocabulary_of(patient.tokenizer)
        told: list[str] = []
        for check in (_fits, _returns, _spells_bytes, _controls, _opens, _streams, _merges):
            wrong = check(words, patient, told)
            if wrong:
                return self.fails(wrong, check=check.__name__[1:])
        return self.passes("; ".join(told), vocab_size=words.size)


def _fits(words: Vocabulary, patient: Patient, told: list[str]) -> str:
    """Every id has a row in the model, and training read the same vocabulary."""
    if words.size is not None and not patient.missing and words.size > patient.vocab_size:
        return f"it has {words.size} tokens, and the model {patient.vocab_size}: it is another model's"
    made = None if patient.data is None else patient.data.words
    if made is not None and words.fingerprint is not None and made != words.fingerprint:
        return (
            f"the data were cut with another tokenizer ({made[:8]}) than the checkpoint has ({words.fingerprint[:8]})"
        )
    return ""


def _returns(words: Vocabulary, patient: Patient, told: list[str]) -> str:
    """Every text comes back; of a vocabulary that does not spell any text, those it can spell."""
    texts = _own_texts(words) if closed(words) else [*TEXTS, *_random_texts(patient.seed)]
    normal = ""
    for text in texts:
        try:
            back = words.decode(words.encode(text))
        except Exception as error:  # noqa: BLE001  somebody else's code: what it raises is what was found
            return f"{_shown(text)} makes it raise {type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
        if back == text:
            continue
        form = next((form for form in ("NFC", "NFKC") if back == unicodedata.normalize(form, text)), "")
        if not form:
            return f"{_shown(text)} comes back as {_shown(back)}"
        normal = form
    told.append(f"{len(texts)} texts come back" + (f", letters composed ({normal})" if normal else ""))
    return ""


def _spells_bytes(words: Vocabulary, patient: Patient, told: list[str]) -> str:
    """Every byte of UTF-8 can be written."""
    if closed(words):
        return ""
    lost: set[int] = set()
    for start in range(0, len(LEADS), 8):
        text = "".join(map(chr, LEADS[start : start + 8]))
        back = words.decode(words.encode(text))
        if back not in (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFKC", text)):
            lost |= {code for code in LEADS[start : start + 8] if chr(code) not in back}
    if lost:
        some = ", ".join(f"U+{code:04X}" for code in sorted(lost)[:4])
        return f"{len(lost)} of {len(LEADS)} characters are lost, {some} among them: is a token there for every byte?"
    told.append("every byte")
    return ""


def _controls(words: Vocabulary, patient: Patient, told: list[str]) -> str:
    """The letters of a control token are letters."""
    ids = set(words.controls.values()) | words.ends | ({words.opens} - {None})
    if not ids or closed(words):
        return ""
    for name in sorted({*CONTROLS, *words.controls}):
        text = f"one {name} two"
        found = [token for token in words.encode(text) if token in ids]
        if len(found) > _added(words):
            return f"the text {_shown(text)} becomes the control token {found[-1]}: a document can end another"
    told.append(f"no text spells one of {len(ids)} control tokens")
    return ""


def _opens(words: Vocabulary, patient: Patient, told: list[str]) -> str:
    """One opening token at most."""
    if words.opens is None or closed(words):
        return ""
    ids = words.encode(PLAIN)
    begins = next((n for n, token in enumerate(ids) if token != words.opens), len(ids))
    if begins > 1:
        return f"a text begins with the opening token {words.opens} {begins} times"
    again = words.encode(words.decode(ids))
    if again[: begins + 1] == [words.opens] * (begins + 1) and begins:
        return f"its own text read again begins with the opening token {words.opens} {begins + 1} times"
    return ""


def _streams(words: Vocabulary, patient: Patient, told: list[str]) -> str:
    """Token by token is the same text."""
    if words.stream is None:
        return ""
    rng = random.Random(patient.seed)
    rows = [words.encode(text) for text in ([] if closed(words) else TEXTS)]
    if words.size:
        rows += [[rng.randrange(words.size) for _ in range(LENGTH)] for _ in range(ROUNDS)]
    for ids in rows:
        whole, pieces = words.decode(ids), words.stream(ids)
        if whole != pieces:
            return f"{len(ids)} tokens one after another give {_shown(pieces)}, at once {_shown(whole)}"
    told.append("streaming")
    return ""


def _merges(words: Vocabulary, patient: Patient, told: list[str]) -> str:
    """A large vocabulary of words and pieces writes a plain text in fewer tokens than letters."""
    if words.size is None or words.size < 2000 or closed(words):
        return ""
    share = len(words.encode(PLAIN)) / len(PLAIN)
    if share > 0.8:
        return f"{words.size} tokens, and plain text takes {share:.2f} a letter: were the merges read?"
    told.append(f"{share:.2f} tokens a letter")
    return ""


def closed(words: Vocabulary) -> bool:
    """Whether it spells its own words only: cut to a corpus, or single characters."""
    if words.is_cut:
        return True
    if words.size is None or words.size > 4096:
        return False
    try:
        shown = [words.decode([token]) for token in range(words.size) if token not in words.controls.values()]
    except Exception:  # noqa: BLE001  what it cannot decode is found by the round trip
        return False
    # One character a token, and fewer than the bytes there are: a vocabulary of characters or numbers.
    alone = all(len(text) <= 1 or text.strip().lstrip("-").isdigit() for text in shown)
    return alone and words.size < 256


def _own_texts(words: Vocabulary) -> list[str]:
    rng = random.Random(0)
    usable = [token for token in range(words.size or 0) if token not in words.controls.values()]
    rows = [[rng.choice(usable) for _ in range(rng.randrange(1, LENGTH))] for _ in range(ROUNDS)] if usable else []
    # What comes of joined tokens may be another text (a half character): only what can be spelled again is asked.
    return [text for row in rows if _spells(words, text := words.decode(row))]


def _spells(words: Vocabulary, text: str) -> bool:
    try:
        words.encode(text)
    except (PicolabError, KeyError, ValueError):
        return False
    return True


def _random_texts(seed: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(_character(rng) for _ in range(rng.randrange(1, LENGTH))) for _ in range(ROUNDS)]


def _character(rng: random.Random) -> str:
    block: Callable[[], int] = rng.choice(
        (
            lambda: rng.randrange(0x20, 0x7F),
            lambda: rng.randrange(0x0, 0x250),
            lambda: rng.randrange(0x250, 0xD800),
            lambda: rng.randrange(0xE000, 0x110000),
        )
    )
    # Composed already, so that a vocabulary that composes letters gives them back.
    letter = unicodedata.normalize("NFKC", chr(block()))
    return "_" if letter == SPACE else letter


def _added(words: Vocabulary) -> int:
    """Control tokens that it puts around any text."""
    ids = {*words.controls.values(), *words.ends, words.opens}
    return sum(token in ids for token in words.encode("one two"))


def _shown(text: str, limit: int = 40) -> str:
    said = ascii(text)
    return f"`{said[1:-1][:limit]}{'..' if len(said) > limit + 2 else ''}`"
