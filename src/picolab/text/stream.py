"""Text while its tokens arrive: what is certain so far, never half a character.

    ids      ..  23   104     222     10        a rose is four bytes, here in two tokens
    bytes    ..  a    F0 9F   8C B9   \\n
    text     ..  "a"  ""      "🌹"    "\\n"

The pieces joined are `Tokenizer.decode` of all the ids. Bytes that can no longer become a character are U+FFFD at once.
"""

from __future__ import annotations

import codecs

from picolab.text.tokenizer import Tokenizer


class TextStream:
    """Token ids in, one at a time; text out."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._begun = False

    def push(self, token: int) -> str:
        """The text that has become certain with this token; empty for a control token or inside a character."""
        spelled = self._tokenizer.token_bytes(token)
        if not spelled:
            return ""
        spelling = self._tokenizer.spelling
        if self._begun:
            spelled = spelling.between + spelled
        elif spelling.drops_first_space:
            spelled = spelled.removeprefix(b" ")
        self._begun = True
        return self._utf8.decode(spelled)

    def finish(self) -> str:
        """No token follows: a character begun and not ended is U+FFFD. The stream is as new."""
        self._begun = False
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return rest
