"""The report in a real browser: nothing is asked of the network, everything works by mouse and by keyboard, nothing runs wild."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from picolab.compare.result import Comparison
from picolab.report.comparison import comparison_report


@pytest.fixture
def report(comparison: Comparison, tmp_path: Path) -> Path:
    return comparison_report(comparison, tmp_path)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_a_complaint_and_without_a_request(report: Path, visit: Any, scheme: str) -> None:
    here = visit(report, scheme=scheme)
    assert here.page.title() == "Five models learn stories · picolab"
    assert here.page.locator("h2").count() == 8
    here.quiet()


def test_its_own_policy_refuses_any_request_and_any_foreign_script(report: Path, visit: Any) -> None:
    here = visit(report)
    refused = here.page.evaluate(
        """async () => {
            const script = document.createElement("script");
            script.textContent = "window.hurt = 3";
            document.body.append(script);
            try { await fetch("http://127.0.0.1:9/"); return false; } catch { return window.hurt === undefined; }
        }"""
    )
    assert refused
    assert here.asked == []
    assert any("Content Security Policy" in line for line in here.said)


def test_a_text_that_looks_like_a_program_is_only_a_text(report: Path, visit: Any) -> None:
    here = visit(report)
    here.page.get_by_role("tab", name="p=1", exact=True).click()
    sample = here.page.locator("#samples [role=tabpanel]:not([hidden]) .sample").first
    assert (
        "<script>window.hurt = 1</script><img src=x onerror='window.hurt = 2'> & \"quoted\" </script> ␀␛"
        in sample.inner_text()
    )
    assert here.page.locator("#attention-text").inner_text().count("<script>window.hu") == 1
    assert here.page.evaluate("window.hurt") is None
    here.quiet()


def test_a_curve_is_hidden_and_shown_from_the_legend(report: Path, visit: Any) -> None:
    here = visit(report)
    curve = here.page.locator('.chart [data-model="lstm"]')
    button = here.page.get_by_role("group", name="Shown curves").get_by_role("button", name="lstm", exact=True)
    assert curve.count() == 1
    button.click()
    assert (curve.count(), button.get_attribute("aria-pressed")) == (0, "false")
    button.press("Enter")
    assert (curve.count(), button.get_attribute("aria-pressed")) == (1, "true")
    here.quiet()


def test_every_axis_and_scale_can_be_chosen(report: Path, visit: Any) -> None:
    here = visit(report)
    drawings = set()
    for name, values in {
        "x": ["tokens", "step", "seconds"],
        "xscale": ["log"],
        "yscale": ["log"],
        "loss": ["train"],
    }.items():
        for value in values:
            here.page.locator(f'#curves input[name="{name}"][value="{value}"]').check(force=True)
            drawings.add(here.page.locator('.chart [data-model="softmax-pico"]').get_attribute("d"))
            labels = here.page.locator(".chart text").all_text_contents()
            assert not any("NaN" in text or "Infinity" in text for text in labels)
            paths = here.page.eval_on_selector_all(".chart path", "all => all.map(one => one.getAttribute('d'))")
            assert not any("NaN" in path or "Infinity" in path for path in paths)
    assert len(drawings) >= 5  # tokens and steps are proportional, so that only their labels differ
    assert "seconds of training →" in here.page.locator(".chart text").all_text_contents()
    here.quiet()


def test_the_floor_the_baseline_and_the_uniform_guess_are_drawn_and_named(report: Path, visit: Any) -> None:
    here = visit(report)
    for kind, label in (("floor", "floor 1.62"), ("baseline", "ngram 3.02"), ("uniform", "uniform 7.62")):
        assert here.page.locator(f'.chart [data-line="{kind}"]').count() == 1
        assert label in here.page.locator(".chart text").all_text_contents()


def test_values_of_the_curves_are_read_with_the_arrow_keys(report: Path, visit: Any) -> None:
    here = visit(report)
    here.page.locator(".chart").focus()
    here.page.keyboard.press("ArrowLeft")
    assert here.page.locator("#chart-says").inner_text().startswith("200 k tokens trained on: softmax-pico 2.4")
    here.page.keyboard.press("Home")
    assert here.page.locator("#chart-says").inner_text().startswith("0 tokens trained on: ")
    assert here.page.locator(".readout").is_visible()
    here.page.keyboard.press("Escape")
    assert not here.page.locator(".readout").is_visible()


def test_the_table_is_sorted_by_its_headings_and_failures_stay_last(report: Path, visit: Any) -> None:
    here = visit(report)
    names = here.page.locator("#figures tbody th")

    def order() -> list[str]:
        return [text.split("\n")[0] for text in names.all_inner_texts()]

    assert order() == ["softmax-pico", "lstm", "ngram", "kgram-embed", "gpt2-hot"]
    speed = here.page.get_by_role("button", name="Speed")
    speed.click()
    assert order() == ["lstm", "softmax-pico", "kgram-embed", "ngram", "gpt2-hot"]
    speed.press("Enter")
    assert order() == ["ngram", "kgram-embed", "softmax-pico", "lstm", "gpt2-hot"]
    assert here.page.locator("#figures thead th").nth(4).get_attribute("aria-sort") == "descending"


def test_samples_are_turned_over_with_the_arrow_keys(report: Path, visit: Any) -> None:
    here = visit(report)
    here.page.get_by_role("tab", name="greedy").focus()
    here.page.keyboard.press("ArrowRight")
    assert here.page.get_by_role("tab", name="p=0.95").get_attribute("aria-selected") == "true"
    shown = here.page.locator("#samples .cards:visible article")
    assert shown.count() == 4
    assert all("Then it rained." in text for text in shown.all_inner_texts())
    here.page.keyboard.press("ArrowLeft")
    here.page.keyboard.press("ArrowLeft")
    assert here.page.get_by_role("tab", name="p=1", exact=True).get_attribute("aria-selected") == "true"


def test_the_heatmap_is_read_with_the_arrow_keys(report: Path, visit: Any, comparison: Comparison) -> None:
    here = visit(report)
    says = here.page.locator("#attention-says")
    tokens = comparison.attention[0].tokens
    here.page.locator("#attention-map").focus()
    for _ in range(len(tokens)):
        here.page.keyboard.press("ArrowUp")
    assert says.inner_text() == "“<eot>” (position 0) reads “<eot>” (position 0): 100.0 %"
    here.page.keyboard.press("ArrowDown")
    here.page.keyboard.press("ArrowDown")
    here.page.keyboard.press("ArrowRight")
    share = comparison.attention[0].weights[0][0][2 * 3 // 2 + 1] / 10
    assert says.inner_text() == f"“ upon” (position 2) reads “Once” (position 1): {share:.1f} %"
    here.page.keyboard.press("End")  # a token reads itself at most, never the future
    here.page.keyboard.press("ArrowRight")
    assert "reads “ upon” (position 2)" in says.inner_text()
    here.quiet()


def test_another_head_is_another_picture(report: Path, visit: Any) -> None:
    here = visit(report)
    picture = "document.querySelector('#attention-map canvas').toDataURL()"
    before = here.page.evaluate(picture)
    here.page.get_by_role("radio", name="layer 0, head 0").focus()
    here.page.keyboard.press("ArrowDown")
    chosen = here.page.get_by_role("radio", name="layer 1, head 0")
    assert chosen.get_attribute("aria-checked") == "true"
    assert here.page.evaluate("document.activeElement.getAttribute('aria-label')") == "layer 1, head 0"
    assert here.page.evaluate(picture) != before


def test_pointing_at_a_token_shows_what_it_reads_with_numbers(report: Path, visit: Any) -> None:
    here = visit(report)
    token = here.page.get_by_role("option", name="fox")
    token.hover()
    assert token.get_attribute("aria-selected") == "true"
    assert (
        here.page.locator("#attention-says")
        .inner_text()
        .startswith("“ fox” (position 9) reads “ little” (position 8): ")
    )
    shares = [float(text.rstrip(" %")) for text in here.page.locator("#attention-top .share").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    assert 50 < sum(shares) <= 100.5


def test_the_theme_is_chosen_by_a_button_and_drawn_anew(report: Path, visit: Any) -> None:
    here = visit(report, scheme="dark")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    picture = "document.querySelector('#attention-map canvas').toDataURL()"
    dark, dark_picture = here.page.evaluate(ground), here.page.evaluate(picture)
    here.page.get_by_role("button", name="Colour theme").click()
    assert here.page.locator("#theme-name").inner_text() == "light"
    assert here.page.evaluate(ground) != dark
    assert here.page.evaluate(picture) != dark_picture
    here.page.get_by_role("button", name="Colour theme").click()
    assert here.page.evaluate(ground) == dark
    here.quiet()


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_no_width_makes_the_page_scroll_sideways(report: Path, visit: Any, width: int) -> None:
    here = visit(report, width=width)
    assert here.page.evaluate("document.documentElement.scrollWidth") == width
    beyond = here.page.eval_on_selector_all(
        ".chart text",
        "(all, width) => all.filter(t => t.getBoundingClientRect().right > width + 0.5).map(t => t.textContent)",
        width,
    )
    assert beyond == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(report: Path, visit: Any, scheme: str) -> None:
    here = visit(report, scheme=scheme)
    faint = here.page.evaluate(
        """() => {
            const parse = (c) => {
                const n = c.match(/[\\d.]+/g).map(Number);
                return { rgb: n.slice(0, 3).map((x) => (c.startsWith("color(") ? x * 255 : x)), a: n[3] ?? 1 };
            };
            const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            const light = (rgb) => rgb.reduce((sum, v, i) => sum + linear(v / 255) * [0.2126, 0.7152, 0.0722][i], 0);
            const ground = (node) => {
                const stack = [];
                for (let n = node; n; n = n.parentElement) {
                    const c = parse(getComputedStyle(n).backgroundColor);
                    stack.push(c);
                    if (c.a === 1) break;
                }
                return stack.reverse().reduce((under, c) => under.map((u, i) => u + (c.rgb[i] - u) * c.a), [255, 255, 255]);
            };
            const out = [];
            for (const node of document.querySelectorAll("main *, header *, footer *")) {
                const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
                if (!own || !node.checkVisibility() || node.closest(".later, svg, script, style, .visually-hidden")) continue;
                const style = getComputedStyle(node);
                const [a, b] = [light(parse(style.color).rgb), light(ground(node))].sort((x, y) => y - x);
                const ratio = (a + 0.05) / (b + 0.05);
                if (ratio < 4.5) out.push([node.textContent.trim().slice(0, 30), node.className, ratio.toFixed(2)]);
            }
            return out;
        }"""
    )
    assert faint == []


def test_everything_that_can_be_used_can_be_reached_with_the_tab_key(report: Path, visit: Any) -> None:
    here = visit(report)
    reached = set()
    for _ in range(80):
        here.page.keyboard.press("Tab")
        reached.add(
            here.page.evaluate(
                "[document.activeElement].map((e) => e.id || e.getAttribute('role') || e.name || e.tagName)[0]"
            )
        )
    assert {"theme", "x", "xscale", "yscale", "loss", "BUTTON", "tab-0", "attention-map", "option", "radio"} <= reached
