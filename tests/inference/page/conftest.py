"""The real server in a thread, with small networks, and sounds to give it."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

import samplecnn
from inference.models import checkpoint
from inference.page.browsing import CHROMIUM, SWITCHES, serious
from samplecnn.cli.serve import configure, listen
from samplecnn.inference.page.app import HOST, create_app
from samplecnn.inference.page.sounds import Sounds
from samplecnn.inference.tagger import Tagger

expect.set_options(timeout=60_000)  # milliseconds
MAX_BYTES = 5_000_000
MAX_SECONDS = 60


@dataclass
class Server:
    url: str
    models: dict[str, Tagger]
    sounds: Sounds

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.sounds.folder.iterdir())


@contextlib.contextmanager
def serving(models: dict[str, Tagger]) -> Iterator[Server]:
    """Serve as `samplecnn serve` does, on a port that is free."""
    app = create_app(models, max_bytes=MAX_BYTES, max_seconds=MAX_SECONDS)
    server = uvicorn.Server(configure(app))
    with listen(HOST, 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield Server(f"http://{HOST}:{listening.getsockname()[1]}", models, app.state.sounds)
        finally:
            server.should_exit = True
            thread.join(300)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tagger]:
    folder = tmp_path_factory.mktemp("models")
    kinds = {"se": {}, "res1": {}, "low & slow": {"sample_rate": 16000}}
    return {
        name: samplecnn.load(
            checkpoint(folder / f"{i}.ckpt", "se" if " " in name else name, **changes), precision="32"
        )
        for i, (name, changes) in enumerate(kinds.items())
    }


@pytest.fixture(scope="session")
def server(models: dict[str, Tagger]) -> Iterator[Server]:
    with serving(models) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=300, trust_env=False) as opened:
        yield opened


@pytest.fixture(scope="session")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty-one seconds, eleven segments and a rest, in stereo at another rate, growing in loudness."""
    rng = np.random.default_rng(0)
    seconds = np.arange(31 * 32000) / 32000
    tone = np.sin(2 * np.pi * 220 * seconds * (1 + seconds / 31))
    noise = rng.standard_normal((len(seconds), 2))
    samples = (tone[:, None] * 0.2 + 0.1 * noise) * (0.05 + seconds[:, None] / 31)
    path = tmp_path_factory.mktemp("songs") / "song.flac"
    soundfile.write(path, np.clip(samples, -1, 1), 32000)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """The page at 1280 pixels, on which no script may fail and nothing may be asked of anyone else."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(60_000)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda told: wrong.append(told.text) if serious(told) else None)
    opened.on(
        "request",
        lambda asked: (
            None if asked.url.startswith((server.url, "blob:", "data:")) else wrong.append(asked.url)
        ),
    )
    opened.goto(server.url)
    expect(opened.get_by_role("checkbox")).to_have_count(3)
    yield opened
    opened.close()
    assert not wrong
