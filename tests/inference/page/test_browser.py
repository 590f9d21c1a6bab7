"""The page in a real browser, with one song."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Page, expect

from inference.page.browsing import BROWSER_TESTS, at, panel, pick, picture, pixels, slider, tagged, until
from inference.page.conftest import MAX_BYTES, Server
from samplecnn.data import audio

SECONDS = 31
pytestmark = BROWSER_TESTS


def test_tags_move_with_the_song(page: Page, server: Server, song: Path) -> None:
    tagged(page, song)
    tagger = server.models["se"]
    rows = panel(page, "se").get_by_role("list", name="Tags now, by se").get_by_role("listitem")
    means = tagger.predict_file(song)
    order = np.argsort(-means, kind="stable")
    expect(rows).to_have_count(len(tagger.tags))
    for row, tag in zip(rows.all(), order, strict=True):
        expect(row).to_contain_text(tagger.tags[tag])
    waveform, rate = audio.decode(song)
    segments = tagger.predict_segments(audio.segments(audio.resample(waveform, rate)))
    for share, segment in ((0.5, 5), (0.96, 10), (0.01, 0)):
        box = slider(page).bounding_box()
        assert box
        page.mouse.click(box["x"] + share * box["width"], box["y"] + 10)
        assert at(page) == pytest.approx(share * SECONDS, abs=0.1)
        for row, tag in zip(rows.all(), order, strict=True):
            told = float(row.locator(".value").inner_text().rstrip("\N{NO-BREAK SPACE} %"))
            assert told == pytest.approx(100 * segments[segment, tag], abs=0.6)
    assert len(pixels(panel(page, "se").locator(".map"))) > 10
    assert len(pixels(page.locator(".wave canvas"))) > 1
    # The table has the means, and its buttons lead to where a tag is highest.
    table = panel(page, "se")
    table.get_by_text("Averages as a table").click()
    cells = table.get_by_role("row", name=tagger.tags[order[0]]).get_by_role("cell")
    assert float(cells.nth(0).inner_text().split()[0]) == pytest.approx(100 * means[order[0]], abs=0.6)
    cells.get_by_role("button").click()
    assert at(page) == pytest.approx(segments[:, order[0]].argmax() * 59049 / 22050, abs=0.1)
    expect(page.get_by_role("status")).to_contain_text(re.compile(r"^(se|res1): .*%"))


def test_it_plays(page: Page, song: Path) -> None:
    tagged(page, song)
    slider(page).focus()
    page.keyboard.press(" ")
    until(page, "document.querySelector('audio').currentTime > 0.6")
    expect(slider(page)).not_to_have_attribute("aria-valuetext", "0 seconds of 31 seconds")
    page.keyboard.press(" ")
    assert page.evaluate("document.querySelector('audio').paused")
    moved = page.locator(".wave .playhead").evaluate(
        "node => new DOMMatrix(getComputedStyle(node).transform).e"
    )
    assert moved > 0


def test_seeking_by_keyboard(page: Page, song: Path) -> None:
    tagged(page, song)
    slider(page).focus()
    for key, seconds, text in (
        ("ArrowRight", 5, "5 seconds of 31 seconds"),
        ("PageUp", 31, "31 seconds of 31 seconds"),
        ("ArrowLeft", 26, "26 seconds of 31 seconds"),
        ("Home", 0, "0 seconds of 31 seconds"),
        ("ArrowLeft", 0, "0 seconds of 31 seconds"),
        ("End", 31, "31 seconds of 31 seconds"),
    ):
        page.keyboard.press(key)
        expect(slider(page)).to_have_attribute("aria-valuetext", text)
        expect(slider(page)).to_have_attribute("aria-valuenow", str(seconds))
        assert at(page) == pytest.approx(seconds, abs=0.05)


def test_models_side_by_side(page: Page, song: Path) -> None:
    expect(page.get_by_role("checkbox", name="se se, multi-level")).to_be_checked()
    tagged(page, song)
    first, second = (panel(page, name).bounding_box() for name in ("se", "res1"))
    assert first
    assert second
    assert first["y"] == second["y"]
    assert first["x"] + first["width"] < second["x"]
    page.get_by_role("checkbox", name="low & slow").check()
    expect(page.get_by_text(re.compile(r"^\d+ segments of"))).to_have_count(3)
    expect(panel(page, "low & slow").get_by_text("8 segments of 3.7 s, 3 tags")).to_be_visible()
    for name in ("se", "res1", "low & slow"):
        page.get_by_role("checkbox", name=name).first.uncheck()
        expect(panel(page, name)).to_have_count(0)
    expect(page.get_by_text("No model is chosen.")).to_be_visible()
    page.get_by_role("checkbox", name="res1").check()
    expect(panel(page, "res1").get_by_text(re.compile(r"^\d+ segments of"))).to_be_visible()


def test_excitations(page: Page, song: Path) -> None:
    tagged(page, song)
    expect(panel(page, "res1").get_by_role("heading", name="Excitations")).to_have_count(0)
    blocks = panel(page, "se").get_by_role("combobox", name="Block of se")
    expect(blocks.locator("option")).to_have_count(9)
    canvas = panel(page, "se").locator(".curve")
    assert len(pixels(canvas)) > 3
    summary = panel(page, "se").locator(".summary")
    expect(summary).to_contain_text(re.compile(r"Block 1 at 0:00: .* over 3 channels"))
    blocks.select_option("9")
    expect(summary).to_contain_text("over 12 channels")
    before = summary.inner_text()
    slider(page).press("End")
    expect(summary).to_contain_text("Block 9 at 0:26")
    assert summary.inner_text().split("average")[1] != before.split("average")[1]
    expect(canvas).to_have_attribute("aria-label", summary.inner_text())


def test_garbage_between_songs(page: Page, song: Path, tmp_path: Path) -> None:
    """Refused with a reason; what was there stays, and the next song works."""
    garbage = tmp_path / "garbage.mp3"
    garbage.write_bytes(b"no music " * 1000)
    pick(page, garbage)
    expect(page.get_by_role("alert")).to_contain_text(
        "garbage.mp3: This file cannot be used: cannot be decoded"
    )
    expect(slider(page)).to_have_count(0)
    picture(page, "error")
    tagged(page, song)
    expect(page.get_by_role("alert")).to_be_empty()
    transfer = page.evaluate_handle(  # dropped, not picked
        "() => { const d = new DataTransfer(); d.items.add(new File(['none'], 'dropped.wav')); return d; }"
    )
    page.locator("#drop").dispatch_event("drop", {"dataTransfer": transfer})
    expect(page.get_by_role("alert")).to_contain_text("dropped.wav: This file cannot be used")
    expect(page.get_by_role("heading", name="song.flac")).to_be_visible()
    huge = tmp_path / "huge.wav"
    huge.write_bytes(b"x" * (MAX_BYTES + 1))
    pick(page, huge)
    expect(page.get_by_role("alert")).to_contain_text("huge.wav: This file is too large: up to 5 MB")
    pick(page, song)
    expect(page.get_by_role("alert")).to_be_empty()


def test_a_format_that_browsers_do_not_play(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "song.aiff"
    tone = 0.3 * np.sin(np.arange(22050 * 6) * 0.06)
    soundfile.write(path, tone, 22050, format="AIFF")
    tagged(page, path)
    until(page, "document.querySelector('audio').readyState > 1")
    assert page.evaluate("document.querySelector('audio').src").endswith("/audio")
    slider(page).press("ArrowRight")
    until(page, "document.querySelector('audio').currentTime == 5")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_width_and_scheme(page: Page, song: Path, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    page.reload()
    expect(page.get_by_role("checkbox")).to_have_count(3)
    picture(page, f"{width}-{scheme}-start")
    tagged(page, song)
    slider(page).press("PageUp")
    slider(page).press("ArrowLeft")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    rgb = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", rgb))) < 200) == (scheme == "dark")
    picture(page, f"{width}-{scheme}-song")
    # A scheme that changes while the page is open changes what was drawn.
    canvas = panel(page, "se").locator(".map")
    before = pixels(canvas)
    page.emulate_media(color_scheme="light" if scheme == "dark" else "dark")
    page.wait_for_timeout(300)
    assert pixels(canvas) != before


def test_names_and_keyboard(page: Page, song: Path) -> None:
    """Whatever can be used has a name, and is reached with the tab key, with a visible focus."""
    tagged(page, song)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('input, button, select, [role], canvas[role]')]
        .filter(node => node.checkVisibility() && !node.ariaLabel && !node.labels?.length
            && !node.textContent.trim() && !['alert', 'status'].includes(node.role))
        .map(node => node.outerHTML)"""
    )
    assert nameless == []
    reached = []
    page.locator("body").press("Tab")
    for _ in range(30):
        reached.append(page.evaluate("[document.activeElement.id || document.activeElement.tagName]")[0])
        page.keyboard.press("Tab")
    for name in ("file", "model0", "model2", "audio", "wave", "SELECT", "SUMMARY"):
        assert name in reached
    slider(page).focus()
    page.keyboard.press("Home")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    expect(page.locator("html")).to_have_attribute("lang", "en")
    assert page.get_by_role("heading", level=1).count() == 1


def test_nothing_jumps_while_tags_come(page: Page, song: Path) -> None:
    tagged(page, song)
    page.evaluate(
        """() => { window.jumps = 0; new PerformanceObserver(list => {
            for (const entry of list.getEntries()) window.jumps += entry.value;
        }).observe({type: 'layout-shift'}); }"""
    )
    tagged(page, song)
    assert page.evaluate("window.jumps") < 0.02
