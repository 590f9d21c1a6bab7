"""Tables that are lines of text: CSV and JSON lines, and Parquet, which is made of the latter at the end."""

import csv
import io
import json
from abc import abstractmethod
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from samplecnn.errors import UserError
from samplecnn.files import write, writing
from samplecnn.inference.table import COLUMNS, DIGITS, NUMBERS, Known, Row, Source, Table
from samplecnn.text import FORMULA, csv_text, printable

MAX_LINE = 4 << 20  # bytes; with 10,000 tags a row has 300 kB
PARQUET_ROWS = 10_000  # that are converted at a time


class _Lines(Table):
    """A row per line, at the end of the file. What is behind the last line end was cut, and is dropped."""

    header = ""
    beginning: bytes  # of every such file

    def __init__(self, path: Path, source: Source) -> None:
        super().__init__(path, source)
        if not path.exists():
            write(path, self.header)
        whole = lines = 0
        for lines, line in enumerate(self._whole_lines(), start=1):
            whole += len(line)
            if lines == 1 and self.header:
                self.check_header(line)
                continue
            row = self._parsed(line, lines)
            self.check(vars(row), row.tags)
            self.known[row.path] = Known(row.stamp, row.error, row.warning)
        with path.open("rb") as file:
            begun = file.read(len(self.beginning))
        if not lines and not self.beginning.startswith(begun):
            raise self.damaged("line 1", "it is something else")
        if not lines or whole < path.stat().st_size or lines - bool(self.header) > len(self.known):
            self._tidy()
        self._replaced = False
        self._file = path.open("ab")

    def check_header(self, line: bytes) -> None:
        """Raise UserError for the header of another table."""

    @abstractmethod
    def format(self, row: Row) -> str:
        """Return a row as a line."""

    @abstractmethod
    def parse(self, line: str) -> Row:
        """Return a row; ValueError, KeyError or TypeError for what is none."""

    def put(self, row: Row) -> None:
        """Append a row."""
        self._replaced |= row.path in self.known
        self._file.write(self.format(row).encode())
        self._file.flush()

    def rows(self) -> Iterator[Row]:
        """Yield the rows in the order of the file."""
        for number, line in enumerate(self._whole_lines(), start=1):
            if number > 1 or not self.header:
                yield self._parsed(line, number)

    def close(self) -> None:
        """Drop the rows that later ones have replaced."""
        self._file.close()
        if self._replaced:
            self._tidy()

    def _tidy(self) -> None:
        """Write the file anew, without what was cut and the rows that later ones have replaced."""
        kept = set({row.path: number for number, row in enumerate(self.rows())}.values())
        lines = islice(self._whole_lines(), int(bool(self.header)), None)
        with writing(self.path) as file:
            file.write(self.header.encode())
            file.writelines(line for number, line in enumerate(lines) if number in kept)

    def _whole_lines(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            while (line := file.readline(MAX_LINE)).endswith(b"\n"):
                yield line
            if len(line) == MAX_LINE:
                raise self.damaged("a line", f"longer than {MAX_LINE >> 20} MiB")

    def _parsed(self, line: bytes, number: int) -> Row:
        try:
            return self.parse(line.decode())
        except (ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
            raise self.damaged(f"line {number}", printable(str(error))[:80]) from error


class JsonTable(_Lines):
    """An object per line, the tags an object in it."""

    beginning = b'{"path": '

    @staticmethod
    def key(path: Path) -> str:
        """Return the exact name."""
        return str(path)

    def format(self, row: Row) -> str:
        """Return the row as JSON."""
        return json.dumps(vars(row)) + "\n"

    def parse(self, line: str) -> Row:
        """Read such an object."""
        columns = json.loads(line)
        return Row.read(columns, columns["tags"])


class CsvTable(_Lines):
    """A column per tag, behind the others. Text is made harmless to spreadsheets."""

    def __init__(self, path: Path, source: Source) -> None:
        self.header = _csv([*COLUMNS, *(csv_text(column(tag)) for tag in source.tags)])
        self.beginning = self.header.encode()
        super().__init__(path, source)

    @staticmethod
    def key(path: Path) -> str:
        """Return a name that is printable, and no formula."""
        return printable(f"./{path}" if str(path).startswith(FORMULA) else str(path))

    def check_header(self, line: bytes) -> None:
        """Raise UserError for columns that are not ours."""
        if line != self.header.encode():
            ours = line.startswith(_csv(COLUMNS).rstrip("\n").encode() + b",")
            if ours:
                self.check(self.source.columns(), ())
            raise self.damaged("line 1", "other columns")

    def format(self, row: Row) -> str:
        """Return the row with its probabilities in the model's order."""
        columns = {key: getattr(row, key) for key in COLUMNS}
        for key in ("error", "warning", "model"):
            columns[key] = csv_text(columns[key])
        tags = [f"{row.tags[tag]:.{DIGITS}f}" if row.tags else "" for tag in self.source.tags]
        return _csv([*columns.values(), *tags])

    def parse(self, line: str) -> Row:
        """Read such a row."""
        cells = next(csv.reader([line], strict=True))
        columns: dict[str, Any] = dict(zip(COLUMNS, cells, strict=False))
        for key, (kind, *_) in NUMBERS.items():
            columns[key] = kind(columns[key]) if columns[key] else None
        values = map(float, cells[len(COLUMNS) :]) if not columns["error"] else None
        return Row.read(columns, values and dict(zip(self.source.tags, values, strict=True)))


class ParquetTable(JsonTable):
    """A column per tag. The rows are in FILE.jsonl beside it until the end, when it is made of them."""

    def __init__(self, path: Path, source: Source) -> None:
        lines = path.with_name(f"{path.name}.jsonl")
        if path.exists() and not lines.exists():
            raise UserError(f"{path} is there, but {lines.name} is not, which it was made of: name another")
        self._parquet = path
        super().__init__(lines, source)

    def close(self) -> None:
        """Make the file of the lines."""
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        super().close()
        numbers = {int: pyarrow.int64(), float: pyarrow.float64()}
        kinds = {name: numbers[kind] for name, (kind, *_) in NUMBERS.items()}
        names = {column(tag): pyarrow.float32() for tag in self.source.tags}
        schema = pyarrow.schema(
            [*((name, kinds.get(name, pyarrow.string())) for name in COLUMNS), *names.items()]
        )
        rows = map(self._flat, self._whole_lines())
        with writing(self._parquet) as file, ParquetWriter(file, schema) as parquet:
            while some := list(islice(rows, PARQUET_ROWS)):
                parquet.write_table(pyarrow.Table.from_pylist(some, schema))

    def _flat(self, line: bytes) -> dict[str, Any]:
        row = self._parsed(line, 0)
        tags = {column(tag): probability for tag, probability in (row.tags or {}).items()}
        return vars(row) | tags | {"path": Table.key(Path(row.path))}


def column(tag: str) -> str:
    """Return the name of a tag's column, which is not that of another column."""
    return f"tag {tag}" if tag in COLUMNS else tag


def _csv(cells: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
