"""Small data sets in MTAT's layout, written as real files, and one prepared store."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

from samplecnn.data.datasets import mtat
from samplecnn.data.prepare import prepare

RATE = 16_000  # Hz, as in MTAT

MakeRaw = Callable[[Path, Mapping[str, float | bytes | None]], Path]


def noise(seconds: float, seed: int) -> np.ndarray:
    """Pink-ish noise: float32 `(samples,)` at 16 kHz, the same for the same seed."""
    white = np.random.default_rng(seed).normal(size=round(seconds * RATE))
    return (0.3 * np.tanh(np.convolve(white, np.ones(8) / 8, mode="same"))).astype(np.float32)


@pytest.fixture(scope="session")
def make_raw() -> MakeRaw:
    """Write `{path: seconds | content | None (no file)}` below a folder, with annotations for three tags."""

    def make(raw: Path, files: Mapping[str, float | bytes | None]) -> Path:
        rows = ["clip_id\tloud\tslow\trare\tmp3_path"]
        for number, (path, content) in enumerate(files.items()):
            file = raw / "mp3" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                file.write_bytes(content)
            elif content is not None:
                soundfile.write(file, noise(content, number), RATE)
            rows.append(f'"{number + 10}"\t"1"\t"{number % 2}"\t"{int(number == 0)}"\t"{path}"')
        (raw / "annotations_final.csv").write_text("\n".join(rows) + "\n")
        return raw

    return make


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory, make_raw: MakeRaw) -> Path:
    """Nine clips in all parts; one is shorter than a segment, one longer than 29 s."""
    train = {"0/a.mp3": 3.0, "0/b.mp3": 31.0, "5/c.mp3": 1.0, "b/d.wav": 6.0}
    others = {"c/e.mp3": 3.5, "c/f.mp3": 8.2, "d/g.mp3": 5.5, "e/h.mp3": 3.0, "f/i.flac": 2.8}
    return make_raw(tmp_path_factory.mktemp("raw"), {**train, **others})


@pytest.fixture(scope="session")
def store_path(tmp_path_factory: pytest.TempPathFactory, raw: Path) -> Path:
    """The store of those nine clips, in three shards."""
    root = tmp_path_factory.mktemp("stores")
    return prepare(mtat.catalog(raw, "nine"), root, workers=2, progress=False, shard_clips=4)
