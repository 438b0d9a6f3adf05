"""The guide to scale shows what `picolab plan` prints now, and every line it tells people to run is one that is understood."""

import importlib.util
import re
import shlex
from pathlib import Path

from picolab.cli.app import build_app
from picolab.cli.flags import spelled_our_way

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "guides" / "scale.md"


def test_every_plan_in_the_guide_is_what_its_command_prints_now(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    spec = importlib.util.spec_from_file_location("show_findings", DOCS / "findings" / "show.py")
    show = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(show)
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- shown") == 4 and PAGE in show.every_page()
    # To the letter: nothing here hangs on a processor.
    assert show.regenerated(PAGE) == page, "run python docs/findings/show.py scale"


def test_every_command_in_the_guide_is_one_that_picolab_understands():
    blocks = re.findall(r"```(?:bash|sh|text)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if "picolab " in line]
    assert len(lines) >= 9
    for line in lines:
        words = shlex.split(line)
        words = words[words.index("picolab") + 1 :]
        app = build_app(words[0])
        app.parse_args(spelled_our_way(app, words))  # an unknown verb or flag is an error


def test_launches_name_as_many_processes_as_their_plan():
    page = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    many = re.search(r"torchrun --nnodes (\d+) --nproc-per-node (\d+) .*?--strategy fsdp", page)
    assert int(many[1]) * int(many[2]) == 32
    assert page.count("torchrun --standalone --nproc-per-node 8") == 2
