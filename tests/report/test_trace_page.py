"""The page of a trace, in a real browser: every number of a real pass, by mouse and by keyboard, without a request."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from picolab.report.narration.step import Narration, Section, Step, Word
from picolab.report.trace_page import trace_page, write_trace_page
from picolab.trace.record import record

from zoo_twins import adversarial, some_tokens

HOSTILE = "</script><script>window.hurt = 1</script>"


def a_pass(name: str) -> tuple[Any, ...]:
    model, tokens = adversarial(name), some_tokens(batch=1, time=9)
    with record(model, gradients=True) as recording:
        logits = model(tokens[:, :-1])
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
        losses.mean().backward()
    step = Step(
        title="Queries of block 0", says="Token 2 asks loudest.", site="blocks.0.attention.q", formula="q = x Wq"
    )
    narration = Narration(
        model=name,
        architecture=model.architecture,
        engine=recording.engine,
        words=tuple(Word(position=i, id=i, piece=HOSTILE if i == 3 else f"w{i}") for i in range(8)),
        followed=2,
        sections=(Section(kind="block", title="Block 0", says="It mixes.", steps=(step,), layer=0),),
    )
    return model, recording, losses.detach(), narration


def test_the_numbers_on_the_page_are_those_of_the_recording() -> None:
    model, recording, losses, narration = a_pass("llama")
    page = trace_page(narration, recording, model=model, losses=losses)
    shown = {row["site"]: row for row in page.data["sites"]}
    assert list(shown) == [site for site in recording.sites if not site.startswith("grad/")]
    q, value = shown["blocks.0.attention.q"], recording["blocks.0.attention.q"]
    assert q["value"]["mean"] == pytest.approx(value.mean().item(), rel=1e-3)
    assert q["value"]["few"][4] == pytest.approx(value[0, 4].flatten()[:6].tolist(), rel=1e-3)
    assert q["value"]["tokens"][5] == pytest.approx(value[0, 5].square().mean().sqrt().item(), rel=1e-3)
    assert q["gradient"]["rms"] == pytest.approx(
        recording.gradient("blocks.0.attention.q").square().mean().sqrt().item(), rel=1e-3
    )
    last = page.data["lens"][-1]["cells"][7]["probs"][0]
    assert last == pytest.approx(recording["logits"][0, 7].softmax(-1).max().item(), rel=1e-3)


def test_a_model_without_a_stream_has_a_page_without_a_lens() -> None:
    model, recording, losses, narration = a_pass("lstm")
    page = trace_page(narration, recording, model=model, losses=losses)
    assert page.data["lens"] is None and page.attention == ()


@pytest.mark.parametrize("name", ["llama", "gpt2", "lstm"])
def test_one_slider_goes_from_the_embedding_to_the_last_gradient(name: str, visit: Any, tmp_path: Path) -> None:
    model, recording, losses, narration = a_pass(name)
    path = write_trace_page(narration, recording, tmp_path / "trace.html", model=model, losses=losses)
    here = visit(path, ready="#place h3")
    slider = here.page.locator("#travel")
    forward = [site for site in recording.sites if not site.startswith("grad/")]
    assert here.page.locator("#travel-where").inner_text() == "embed"
    assert int(slider.get_attribute("max")) == 2 * len(forward) - 1
    slider.focus()
    slider.press("End")
    assert here.page.locator("#travel-where").inner_text() == "grad/embed"
    assert "grad/embed" in here.page.locator("#place").inner_text()
    slider.press("Home")
    slider.press("ArrowRight")
    assert here.page.locator("#travel-where").inner_text() == forward[1]
    assert here.page.evaluate("window.hurt") is None
    here.quiet()


def test_a_place_in_the_drawing_and_a_word_of_the_text_are_chosen_by_pointing(visit: Any, tmp_path: Path) -> None:
    model, recording, losses, narration = a_pass("llama")
    here = visit(
        write_trace_page(narration, recording, tmp_path / "trace.html", model=model, losses=losses), ready="#place h3"
    )
    here.page.locator('.node[data-site="blocks.0.attention.q"]').hover()
    place = here.page.locator("#place")
    assert "Queries of block 0" in place.inner_text() and "Token 2 asks loudest." in place.inner_text()
    before = place.locator(".few").inner_text()
    here.page.get_by_role("radio", name="w5", exact=True).click()
    assert place.locator(".few").inner_text() != before
    share = 100 * math.exp(-losses[0, 5].item())
    assert f"{share:.3g} %" in here.page.locator("#word-says").inner_text()
    here.page.get_by_role("radio", name="block 2", exact=True).click()
    assert here.page.locator("#travel-where").inner_text() == "blocks.2.attention.q"
    here.quiet()
