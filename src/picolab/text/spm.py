"""SentencePiece's byte-pair encoding: the pieces carry scores, and the best pair anywhere in the text is joined first. Kudo and
Richardson 2018, arXiv:1808.06226.

    "a cat"  ->  ▁a▁cat  ->  ▁ a ▁ c a t  ->  join the pair whose whole has the highest score, leftmost first, until none is left

A space is written ▁, one is put before the text, and a character that is no piece becomes its UTF-8 bytes, `<0xE2>` `<0x98>`
`<0x83>`. Llama 1 and 2, Mistral and TinyLlama read text so; GGUF calls it `llama`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, processors

from picolab.errors import BadCheckpoint
from picolab.text.spelling import METASPACE
from picolab.text.tokenizer import Tokenizer

LONGEST = 1024
"""Characters of a piece: the ways to cut one in two grow with its length, and real vocabularies stay below 200."""


class Kind(enum.IntEnum):
    """What a piece is for, numbered as SentencePiece and GGUF number it."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Pieces:
    """A SentencePiece vocabulary: piece i is written `texts[i]`.

    `space_first` puts a space before every text; `one_space` makes several spaces one, and none at the ends (which loses them).
    """

    texts: Sequence[str]
    scores: Sequence[float]
    kinds: Sequence[Kind]
    space_first: bool = True
    one_space: bool = False

    def __post_init__(self) -> None:
        if not len(self.texts) == len(self.scores) == len(self.kinds):
            raise BadCheckpoint(
                f"the vocabulary has {len(self.texts)} pieces, {len(self.scores)} scores and {len(self.kinds)} kinds"
            )
        if any(score != score for score in self.scores):
            raise BadCheckpoint("a score of the vocabulary is not a number")
        check_pieces(self.texts)

    def of_kind(self, *kinds: Kind) -> list[int]:
        """The ids of some kinds, ascending."""
        return [i for i, kind in enumerate(self.kinds) if kind in kinds]


def check_pieces(texts: Sequence[str]) -> None:
    """Refuse a vocabulary in which an id could not be told from another."""
    if not texts:
        raise BadCheckpoint("the vocabulary is empty")
    if len(set(texts)) < len(texts):
        seen: set[str] = set()
        twice = next(text for text in texts if text in seen or seen.add(text))  # type: ignore[func-returns-value]
        raise BadCheckpoint(
            f"two pieces of the vocabulary are written `{twice[:40]}`", hint="the file is torn or foreign"
        )
    longest = max(texts, key=len)
    if len(longest) > LONGEST:
        raise BadCheckpoint(
            f"a piece of the vocabulary has {len(longest)} characters", hint="the file is torn or foreign"
        )
    if "" in texts:
        raise BadCheckpoint("a piece of the vocabulary is empty", hint="the file is torn or foreign")


def spm_tokenizer(
    pieces: Pieces,
    *,
    eot: int,
    bos: int | None,
    opens: bool = True,
    pad: int | None = None,
    ends: Sequence[int] = (),
    chat_template: str | None = None,
) -> Tokenizer:
    """A tokenizer with SentencePiece's ids; `bos` is the opening token, and `opens` says that texts begin with it."""
    texts = list(pieces.texts)
    unknown = pieces.of_kind(Kind.UNKNOWN)
    spells_bytes = {f"<0x{byte:02X}>" for byte in range(256)} <= {texts[i] for i in pieces.of_kind(Kind.BYTE)}
    if not unknown and not spells_bytes:
        raise BadCheckpoint(
            "the vocabulary has neither a piece for every byte nor one for the unknown",
            hint="the file is torn or foreign",
        )
    model = models.BPE(
        vocab={text: i for i, text in enumerate(texts)},
        merges=merges(pieces),
        unk_token=texts[unknown[0]] if unknown else None,
        fuse_unk=True,
        byte_fallback=spells_bytes,
    )
    inner = tokenizers.Tokenizer(model)
    squeeze = [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    first = [normalizers.Prepend(METASPACE)] if pieces.space_first else []
    spaces = [normalizers.Replace(" ", METASPACE)]
    inner.normalizer = normalizers.Sequence([*(squeeze if pieces.one_space else []), *first, *spaces])
    strip = [decoders.Strip(" ", 1, 0)] if pieces.space_first else []
    inner.decoder = decoders.Sequence(
        [decoders.Replace(METASPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    control = [texts[i] for i in pieces.of_kind(Kind.UNKNOWN, Kind.CONTROL)]
    inner.add_special_tokens([tokenizers.AddedToken(text, special=True, normalized=False) for text in control])
    spelled = [texts[i] for i in pieces.of_kind(Kind.USER_DEFINED)]
    inner.add_tokens([tokenizers.AddedToken(text, special=False, normalized=False) for text in spelled])
    opening = () if bos is None or not opens else (bos,)
    if opening:
        opens_with(inner, opening[0])
    return Tokenizer(
        inner, kind="spm", eot=eot, pad=pad, opening=opening, ends=ends, chat_template=chat_template, bos=bos
    )


def opens_with(inner: tokenizers.Tokenizer, bos: int) -> None:
    """Let other libraries, which add control tokens, put the same token before every text."""
    # By an alias: the template's own language has words for `:` and `$`, which a token may hold.
    inner.post_processor = processors.TemplateProcessing(
        single=["opening", "$A"],
        pair=["opening", "$A", "opening:1", "$B:1"],
        special_tokens=[{"id": "opening", "ids": [bos], "tokens": [inner.id_to_token(bos)]}],
    )


def merges(pieces: Pieces) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, the best score first: what SentencePiece would join, as a list of pairs."""
    scored = {pieces.texts[i]: pieces.scores[i] for i in pieces.of_kind(Kind.NORMAL)}
    ids = {text: i for i, text in enumerate(pieces.texts)}
    found = [
        (-score, ids[text[:cut]], ids[text[cut:]])
        for text, score in scored.items()
        for cut in range(1, len(text))
        if text[:cut] in scored and text[cut:] in scored
    ]
    return [(pieces.texts[left], pieces.texts[right]) for _, left, right in sorted(found)]


def encode_plainly(text: str, pieces: Pieces) -> list[int]:
    """The algorithm as it is told above: look for the best pair, join it, again and again."""
    ids = {piece: i for i, piece in enumerate(pieces.texts)}
    scores = {pieces.texts[i]: pieces.scores[i] for i in pieces.of_kind(Kind.NORMAL)}
    if pieces.one_space:
        text = " ".join(word for word in text.split(" ") if word)
    written = (METASPACE if pieces.space_first and text else "") + text.replace(" ", METASPACE)
    symbols = list(written)
    while True:
        pairs = [
            (scores[left + right], -at) for at, (left, right) in enumerate(pairwise(symbols)) if left + right in scores
        ]
        if not pairs:
            break
        at = -max(pairs)[1]
        symbols[at : at + 2] = ["".join(symbols[at : at + 2])]
    out: list[int] = []
    for symbol in symbols:
        out += [ids[symbol]] if symbol in scores else [ids[f"<0x{byte:02X}>"] for byte in symbol.encode()]
    return out
