"""What `picolab` alone says: what it is, three things to try, how long each takes."""

from __future__ import annotations

TEXT = """\
picolab: a workbench for small language models
Build one, train it, compare it fairly with others, and see what it learned. No account, no download, no GPU needed.

  picolab demo                                       {demo}
      several kinds of model learn the same data; ranking in words, and a page with pictures
  picolab train --model softmax-pico --data stories  {train}
      one small transformer learns to write micro-stories
  picolab generate --model last --prompt "The"       {generate}
      let it write

`picolab --help` lists every verb, `picolab VERB --help` explains one.
"""


def welcome() -> None:
    """Print it."""
    print(TEXT.format(demo="about a minute", train="a few minutes", generate="a second or two"), end="")
