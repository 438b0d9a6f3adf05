"""The pages of an analysis, in a real browser, and its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handmade import copier, tokenizer, with_neurons
from picolab.cli.console import save_json
from picolab.errors import BadData
from picolab.interpret.texts import texts_of
from picolab.report.interpretation.attention import attention_exhibit, explorer
from picolab.report.interpretation.embeddings import embeddings_exhibit
from picolab.report.interpretation.exhibit import Exhibit, as_svg, legible, save_pictures
from picolab.report.interpretation.heads import heads_exhibit
from picolab.report.interpretation.kept import kept_of
from picolab.report.interpretation.lens import lens_exhibit
from picolab.report.interpretation.neurons import neurons_exhibit
from picolab.report.interpretation.page import write_interpret_page
from picolab.report.page import Page, write

DATA = "numeric:counting+alternating:numbers=12:shortest=4:longest=10:documents=200"
NAME = "<b>copier</b>"


def exhibit(what: str) -> Exhibit:
    model, words = with_neurons(copier()), tokenizer()
    texts = texts_of(DATA, model, words)
    ids = [12, 3, 4, 5, 3, 4, 5, 3]
    shown = [words.token_name(i) for i in ids]
    return {
        "attention": lambda: attention_exhibit(model, shown, ids, texts, name=NAME),
        "embeddings": lambda: embeddings_exhibit(model, words, texts, name=NAME),
        "heads": lambda: heads_exhibit(model, words, texts, name=NAME),
        "lens": lambda: lens_exhibit(model, words, ids, texts, name=NAME),
        "neurons": lambda: neurons_exhibit(model, words, texts, name=NAME),
    }[what]()


@pytest.mark.parametrize("what", ["attention", "embeddings", "heads", "lens", "neurons"])
def test_the_page_opens_quietly_and_all_its_pictures_are_there(what: str, tmp_path: Path, visit: Any) -> None:
    made = exhibit(what)
    path = write_interpret_page(made, tmp_path / "page.html", command="picolab interpret")
    here = visit(path, ready="main h1")
    assert NAME in here.page.locator("h1").inner_text()  # as letters, not as a tag
    sizes = here.page.eval_on_selector_all(".picture img", "all => all.map(one => [one.naturalWidth, one.alt])")
    assert len(sizes) == len(made.pictures)
    assert all(width > 200 and alt for width, alt in sizes)
    assert here.page.locator("table.plain").count() == len(made.listings)
    assert here.page.locator("ol.words li").count() == len(made.says) - 1
    here.quiet()


def test_the_explorer_shows_the_heads_of_the_text(tmp_path: Path, visit: Any) -> None:
    path = write_interpret_page(exhibit("attention"), tmp_path / "page.html")
    here = visit(path, ready="#attention-heads [role=radio]")
    heads = here.page.locator("#attention-heads [role=radio]")
    assert heads.count() == 4
    heads.nth(2).click()
    here.page.locator("#attention-map").focus()
    here.page.keyboard.press("ArrowDown")
    assert "position 7" in here.page.locator("#attention-says").inner_text()
    here.quiet()


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_is_wider_than_the_window(width: int, tmp_path: Path, visit: Any) -> None:
    path = write_interpret_page(exhibit("heads"), tmp_path / "page.html")
    here = visit(path, ready="main h1", width=width)
    assert here.page.evaluate("document.documentElement.scrollWidth") <= width


def test_what_was_found_out_about_a_run_is_on_its_page(tmp_path: Path, visit: Any) -> None:
    assert kept_of(tmp_path) == ()
    for what in ("heads", "embeddings"):
        made = exhibit(what)
        save_pictures(made, tmp_path / "interpret")
        save_json(tmp_path / "interpret" / f"{what}.json", made.document)
    kept = kept_of(tmp_path)
    assert [one.title for one in kept] == [f"How {NAME} stores its tokens", f"What each head of {NAME} does"]
    page = Page(kind="run", title="a run", lead="It ran.", facts=(), learned=kept)
    here = visit(write(page, tmp_path / "report.html"), ready="#learned")
    here.page.locator("#learned summary").first.click()
    widths = here.page.eval_on_selector_all("#learned details[open] img", "all => all.map(one => one.naturalWidth)")
    assert len(widths) == 2 and min(widths) > 200
    assert here.page.locator("#learned details").nth(1).locator("li").count() == len(kept[1].says) - 1
    here.quiet()


def test_a_torn_analysis_of_a_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "interpret").mkdir()
    (tmp_path / "interpret" / "lens.json").write_text('{"title": "x", "find')
    with pytest.raises(BadData, match="lens.json` is no whole analysis"):
        kept_of(tmp_path)


def test_pictures_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    one, other = (save_pictures(exhibit("embeddings"), tmp_path / name) for name in ("a", "b"))
    assert [path.name for path in one] == [path.name for path in other]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, other, strict=True))
    assert as_svg(exhibit("embeddings").pictures[0].figure).count("<svg") == 1


def test_a_token_that_the_font_lacks_or_that_steers_is_a_square() -> None:
    assert legible("a\x1b\U0001f9a9b\n") == "a□□b□"
    assert legible("$x^2$") == "$x^2$"
    assert legible("abcdefghijklmnop", 5) == "abcd…"


def test_the_explorers_weights_are_thousandths_and_a_prefix_where_a_model_is_large() -> None:
    even = np.tril(np.ones((6, 6))) / np.arange(1, 7)[:, None]
    shown: Any = explorer("m", list("abcdef"), [even[None]])
    assert shown["weights"][0][0][:6] == [1000, 500, 500, 333, 333, 333]
    many: Any = explorer("m", [str(i) for i in range(40)], [np.ones((400, 40, 40))])
    assert len(many["tokens"]) < 40
    assert sum(len(head) for head in many["weights"][0]) <= 160_000
