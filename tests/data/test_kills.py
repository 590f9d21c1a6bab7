"""A preparation killed at random moments: what is there is whole, the next call ends in the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from samplecnn.data.datasets import mtat
from samplecnn.data.prepare import prepare
from samplecnn.data.store import Store, StoreError
from samplecnn.data.writer import shard_jobs

MakeRaw = Callable[[Path, Mapping[str, float | bytes | None]], Path]

# Run by `python -c`: raw folder, root.
PREPARE = """
import sys
from samplecnn.data.datasets import mtat
from samplecnn.data.prepare import prepare
prepare(mtat.catalog(sys.argv[1], "x"), sys.argv[2], workers=2, progress=False, shard_clips=3)
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, make_raw: MakeRaw) -> Path:
    """Twenty clips of all lengths, a few of them unusable."""
    raw = make_raw(
        tmp_path_factory.mktemp("many"), {"0/long.mp3": 29.0, "0/short.mp3": 0.5, "0/real.mp3": 12.0}
    )
    contents = [(raw / f"mp3/0/{name}.mp3").read_bytes() for name in ("long", "short", "real")] + [b"text"]
    return make_raw(raw, {f"{number % 16:x}/{number}.mp3": contents[number * 7 % 4] for number in range(20)})


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_preparation_resumes_to_the_same_bytes(tmp_path: Path, many: Path, kills: int) -> None:
    catalog = mtat.catalog(many, "x")
    begun = time.monotonic()
    expected = content(prepare(catalog, tmp_path / "whole", workers=2, progress=False, shard_clips=3))
    duration = time.monotonic() - begun
    rng = random.Random(kills)
    unfinished = 0
    for number in range(kills):
        root = tmp_path / str(number)
        folder = root / "x"
        held: AbstractContextManager[None] = nullcontext()
        if number == 0:  # it cannot be finished, however fast it is, while another has a shard
            folder.mkdir(parents=True)
            held = shard_jobs(catalog, folder, 3)[-1].locked()
        with held:
            process = subprocess.Popen(
                [sys.executable, "-c", PREPARE, str(many), str(root)], start_new_session=True
            )
            while not root.exists():  # from here on it prepares
                assert process.poll() is None
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 1.5 * duration))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=60)

        left = content(folder) if folder.exists() else {}
        for name in left:
            if not name.endswith((".tmp", ".lock")):
                assert left[name] == expected[name], f"kill {number}: {name} is half written"
        try:
            Store.open(folder)
        except StoreError:
            unfinished += 1
        else:
            assert left == expected
        assert content(prepare(catalog, root, workers=2, progress=False, shard_clips=3)) == expected
    assert unfinished
