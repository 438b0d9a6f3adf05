"""What in a text file is one document? Said in the spec, or seen from the file.

    lines:PATH        one example a line                        a.txt: One example.\\nAnother.\\n
    paragraphs:PATH   examples between blank lines              a play, a poem, notes
    endoftext:PATH    examples between `<|endoftext|>`          TinyStories as it is published
    whole:PATH        a file is one example                     a folder of short texts
    PATH              endoftext if the file has that mark, else paragraphs if it has a blank line inside, else lines

A folder is all its *.txt files, in the order of their paths, each divided by the same rule. White space around a document and
empty documents are dropped, `\\r\\n` is read as `\\n`. Files are read as a stream: one document at a time has to fit in memory.
"""

from __future__ import annotations

import codecs
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from picolab.errors import BadData

CHUNK = 2**20
END = "<|endoftext|>"
SEPARATORS: dict[str, re.Pattern[str] | None] = {
    "lines": re.compile(r"\n"),
    "paragraphs": re.compile(r"\n[ \t]*\n"),
    "endoftext": re.compile(re.escape(END)),
    "whole": None,
}
SAYS = {
    "lines": "one document a line",
    "paragraphs": "documents between blank lines",
    "endoftext": f"documents between {END}",
    "whole": "a file is one document",
}
_BLANK_LINE = re.compile(rb"\S[ \t\r]*\n[ \t\r]*\n\s*\S")


def text_files(path: Path) -> list[Path]:
    """The file, or the *.txt files of the folder, that hold anything; an error if none does."""
    try:
        if path.is_dir():
            found = sorted(
                (p for p in path.rglob("*.txt") if p.is_file()), key=lambda p: p.relative_to(path).as_posix()
            )
            if not found:
                raise BadData(
                    f"the folder `{path}` has no *.txt file",
                    hint="text is read from files that end in .txt, at any depth",
                )
            full = [p for p in found if p.stat().st_size]
            if not full:
                raise BadData(f"all {len(found)} *.txt files of `{path}` are empty", hint="write some text into them")
            return full
        if not path.exists():
            raise BadData(
                f"there is no file or folder `{path}`", hint="check the path; it is relative to where you are"
            )
        if not path.is_file():
            raise BadData(
                f"`{path}` is neither a file nor a folder", hint="text is read several times: save it to a file first"
            )
        if not path.stat().st_size:
            raise BadData(f"`{path}` is empty", hint="write some text into it")
    except PermissionError as error:
        raise _unreadable(error) from error
    return [path]


def seen_division(path: Path) -> str:
    """How a file divides when nobody says: by the marks it has."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(END.encode()) >= 0:
                return "endoftext"
            return "paragraphs" if _BLANK_LINE.search(content) else "lines"
    except PermissionError as error:
        raise _unreadable(error) from error


def read_documents(path: Path, division: str) -> Iterator[str]:
    """The documents of one file, in order."""
    separator = SEPARATORS[division]
    settled: list[str] = []  # the document that is being read, up to where a separator may have begun
    doubtful = ""
    try:
        # utf-8-sig: a byte order mark is no text.
        with path.open(encoding="utf-8-sig", newline=None) as file:
            while chunk := file.read(CHUNK):
                *ended, rest = separator.split(doubtful + chunk) if separator else [doubtful + chunk]
                if ended:
                    ended[0] = "".join([*settled, ended[0]])
                    settled = []
                    yield from filter(None, map(str.strip, ended))
                at = max(rest.rfind(begins) for begins in "\n<")
                at = len(rest) if at < 0 else at
                settled.append(rest[:at])
                doubtful = rest[at:]
    except UnicodeDecodeError as error:
        offset, byte = _first_bad_byte(path)
        raise BadData(
            f"`{path}` is not UTF-8 text: byte 0x{byte:02x} at offset {offset}",
            hint="convert it, for example `iconv -f ISO-8859-1 -t UTF-8 OLD > NEW`",
        ) from error
    except (PermissionError, FileNotFoundError) as error:
        raise _unreadable(error) from error
    if last := "".join([*settled, doubtful]).strip():
        yield last


def _first_bad_byte(path: Path) -> tuple[int, int]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    read = 0
    with path.open("rb") as file:
        while True:
            chunk = file.read(CHUNK)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                return read - pending + error.start, error.object[error.start]
            if not chunk:
                raise BadData(f"`{path}` changed while it was read", hint="wait until nothing writes to it")
            read += len(chunk)


def _unreadable(error: OSError) -> BadData:
    return BadData(
        f"`{error.filename}` cannot be read: {error.strerror}", hint="check that it is there and may be read"
    )
