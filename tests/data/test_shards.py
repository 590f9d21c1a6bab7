"""Samples by position: what is read, and what of a file that changes meanwhile."""

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from samplecnn.data import shards
from samplecnn.data.shards import Shards

SAMPLES = (50_000, 70_000, 3_000)
WIDTH = 4_000


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"shard-{number}.npy" for number in range(len(SAMPLES))]
    for path, samples in zip(paths, SAMPLES, strict=True):
        np.save(path, rng.integers(-32_768, 32_768, samples, dtype=np.int16))
    return paths


def spans(count: int, seed: int) -> np.ndarray:
    """Spans in random order, a third of them shorter than `WIDTH`."""
    rng = np.random.default_rng(seed)
    drawn = []
    for number in range(count):
        shard = int(rng.integers(len(SAMPLES)))
        samples = WIDTH if number % 3 and SAMPLES[shard] > WIDTH else int(rng.integers(1, 2_900))
        drawn.append([shard, int(rng.integers(SAMPLES[shard] - samples + 1)), samples])
    return np.array(drawn)


def expected(files: list[Path], wanted: np.ndarray) -> np.ndarray:
    rows = np.zeros((len(wanted), WIDTH), dtype=np.int16)
    for row, (shard, first, samples) in zip(rows, wanted, strict=True):
        row[:samples] = np.load(files[shard])[first : first + samples]
    return rows


def test_gathered_samples_are_those_of_the_files(files: list[Path]) -> None:
    held = Shards(files)
    assert (len(held), held.lengths) == (3, SAMPLES)
    for seed in range(12):
        wanted = spans(11, seed)
        out = np.full((11, WIDTH), 7, dtype=np.int16)
        held.will_need(wanted)
        held.gather(wanted, out)
        np.testing.assert_array_equal(out, expected(files, wanted))


def test_rows_that_have_gaps_between_them(files: list[Path]) -> None:
    held = Shards(files)
    wanted = spans(4, 0)
    wide = np.full((4, WIDTH + 5), 7, dtype=np.int16)
    held.gather(wanted, wide[:, :WIDTH])
    np.testing.assert_array_equal(wide[:, :WIDTH], expected(files, wanted))
    assert (wide[:, WIDTH:] == 7).all()
    held.gather(wanted[:0], wide[:0, :WIDTH])
    held.gather(wanted[:0], wide[:0])


def test_files_that_become_shorter_raise_an_error(files: list[Path]) -> None:
    held = Shards(files)
    os.truncate(files[0], 1_000)
    out = np.empty((2, WIDTH), dtype=np.int16)
    message = rf"{files[0].name} ends at 1000 bytes: it was longer when it was opened"
    with pytest.raises(OSError, match=message):
        held.gather(np.array([[1, 0, WIDTH], [0, 300, WIDTH]]), out)
    with pytest.raises(OSError, match=r"ends at 80128 bytes"):
        held.read(0, 40_000, out[0])
    held.read(0, 0, out[0, :400])  # what is left can be read
    others = np.array([[1, 0, WIDTH], [2, 5, 10]])
    held.gather(others, out)
    np.testing.assert_array_equal(out, expected(files, others))


def test_a_file_without_its_last_sample(files: list[Path]) -> None:
    held = Shards(files)
    os.truncate(files[2], files[2].stat().st_size - 2)
    out = np.empty(10, dtype=np.int16)
    held.read(2, 2_989, out)
    np.testing.assert_array_equal(out, np.fromfile(files[2], "<i2")[-10:])
    with pytest.raises(OSError, match=r"shard-2\.npy ends at"):
        held.read(2, 2_990, out)


def opened(files: Iterable[Path]) -> int:
    """Return how many descriptors of files this process has."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # of another thread, and closed meanwhile
            found += descriptor.readlink() in files
    return found


def test_descriptors_are_closed_and_never_too_many(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Shards(files)
    assert opened(files) == 0
    for shard in range(3):
        held.read(shard, 0, np.empty(10, dtype=np.int16))
    assert opened(files) == 3
    del held
    assert opened(files) == 0
    for most in (1, 2, 3):
        monkeypatch.setattr(shards, "MOST_OPEN", most)
        again = Shards(files)
        for seed in range(20):
            wanted = spans(11, seed)
            out = np.empty((11, WIDTH), dtype=np.int16)
            again.gather(wanted, out)
            np.testing.assert_array_equal(out, expected(files, wanted))
            assert opened(files) <= most
        del again
        assert opened(files) == 0


def test_threads_read_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MOST_OPEN", 1)  # whoever reads closes the other's file
    files = [tmp_path / f"{number}.npy" for number in range(4)]
    for number, file in enumerate(files):
        np.save(file, np.full(100_000, number, dtype=np.int16))
    held = Shards(files)
    right: list[bool] = []

    def work(number: int) -> None:
        out = np.empty(100_000, dtype=np.int16)
        for _ in range(4_000):
            held.read(number, 0, out)
            if (out != number).any():
                return
        right.append(True)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros(4, np.float32), r"holds float32 \(4,\), not int16 \(samples,\)"),
        (np.zeros((2, 2), np.int16), r"holds int16 \(2, 2\), not int16"),
        (np.zeros(4, ">i2"), r"holds >i2 \(4,\), not int16"),
        (np.array([Path("x")], dtype=object), "holds Python objects, not int16"),
        (b"", "magic string"),
        (b"\x93NUMPY\x03\x00\x10\x00\x00\x00", r"version \(3, 0\) of the \.npy format"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, content: np.ndarray | bytes, message: str) -> None:
    file = tmp_path / "shard.npy"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        np.save(file, content)
    with pytest.raises(ValueError, match=message):
        Shards([file])


def test_a_header_that_promises_too_much_is_refused(files: list[Path]) -> None:
    os.truncate(files[2], files[2].stat().st_size - 2)
    with pytest.raises(ValueError, match=r"shard-2\.npy is shorter than the 3000 samples"):
        Shards(files)
