"""A page for every law and cause, out of the catalogues: what one sees, the line, how it is recognised, real bugs, an example.

causes/*.py, laws/*.py     names, sentences, places, the code that makes the mistake, the law in a picture
causes.toml, laws.toml     what that code does not say           bugs.toml     real bugs, with their sources
show.py                    runs the examples, and writes what they print into the pages; what it wrote is kept here

`python docs/generate.py` writes the pages, `--check` compares them.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import textwrap
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from picolab.diagnose.causes.catalogue import CATALOGUE
from picolab.diagnose.causes.cause import Bend, Cause
from picolab.diagnose.laws.catalogue import LAWS
from picolab.diagnose.laws.law import Law
from picolab.diagnose.rounding import CAUSE as DTYPE_NOISE
from picolab.diagnose.rounding import LOOK_FOR as DTYPE_LOOK_FOR
from picolab.diagnose.visible import SEEN, why_hidden

HERE = Path(__file__).resolve().parent
SHOWN = re.compile(r"<!-- shown -->\n```text\n(.*?)```\n<!-- end -->", re.DOTALL)
DTYPE_SAYS = "every number is that of a coarser type than the engine claims to compute in"

# fmt: off
DESIGNED = (
    "token-ids", "weight-transposed", "weight-permuted", "weight-swapped", "weight-unloaded", "tied-head",
    "embed-scale", "bias-missing", "bias-extra", "qkv-split", "head-grouping", "head-order", "rope-missing",
    "rope-pairing", "rope-theta", "rope-offset", "rope-partial", "rope-scaling", "rope-on-v", "scale-missing",
    "scale-wrong", "mask-missing", "mask-inverted", "mask-offset", "mask-window", "softmax-axis",
    "softmax-missing", "norm-kind", "norm-eps", "norm-offset", "norm-weight-missing", "norm-missing", "norm-place",
    "residual-missing", "residual-twice", "activation", "gate-up-swapped", "mlp-layout", "cache-stale",
    "cache-offset", "cache-layout", "cache-unwritten", "softcap-missing", "logit-scale", "logit-gauge",
    "quant-unpack", "dtype-noise", "nonfinite", "unknown",
)
# fmt: on
"""The names the plan began with."""

NO_PAGE = {
    "scale-missing": "a factor of sqrt(head_dim) between scores: told as [`scale-wrong`](scale-wrong.md), with that factor",
    "logit-gauge": "a constant added to all logits of a token leaves every probability as it is: told as a note, and never a fault",
    "unknown": "what nothing explains: the difference is described (scale, rank, heads, positions), and no name is given",
}
"""Names of the plan that are no cause, and why."""


def pages() -> dict[str, str]:
    """Every page by its path from the root, with the outputs that stand in it now."""
    made = {f"docs/findings/{cause.name}.md": _cause_page(cause) for cause in CATALOGUE}
    made |= {f"docs/findings/{law.name}.md": _law_page(law) for law in LAWS}
    made[f"docs/findings/{DTYPE_NOISE}.md"] = _dtype_page()
    made["docs/findings/README.md"] = _index()
    return made


def _cause_page(cause: Cause) -> str:
    host, bend = beside("broken").example_of(cause.name)
    recovered = ", ".join(f"`{name}`" for name in bend.evidence)
    how = _told("causes", cause.name)["how"]
    return _page(
        "causes",
        cause.name,
        f"{_sentence(cause.says)} A cause: `picolab diff` names it.",
        f"{how}\n\nIt can sit where {_places(cause)} {'is' if len(cause.places) == 1 else 'are'} made."
        + (f" The verdict's evidence says {recovered}." if recovered else ""),
        f"Without a reference: {_visible(cause.name, bend)}",
        _sentence(cause.look_for),
        f"One line of a tiny {host} is wrong: {beside('broken').said(bend).rstrip('.')}."
        f"\n\n{_code_of(bend)}\n\n{_diff_of(cause.name)}",
    )


def _dtype_page() -> str:
    return _page(
        "causes",
        DTYPE_NOISE,
        f"{_sentence(DTYPE_SAYS)} A cause: `picolab diff` names it, before it looks at any line.",
        _told("causes", DTYPE_NOISE)["how"] + "\n\nThe verdict's evidence says `computes in`, `claims`.",
        "Without a reference: the law [`dtype-ladder`](dtype-ladder.md) finds casts inside a model.",
        _sentence(DTYPE_LOOK_FOR),
        f"A tiny llama in bfloat16, whose recording claims float32.\n\n{_diff_of(DTYPE_NOISE)}",
    )


def _law_page(law: Law) -> str:
    first, _, rest = inspect.getdoc(sys.modules[type(law).__module__]).partition("\n")  # type: ignore[union-attr]
    patients = beside("patients").PATIENTS
    if law.name in patients:
        made = patients[law.name]
        source = textwrap.dedent(inspect.getsource(made)).rstrip()
        example = (
            f"{inspect.getdoc(made)}\n\n```py\n{source}\n```\n\nWhat `picolab doctor` prints of it (the other laws left out):\n\n"
            f"```sh\npython docs/findings/patients.py {law.name}\n```\n\n{_shown(law.name)}"
        )
    else:
        example = "None is shown: this law asks an accelerator, and says that there is none where there is none."
    return _page(
        "laws",
        law.name,
        f"{_sentence(law.says)} A law: `picolab doctor` asks it, and needs no reference. In the table of laws it is {law.id}.",
        f"{first}\n\n```text\n{textwrap.dedent(rest).strip()}\n```" if rest.strip() else first,
        "",
        _sentence(law.hint),
        example,
    )


def _page(kind: str, name: str, says: str, how: str, without: str, look: str, example: str) -> str:
    told = _told(kind, name)
    wrong, right = (told[which].rstrip() for which in ("wrong", "right"))
    parts = [
        f"# {name}\n\n{says}",
        f"## What one sees\n\n{told['seen']}",
        f"## The line, wrong and right\n\n```py\n# wrong\n{wrong}\n\n# right\n{right}\n```",
        f"## How it is recognised\n\n{how}" + (f"\n\n{without}" if without else ""),
        f"## What it is confused with\n\n{_linked(told['confused'], name)}",
        f"## Where to look\n\n{look}",
        f"## Real bugs of this kind\n\n{_bugs(kind, name)}",
        f"## An example that runs\n\n{example}",
        "[All laws and causes](README.md)",
    ]
    return "\n\n".join(parts) + "\n"


def _index() -> str:
    laws = [f"| [`{law.name}`]({law.name}.md) | {law.id} | {law.says} |" for law in LAWS]
    causes = [(cause.name, cause.says) for cause in CATALOGUE] + [(DTYPE_NOISE, DTYPE_SAYS)]
    rows = [f"| [`{name}`]({name}.md) | {says} |" for name, says in causes]
    more = [f"`{name}`" for name, _ in causes if name not in DESIGNED]
    none = [f"* `{name}`: {why}." for name, why in NO_PAGE.items()]
    return "\n".join(
        [
            "# What can be wrong with a language model",
            "",
            "A page for every law and every cause: what one sees, the line, how it is recognised, what it is confused with,",
            "where to look, real bugs of public projects, and an example that runs. `python docs/generate.py` writes them out of",
            "the catalogues in `src/picolab/diagnose/`; what the examples print is written by `docs/findings/show.py`.",
            "",
            f"Real bugs: {len(_all_bugs())}, each with its source. Which cause or law they are an example of is our reading, not",
            "the project's. A whole case, from babble to proof: [an engine that babbles](../guides/case-study-babbling-engine.md).",
            "",
            f"## {len(LAWS)} laws",
            "",
            "`picolab doctor MODEL` asks them. They hold of every correct model, so none needs a reference.",
            "",
            "| law | id | what holds |",
            "|---|---|---|",
            *laws,
            "",
            f"## {len(causes)} causes",
            "",
            "`picolab diff REFERENCE TARGET` puts them into the reference, one after the other, and names the one that leaves",
            "nothing but rounding.",
            "",
            "| cause | what is wrong |",
            "|---|---|",
            *rows,
            "",
            "Names of the plan that are no cause:",
            "",
            *none,
            "",
            f"Causes that the plan did not name: {', '.join(more)}.",
            "",
        ]
    )


def _diff_of(name: str) -> str:
    commands = f"python docs/findings/broken.py {name} broken\npicolab diff broken/reference broken/target"
    return f"```sh\n{commands}\n```\n\n{_shown(name)}"


def _shown(name: str) -> str:
    """The place of an output, with what stands there now."""
    path = HERE / f"{name}.md"
    found = SHOWN.search(path.read_text(encoding="utf-8")) if path.exists() else None
    return f"<!-- shown -->\n```text\n{found[1] if found else ''}```\n<!-- end -->"


def _code_of(bend: Bend) -> str:
    """How the catalogue makes the mistake: the same code injects and recognises it."""
    module = sys.modules[type(bend).__module__]
    source = textwrap.dedent(inspect.getsource(type(bend).bend)).rstrip()
    where = str(module.__name__).replace(".", "/")
    return f"The mistake itself, as `src/{where}.py` makes it (`value` is what the right line made):\n\n```py\n{source}\n```"


def _visible(cause: str, bend: Bend) -> str:
    hidden = why_hidden(bend)
    if not hidden:
        return f"laws see it: {SEEN.get(cause, 'prefill and decode differ')}."
    laws = sorted({law for bug in _all_bugs() if cause in bug.get("causes", ()) for law in bug.get("laws", ())})
    hint = (
        f" Beside real bugs of this kind these laws stood out: {', '.join(_link(law) for law in laws)}." if laws else ""
    )
    return f"no law is sure to see it, for {hidden}.{hint}"


def _bugs(kind: str, name: str) -> str:
    rows = [
        f"* {_sentence(bug['says'])} [{bug['source']}]({_url(bug['source'])})"
        for bug in _all_bugs()
        if name in bug.get(kind, ())
    ]
    return "\n".join(rows) or "None in our list; the example below is made by hand."


def _url(source: str) -> str:
    for mark, folder in (("#", "issues"), ("@", "commit")):
        repository, found, number = source.partition(mark)
        if found:
            return f"https://github.com/{repository}/{folder}/{number}"
    raise ValueError(f"`{source}` names neither a thread nor a commit")


def _linked(text: str, own: str) -> str:
    """Names of laws and causes as links to their pages."""
    return re.sub(r"`([a-z-]+)`", lambda m: _link(m[1]) if m[1] in names() and m[1] != own else m[0], text)


def _link(name: str) -> str:
    return f"[`{name}`]({name}.md)"


def _places(cause: Cause) -> str:
    places = [f"`{place}`" for place in sorted(cause.places)]
    return places[0] if len(places) == 1 else f"{', '.join(places[:-1])} and {places[-1]}"


def _sentence(words: str) -> str:
    """A clause as a sentence; one that begins with code or a name stays as it is."""
    begins = words[0].upper() + words[1:] if words and words[0].islower() else words
    return begins if begins.endswith((".", "?")) else begins + "."


@cache
def names() -> frozenset[str]:
    """Everything that has a page."""
    return frozenset([*(cause.name for cause in CATALOGUE), *(law.name for law in LAWS), DTYPE_NOISE])


def _told(kind: str, name: str) -> dict[str, str]:
    told: dict[str, str] = _texts(f"{kind}.toml")[name]
    return told


def _all_bugs() -> list[dict[str, Any]]:
    bugs: list[dict[str, Any]] = _texts("bugs.toml")["bugs"]
    return bugs


@cache
def _texts(file: str) -> dict[str, Any]:
    return tomllib.loads((HERE / file).read_text(encoding="utf-8"))


@cache
def beside(name: str) -> ModuleType:
    """A script of this folder, as a module."""
    spec = importlib.util.spec_from_file_location(f"findings_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
