"""What tests in a real browser do: Chromium of the PATH, or the one that SAMPLECNN_CHROMIUM names.

With SAMPLECNN_SCREENSHOTS=DIR, pictures of the page are left there.
"""

import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import ConsoleMessage, Locator, Page, expect

CHROMIUM = os.environ.get("SAMPLECNN_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
BROWSER_TESTS = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium in PATH or SAMPLECNN_CHROMIUM"),
]


def serious(told: ConsoleMessage) -> bool:
    """Chromium says of a song that is refused, or cannot be read, that it failed to load."""
    expected = ("the server responded with a status of 4", "net::ERR_FILE_NOT_FOUND")
    return told.type == "error" and not any(words in told.text for words in expected)


def until(page: Page, condition: str) -> None:
    """Playwright's own way needs `eval`, which the page's policy forbids."""
    end = time.monotonic() + 60
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def pick(page: Page, file: Path) -> None:
    page.get_by_label("Choose a song").set_input_files(file)


def tagged(page: Page, file: Path, models: int = 2) -> None:
    pick(page, file)
    expect(page.get_by_role("heading", name=file.name)).to_be_visible(timeout=60_000)
    expect(page.get_by_text(re.compile(r"^\d+ segments of"))).to_have_count(models)


def panel(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def slider(page: Page) -> Locator:
    return page.get_by_role("slider", name="Position in the song")


def at(page: Page) -> float:
    """Where the player is, in seconds."""
    return float(page.evaluate("document.querySelector('audio').currentTime"))


def pixels(canvas: Locator) -> set[tuple[int, ...]]:
    """The colours of a canvas."""
    data = canvas.evaluate("c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)")
    return {tuple(pixel) for pixel in np.reshape(data, (-1, 4)).tolist()}


def picture(page: Page, name: str) -> None:
    if folder := os.environ.get("SAMPLECNN_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def listed(page: Page, name: str) -> Locator:
    return page.get_by_role("list").get_by_role("button", name=name)
