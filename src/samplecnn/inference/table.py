"""A row for each tagged file, in a file that grows: CSV, JSON lines, SQLite or Parquet.

    with open_table(Path("tags.csv"), source) as table:
        if not table.has(path):
            table.write(heard)  # by listen_to

A row is written whole or not at all, and those of an earlier call stay: what was interrupted goes on. A file
that is written again gets a new row in place of its old one. The rows of a table come from one model, heard
in one way (`Source`); a table of another one is refused and left as it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

from samplecnn import __version__
from samplecnn.errors import UserError, require_libraries
from samplecnn.files import BusyError, locked
from samplecnn.inference.many import Heard, Stamp
from samplecnn.inference.tagger import Tagger
from samplecnn.runs import weights
from samplecnn.text import shown

ENDINGS = (".csv", ".jsonl", ".sqlite", ".parquet")
DIGITS = 6  # of a probability


@dataclass(frozen=True)
class Source:
    """What the probabilities of a table come from."""

    model: str  # its name
    model_hash: str  # of the file of its weights
    samplecnn: str  # the program's version
    average: str
    overlap: float
    tags: tuple[str, ...]

    @classmethod
    def of(cls, tagger: Tagger, name: str, average: str, overlap: float) -> "Source":
        """Describe a tagger; its file of weights is read."""
        digest = weights.file_sha256(tagger.checkpoint)
        return cls(name, digest[:16], __version__, average, overlap, tagger.tags)

    def columns(self) -> dict[str, Any]:
        """Return what every row says of it."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "tags"}


@dataclass(frozen=True)
class Row:
    """What is said of one file: its tags, or why it has none, and what they come from."""

    path: str
    size: int | None  # bytes; None, as the time is, of a file that is not there
    mtime: float | None  # seconds since 1970
    seconds: float | None  # of audio
    error: str  # empty: none
    warning: str
    model: str  # this and what follows: see `Source`
    model_hash: str
    samplecnn: str
    average: str
    overlap: float
    tags: Mapping[str, float] | None  # probabilities

    @property
    def stamp(self) -> Stamp:
        """What tells whether the file has changed since."""
        return Stamp(self.size, self.mtime)

    @classmethod
    def read(cls, columns: Mapping[str, Any], tags: Any) -> "Row":
        """Return a row out of a file; KeyError, TypeError or ValueError for what is none."""
        row = cls(**{name: columns[name] for name in COLUMNS}, tags=tags)
        for name in COLUMNS:
            value, kinds = getattr(row, name), NUMBERS.get(name, (str,))
            # NaN is not below anything, and databases have numbers of 64 bits.
            if type(value) not in kinds or (type(value) in (int, float) and not abs(value) < 1 << 63):
                raise ValueError(f"{name} is {shown(value)}")
        if not isinstance(tags, dict | None):
            raise TypeError("tags are no object")
        for tag, probability in (tags or {}).items():
            if type(probability) not in (int, float) or not 0 <= probability <= 1:
                raise ValueError(f"{shown(tag)} has the probability {shown(probability)}")
        return row


COLUMNS = tuple(field.name for field in fields(Row) if field.name != "tags")  # in front of the tags
NUMBERS: Mapping[str, tuple[type, ...]] = {  # the types of the columns that are no text
    "size": (int, NoneType),
    "mtime": (float, int, NoneType),
    "seconds": (float, int, NoneType),
    "overlap": (float, int),
}


class Known(NamedTuple):
    """What is kept in memory of a row."""

    stamp: Stamp
    error: str
    warning: str


class Table(ABC):
    """Rows in a file, of one source."""

    def __init__(self, path: Path, source: Source) -> None:
        self.path, self.source = path, source
        self.known: dict[str, Known] = {}  # of the files that have a row, by the name that it has there

    def has(self, path: Path, *, strict: bool = False) -> bool:
        """Say whether a file has a row, if ``strict`` one without a warning, and has not changed since."""
        known = self.known.get(self.key(path))
        return known is not None and known.stamp == Stamp.of(path) and not (strict and known.warning)

    def write(self, heard: Heard) -> None:
        """Write what was heard in a file, in place of the row that it has."""
        key, tags, seconds = self.key(heard.path), None, None
        if heard.timeline is not None:
            average = heard.timeline.average(self.source.average)
            tags = {tag: round(float(p), DIGITS) for tag, p in zip(heard.timeline.tags, average, strict=True)}
            seconds = round(heard.timeline.seconds, 3)
        error = "" if heard.error is None else getattr(heard.error, "reason", str(heard.error))
        warning = heard.warning or ""
        about = (key, heard.stamp.size, heard.stamp.mtime, seconds, error, warning)
        self.put(Row(*about, **self.source.columns(), tags=tags))
        self.known[key] = Known(heard.stamp, error, warning)

    @staticmethod
    def key(path: Path) -> str:
        """Return a file's name as rows have it: exact, but for bytes that are no text."""
        return str(path).encode("utf-8", "backslashreplace").decode()

    @abstractmethod
    def put(self, row: Row) -> None:
        """Have a row in the file, whole or not at all."""

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Yield all rows; those that were replaced may come too, before those in their place."""

    @abstractmethod
    def close(self) -> None:
        """Leave the file as others are to read it."""

    def check(self, columns: Mapping[str, Any], tags: Iterable[str] | None) -> None:
        """Raise UserError for a row of another source."""
        ours = self.source.columns()
        for key in ("model_hash", "average", "overlap"):
            if columns[key] != ours[key]:
                theirs = f"{columns['model']}, {key} {columns[key]}"
                raise UserError(
                    f"{self.path} has rows of another source: {theirs}, where this is {ours['model']}, {key} "
                    f"{ours[key]}. It was left as it is: name another file"
                )
        if tags is not None and set(tags) != set(self.source.tags):
            raise UserError(f"{self.path} has other tags than the model. It was left as it is: name another")

    def damaged(self, where: str, reason: object) -> UserError:
        """Return the error for a file with something else in it."""
        return UserError(f"{self.path}, {where}, is no row of such a table ({reason}): name another file")


@contextmanager
def open_table(path: Path, source: Source) -> Iterator[Table]:
    """Open or begin a table, of the kind that its ending says; no other process can meanwhile.

    Raises UserError for a file that is another source's or no table, is in use, or has another ending.
    """
    kinds = _kinds()
    require_format(path)
    lock = locked(path.with_name(f".{path.name}.lock"), kept=False)
    try:
        with lock, closing(kinds[path.suffix](path, source)) as table:
            yield table
    except BusyError as error:
        raise UserError(f"another process is writing {path}") from error


def require_format(path: Path, endings: Iterable[str] = ENDINGS) -> None:
    """Raise UserError for a file that cannot become what its ending says."""
    if path.suffix not in endings:
        raise UserError(f"{path}: the ending says what it will be; allowed are {', '.join(endings)}")
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} for {path.name}")
    if path.suffix == ".parquet":
        require_libraries("parquet", "pyarrow")


def _kinds() -> Mapping[str, type[Table]]:
    from samplecnn.inference.table_database import DatabaseTable
    from samplecnn.inference.table_lines import CsvTable, JsonTable, ParquetTable

    return dict(zip(ENDINGS, (CsvTable, JsonTable, DatabaseTable, ParquetTable), strict=True))
