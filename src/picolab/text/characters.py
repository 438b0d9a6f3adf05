"""Characters: one token for each character of a corpus, in the order of their code points, then the end of text.

    "the cat" -> t h e ␣ c a t         a vocabulary of tens: losses one can check by hand, words one can watch being learned

A character the corpus does not have is an error that names it. It could be an unknown-token or a run of bytes instead; the first
would lose text unseen, the second would put 256 tokens no training ever touches into a vocabulary of sixty.
"""

from __future__ import annotations

from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models

from picolab.errors import BadData
from picolab.text.tokenizer import Tokenizer, closed


def character_tokenizer(documents: Iterable[str]) -> Tokenizer:
    """The characters of the documents, read once, as they come."""
    characters: set[str] = set()
    for document in documents:
        characters.update(document)
    if not characters:
        raise BadData("the corpus has no character", hint="`characters` takes its vocabulary from the corpus")
    # Naming an unknown-token the vocabulary lacks makes the library raise at an unseen character; without one it would skip it.
    vocabulary = {character: token for token, character in enumerate(sorted(characters))}
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<|unknown|>"))
    inner.decoder = decoders.Fuse()
    return closed(inner, kind="characters")
