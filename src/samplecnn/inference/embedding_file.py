"""Embeddings of many files in one, written whole or not at all: NumPy's .npz and .npy, or Parquet.

Rows wait on the disk until all are there, so that memory does not grow with them. In all three there are the
paths, the embeddings in float32, the levels with their widths (features), and the model with a hash of its
weights; over time also the start of each segment in seconds, and which file it is of.

    .npz        arrays: paths, embeddings, levels, widths, model, model_hash, ...; over time files, starts
    .npy        the embeddings alone; the others in FILE.npy.json beside it
    .parquet    a row per embedding: path, start, embedding; the others in the file's metadata
"""

import importlib.util
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from samplecnn.errors import UserError
from samplecnn.files import write, writing
from samplecnn.inference.embedding import mean_over_time
from samplecnn.inference.table import Table
from samplecnn.inference.timeline import Timeline

COPIED = 1 << 20  # bytes at a time
PARQUET_ROWS = 1000


class EmbeddingFileError(UserError):
    """A file that embeddings cannot be written into."""


class Embeddings:
    """What is to become a file: a row per recording, or with ``over_time`` one per segment."""

    def __init__(self, path: Path, *, over_time: bool) -> None:
        self._path, self._over_time = path, over_time
        # It has no name, and is gone with the process.
        self._rows: BinaryIO = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 closed by __exit__
        self.paths: list[str] = []
        self._starts: list[NDArray[np.float64]] = []
        self.features = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._rows.close()

    def add(self, path: Path, timeline: Timeline) -> None:
        """Take what was heard in a file."""
        assert timeline.embeddings is not None
        rows = timeline.embeddings if self._over_time else mean_over_time(timeline.embeddings)[None]
        self._rows.write(np.ascontiguousarray(rows, "<f4").tobytes())
        self.paths.append(Table.key(path))
        self._starts.append(timeline.starts[: len(rows)].copy())
        self.features = rows.shape[1]

    def write(self, about: Mapping[str, Any]) -> int:
        """Write the file, with what it is about in lists, texts and numbers; return the number of rows."""
        columns: dict[str, NDArray[Any]] = {"paths": np.array(self.paths, np.str_)}
        counts = list(map(len, self._starts))
        if self._over_time:
            columns["files"] = np.repeat(np.arange(len(counts)), counts)
            columns["starts"] = np.concatenate(self._starts)
        WRITERS[self._path.suffix](self, sum(counts), columns, about)
        return sum(counts)

    def _as_npz(self, rows: int, columns: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
        with writing(self._path) as file, zipfile.ZipFile(file, "w") as archive:
            for name, value in {**columns, **about}.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)
            with archive.open("embeddings.npy", "w", force_zip64=True) as member:
                self._copy(member, rows)

    def _as_npy(self, rows: int, columns: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
        lists = {name: column.tolist() for name, column in columns.items()}
        write(beside(self._path), json.dumps({**about, **lists}, indent=1) + "\n")
        with writing(self._path) as file:
            self._copy(file, rows)

    def _copy(self, file: Any, rows: int) -> None:
        """Write all rows as an array in NumPy's format."""
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, self.features)}
        np.lib.format.write_array_header_2_0(file, header)
        self._rows.seek(0)
        shutil.copyfileobj(self._rows, file, COPIED)

    def _as_parquet(self, rows: int, columns: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        paths = columns["paths"]
        fields = {"path": pyarrow.string()}
        if self._over_time:
            fields["start"] = pyarrow.float64()
        fields["embedding"] = pyarrow.list_(pyarrow.float32(), self.features)
        schema = pyarrow.schema(fields.items(), {name: json.dumps(value) for name, value in about.items()})
        self._rows.seek(0)
        with writing(self._path) as file, ParquetWriter(file, schema) as parquet:
            for first in range(0, rows, PARQUET_ROWS):
                part = slice(first, min(first + PARQUET_ROWS, rows))
                values = self._rows.read(4 * self.features * (part.stop - part.start))
                flat = pyarrow.array(np.frombuffer(values, "<f4"))
                arrays = [pyarrow.FixedSizeListArray.from_arrays(flat, self.features)]
                names = paths[part]
                if self._over_time:
                    names = paths[columns["files"][part]]
                    arrays.insert(0, pyarrow.array(columns["starts"][part]))
                arrays.insert(0, pyarrow.array(names.tolist(), pyarrow.string()))
                parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


Writer = Callable[[Embeddings, int, Mapping[str, NDArray[Any]], Mapping[str, Any]], None]
WRITERS: dict[str, Writer] = {
    ".npz": Embeddings._as_npz,
    ".npy": Embeddings._as_npy,
    ".parquet": Embeddings._as_parquet,
}


def beside(path: Path) -> Path:
    """Return the file that says what the rows of a .npy file are."""
    return path.with_name(f"{path.name}.json")


def require_place(path: Path, *, force: bool) -> None:
    """Raise EmbeddingFileError for what cannot be written, and for a file that is there without ``force``."""
    if path.suffix not in WRITERS:
        raise EmbeddingFileError(f"{path}: the ending says what it will be; allowed are {', '.join(WRITERS)}")
    if not path.parent.is_dir():
        raise EmbeddingFileError(f"there is no folder {path.parent} for {path.name}")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise EmbeddingFileError(
            "pyarrow is not installed, which writes Parquet: pip install 'samplecnn[parquet]'"
        )
    for file in (path, beside(path)) if path.suffix == ".npy" else (path,):
        if os.path.lexists(file) and not (force and file.is_file()):
            raise EmbeddingFileError(
                f"{file} is there already, and is left as it is: name another file, or --force replaces it"
            )
