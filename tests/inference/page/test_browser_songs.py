"""The page in a real browser, with several songs, and without a server.

SAMPLECNN_ONNXRUNTIME_WEB names dist/ of the npm package onnxruntime-web, for the page without a server.
"""

import csv
import http.server
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from playwright.sync_api import Browser, Page, expect

import samplecnn
from inference.models import checkpoint
from inference.page.browsing import (
    BROWSER_TESTS,
    listed,
    panel,
    pick,
    picture,
    slider,
    tagged,
    until,
)
from inference.page.conftest import Server
from samplecnn.cli import main
from samplecnn.data.resampling import RATES
from samplecnn.inference.page.export import RUNTIME as RUNTIME_FOLDER
from samplecnn.inference.page.export import RUNTIME_FILES, write_page
from samplecnn.inference.page.sounds import KEPT

pytestmark = BROWSER_TESTS


def test_several_songs(page: Page, server: Server, song: Path, tmp_path: Path) -> None:
    """All are tagged, more than the server keeps; each is shown when it is clicked; all are in the table."""
    songs = [song, *(tmp_path / f"{name}.wav" for name in ("=1+1", "b", "c", "d", "e, f"))]
    for number, path in enumerate(songs[1:], start=1):
        soundfile.write(path, 0.1 * np.random.default_rng(number).standard_normal(22050 * 6), 22050)
    broken = tmp_path / "broken.mp3"
    broken.write_bytes(b"no music")
    page.get_by_label("Choose a song").set_input_files([*songs, broken])
    for path in songs:
        expect(listed(page, path.name)).to_contain_text("%")
    expect(listed(page, "broken.mp3")).to_contain_text("This file cannot be used")
    expect(page.get_by_role("heading", name="song.flac")).to_be_visible()
    picture(page, "songs")

    listed(page, "b.wav").click()
    expect(page.get_by_role("heading", name="b.wav")).to_be_visible()
    expect(listed(page, "b.wav")).to_have_attribute("aria-current", "true")
    expect(listed(page, "song.flac")).not_to_have_attribute("aria-current", "true")
    expect(panel(page, "se").get_by_text("2 segments of 2.7 s, 3 tags")).to_be_visible()
    expect(slider(page)).to_have_attribute("aria-valuetext", "0 seconds of 6 seconds")

    # The first songs are not kept by the server any more: they are sent again.
    page.get_by_role("checkbox", name="low & slow").check()
    listed(page, "song.flac").click()
    expect(panel(page, "low & slow").get_by_text("8 segments of 3.7 s, 3 tags")).to_be_visible(timeout=60_000)
    page.get_by_role("checkbox", name="low & slow").uncheck()
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download the tags").click()
    head, *rows = csv.reader(downloading.value.path().read_text().splitlines())
    tagger = server.models["se"]
    assert head == ["file", *tagger.tags, "model"]
    of_se = {row[0]: row[1:-1] for row in rows if row[-1] == "se"}
    assert of_se.keys() == {"song.flac", "./=1+1.wav", "b.wav", "c.wav", "d.wav", "e, f.wav"}
    for path in songs:
        found = [float(value) for value in of_se[path.name if path.name[0] != "=" else f"./{path.name}"]]
        np.testing.assert_allclose(found, tagger.predict_file(path), atol=2e-6)


def test_models_chosen_while_a_song_is_tagged(page: Page, server: Server, song: Path) -> None:
    """One more is asked when the first have answered; one that is left is not computed any further."""
    batches: list[int] = []

    def slowly(_network: object, inputs: tuple[torch.Tensor]) -> None:
        batches.append(len(inputs[0]))
        time.sleep(2)

    hook = server.models["se"].network.register_forward_pre_hook(slowly)
    try:
        page.get_by_label("Choose a song").set_input_files(song)
        expect(panel(page, "se")).to_be_visible()
        page.get_by_role("checkbox", name="low & slow").check()
        page.get_by_role("checkbox", name="se se, multi-level").uncheck()
        for name, segments in (("res1", "11 segments of 2.7 s"), ("low & slow", "8 segments of 3.7 s")):
            expect(panel(page, name).get_by_text(segments)).to_be_visible(timeout=60_000)
        page.wait_for_timeout(2500)
    finally:
        hook.remove()
    assert len(batches) == 1  # of two


def test_a_table_has_no_formulas(page: Page) -> None:
    found = page.evaluate(
        """async () => {
            const { table } = await import("./songs.js");
            const panel = {finished: true, tags: ["-a"], means: [0.5], model: {name: "+m"}};
            return table([{name: "=1", panels: new Map([["m", panel]])}], [{name: "m"}]);
        }"""
    )
    assert found == "file,'-a,model\n./=1,0.500000,'+m\n"


