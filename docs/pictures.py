"""The README's pictures, from a demo's folder: `python docs/pictures.py runs/<date>_demo`. Needs Chromium on the path."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURES = Path(__file__).parent / "pictures"
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
SHOTS = {"demo.png": ("report.html", 1500), "comparison.png": ("numbers/report.html", 1330)}
"""Picture -> the page it shows, and how much of it in pixels."""


def main(demo: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium on the path")
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        for name, (page_name, height) in SHOTS.items():
            page = browser.new_page(viewport={"width": 1060, "height": height}, color_scheme="light")
            page.goto((demo / page_name).resolve().as_uri())
            page.screenshot(path=PICTURES / name)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
