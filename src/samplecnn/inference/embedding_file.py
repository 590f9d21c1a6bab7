"""Embeddings of many files in one, written whole or not at all: NumPy's .npz and .npy, or Parquet.

Rows wait on the disk until all are there, so that memory does not grow with them. In all three there are the
paths, the embeddings in float32, the levels with their widths (features), and the model with a hash of its
weights; over time also the start of each segment in seconds, and which file it is of.

    .npz        arrays: paths, embeddings, levels, widths, model, model_hash, ...; over time files, starts
    .npy        the embeddings alone; the others in FILE.npy.json beside it
    .parquet    a row per embedding: path, start, embedding; the others in the file's metadata
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from samplecnn.errors import UserError
from samplecnn.files import write, writing
from samplecnn.inference.embedding import mean_over_time
from samplecnn.inference.table import Table, require_format
from samplecnn.inference.timeline import Timeline

ENDINGS = (".npz", ".npy", ".parquet")
PARQUET_ROWS = 1000

Rows = NDArray[np.float32]  # (rows, features), mapped from the disk


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
        rows = np.memmap(self._rows, "<f4", "r", shape=(sum(counts), self.features))
        if self._path.suffix == ".npy":
            lists = {name: column.tolist() for name, column in columns.items()}
            write(beside(self._path), json.dumps({**about, **lists}, indent=1) + "\n")
        with writing(self._path) as file:
            if self._path.suffix == ".npz":
                arrays: dict[str, Any] = {"embeddings": rows, **columns, **about}
                np.savez(file, **arrays)
            elif self._path.suffix == ".npy":
                np.save(file, rows)
            else:
                self._write_parquet(file, rows, columns, about)
        return len(rows)

    def _write_parquet(
        self, file: BinaryIO, rows: Rows, columns: Mapping[str, NDArray[Any]], about: Mapping[str, Any]
    ) -> None:
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        kind = pyarrow.list_(pyarrow.float32(), self.features)
        starts = {"start": pyarrow.array(columns["starts"])} if self._over_time else {}
        files = columns["files"] if self._over_time else np.arange(len(rows))
        fields = {"path": pyarrow.string(), **{name: pyarrow.float64() for name in starts}, "embedding": kind}
        schema = pyarrow.schema(fields.items(), {name: json.dumps(value) for name, value in about.items()})
        with ParquetWriter(file, schema) as parquet:
            for first in range(0, len(rows), PARQUET_ROWS):
                part = slice(first, first + PARQUET_ROWS)
                paths = pyarrow.array(columns["paths"][files[part]].tolist(), pyarrow.string())
                some = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows[part].ravel()), type=kind)
                arrays = [paths, *(values[part] for values in starts.values()), some]
                parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


def beside(path: Path) -> Path:
    """Return the file that says what the rows of a .npy file are."""
    return path.with_name(f"{path.name}.json")


def require_place(path: Path, *, force: bool) -> None:
    """Raise UserError for what cannot be written, and for a file that is there without ``force``."""
    require_format(path, ENDINGS)
    for file in (path, beside(path)) if path.suffix == ".npy" else (path,):
        if os.path.lexists(file) and not (force and file.is_file()):
            raise UserError(
                f"{file} is there already, and is left as it is: name another file, or --force replaces it"
            )