def test_a_folder_is_no_song(page: Page, tmp_path: Path) -> None:
    """Dropped as the system drops it: a browser gives it as a file that cannot be read."""
    folder = tmp_path / "folder"
    folder.mkdir()
    box = page.locator("#drop").bounding_box()
    assert box
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        place = {"x": box["x"] + 20, "y": box["y"] + 20}
        session.send("Input.dispatchDragEvent", {"type": kind, **place, "data": data})
    expect(page.get_by_role("alert")).to_have_text(
        "folder: It cannot be read: it is a folder, or was moved or changed since."
    )


def test_what_the_server_plays_is_sent_again(page: Page, tmp_path: Path) -> None:
    """A song of a format that browsers do not play, when the server has let go of it."""
    paths = [tmp_path / f"{number}.aiff" for number in range(KEPT + 2)]
    for path in paths:
        soundfile.write(path, 0.1 * np.sin(np.arange(22050) * 0.06), 22050, format="AIFF")
    page.get_by_label("Choose a song").set_input_files(paths)
    for path in paths:
        expect(listed(page, path.name)).to_contain_text("%")
    listed(page, paths[1].name).click()
    until(page, "document.querySelector('audio').readyState > 1")
    expect(page.get_by_role("alert")).to_be_empty()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_list_of_songs_fits(page: Page, tmp_path: Path, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    paths = [tmp_path / f"{'a long name of a song ' * 6}{i}.wav" for i in range(12)]
    for path in paths:
        soundfile.write(path, np.zeros(22050), 22050)
    page.get_by_label("Choose a song").set_input_files(paths)
    for path in paths:
        expect(listed(page, path.name)).to_contain_text("%")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert listed(page, paths[0].name).bounding_box()["height"] < 60  # type: ignore[index]
    picture(page, f"{width}-{scheme}-list")


def test_a_song_that_the_browser_cannot_decode(browser: Browser, song: Path, tmp_path: Path) -> None:
    """At a rate that a network may hear, and Chromium does not have; the library is but a name."""
    write_page(tmp_path, None)
    (tmp_path / RUNTIME_FOLDER / RUNTIME_FILES[0]).write_text("export const env = { wasm: {} };")
    heard = {"sample_rate": RATES[0], "segment_samples": 1000, "tags": ["a"], "model": {"name": "slow"}}
    (tmp_path / "config.json").write_text(json.dumps({"model": heard}))
    with visited(browser, tmp_path) as opened:
        expect(opened.get_by_role("checkbox", name="slow")).to_be_checked()
        pick(opened, song)
        expect(opened.get_by_role("alert")).to_have_text(
            "song.flac: This file cannot be used: this browser cannot decode it to 1000 Hz."
        )


@contextmanager
def visited(browser: Browser, folder: Path) -> Iterator[Page]:
    """Open a page of plain files, in which nothing may go wrong that it does not say."""
    wrong: list[str] = []
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        threading.Thread(target=files.serve_forever, daemon=True).start()
        opened = browser.new_page()
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.goto(f"http://127.0.0.1:{files.server_port}/")
        yield opened
        opened.close()
        files.shutdown()
    assert wrong == []


RUNTIME = os.environ.get("SAMPLECNN_ONNXRUNTIME_WEB")  # the folder dist/ of the npm package


@pytest.mark.skipif(RUNTIME is None, reason="no onnxruntime-web in SAMPLECNN_ONNXRUNTIME_WEB")
def test_a_page_without_a_server(browser: Browser, song: Path, tmp_path: Path) -> None:
    """Of plain files, by any web server: it computes what the tagger does, but for how browsers resample."""
    assert RUNTIME is not None
    made = checkpoint(tmp_path / "made.ckpt")
    assert main(["export", str(made), str(tmp_path / "page"), "--page", "--runtime", RUNTIME]) == 0
    with visited(browser, tmp_path / "page") as opened:
        tagged(opened, song, models=1)
        expect(listed(opened, "song.flac")).to_contain_text("%")
        with opened.expect_download() as downloading:
            opened.get_by_role("button", name="Download the tags").click()
        head, row = csv.reader(downloading.value.path().read_text().splitlines())
        picture(opened, "without-server")
    tagger = samplecnn.load(made, precision="32")
    assert head == ["file", *tagger.tags, "model"]
    np.testing.assert_allclose([float(value) for value in row[1:-1]], tagger.predict_file(song), atol=0.02)
