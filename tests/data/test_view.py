"""Parts of files and bytes between them, read as one file."""

import io
import os
from pathlib import Path

import numpy as np

from samplecnn.data.view import View


def test_parts_are_one_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(100)))
    whole = bytes(range(10, 40)) + b"between" + bytes(range(90, 100))
    with (tmp_path / "a").open("rb") as file:
        view = View([(file, 10, 40), b"between", (file, 90, 100), b""])
        assert view.read() == whole
        rng = np.random.default_rng(0)
        for start, count in rng.integers(0, 60, (100, 2)).tolist():
            assert view.seek(start) == start
            assert view.read(count) == whole[start : start + count]
        assert view.seek(-5, os.SEEK_END) == len(whole) - 5
        assert view.seek(-2, os.SEEK_CUR) == len(whole) - 7
        assert io.BufferedReader(view).read() == whole[-7:]
        assert view.seek(-1000, os.SEEK_END) == 0  # of an archive that is smaller than its last entry
        assert view.read(3) == whole[:3]


def test_a_file_that_became_shorter_ends_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(50))
    with (tmp_path / "a").open("rb") as file:
        assert View([(file, 0, 100), b"behind"]).read() == bytes(50)
