"""A table in an SQLite database: ``files``, a row each, and ``probabilities``, a row per file and tag."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samplecnn.errors import UserError
from samplecnn.inference.many import Stamp
from samplecnn.inference.table import COLUMNS, Known, Row, Source, Table

SCHEMA = """
CREATE TABLE files (
    id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL UNIQUE, size INTEGER, mtime REAL, seconds REAL,
    error TEXT NOT NULL, warning TEXT NOT NULL, model TEXT NOT NULL, model_hash TEXT NOT NULL,
    samplecnn TEXT NOT NULL, average TEXT NOT NULL, overlap REAL NOT NULL
);
CREATE TABLE probabilities (
    file INTEGER NOT NULL REFERENCES files (id), tag TEXT NOT NULL, probability REAL NOT NULL,
    PRIMARY KEY (file, tag)
) WITHOUT ROWID;
"""


class DatabaseTable(Table):
    """A transaction per file."""

    def __init__(self, path: Path, source: Source) -> None:
        super().__init__(path, source)
        with self._errors():
            self._database = sqlite3.connect(path)
        try:
            with self._errors():
                self._open()
        except BaseException:
            self._database.close()
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Have what SQLite complains of as UserError: no such database, a full disk, another program."""
        try:
            yield
        except sqlite3.Error as error:
            reason = f"{self.path} cannot be used as a database of tags ({error})"
            raise UserError(f"{reason}: mend that, or name another file") from error

    def _open(self) -> None:
        self._database.execute("PRAGMA trusted_schema = OFF")
        found = [
            name for (name,) in self._database.execute("SELECT name FROM sqlite_schema WHERE type='table'")
        ]
        if not found:
            self._database.executescript(f"BEGIN;{SCHEMA}COMMIT;")
        of_rows = "SELECT DISTINCT model, model_hash, average, overlap FROM files"
        for model, model_hash, average, overlap in self._database.execute(of_rows):
            theirs = {"model": model, "model_hash": model_hash, "average": average, "overlap": overlap}
            self.check(theirs, None)
        one = "SELECT tag FROM probabilities WHERE file = (SELECT MIN(file) FROM probabilities)"
        if tags := [tag for (tag,) in self._database.execute(one)]:
            self.check(self.source.columns(), tags)
        rows = self._database.execute("SELECT path, size, mtime, error, warning FROM files")
        for name, size, mtime, error, warning in rows:
            self.known[name] = Known(Stamp(size, mtime), error, warning)

    def put(self, row: Row) -> None:
        """Write the row and its probabilities in one transaction."""
        with self._errors(), self._database as database:
            old = "(SELECT id FROM files WHERE path = ?)"
            database.execute(f"DELETE FROM probabilities WHERE file = {old}", (row.path,))  # noqa: S608
            database.execute("DELETE FROM files WHERE path = ?", (row.path,))
            names, marks = ", ".join(COLUMNS), ", ".join(f":{name}" for name in COLUMNS)
            insert = f"INSERT INTO files ({names}) VALUES ({marks})"  # noqa: S608
            file = database.execute(insert, {name: getattr(row, name) for name in COLUMNS}).lastrowid
            tags = ((file, tag, probability) for tag, probability in (row.tags or {}).items())
            database.executemany("INSERT INTO probabilities VALUES (?, ?, ?)", tags)

    def rows(self) -> Iterator[Row]:
        """Yield the rows in the order in which they were written, also those that are written meanwhile."""
        number = 0
        while found := self._next(number):
            number, row = found
            yield row

    def _next(self, number: int) -> tuple[int, Row] | None:
        """Return the row behind this one, with its own number."""
        of_files = f"SELECT id, {', '.join(COLUMNS)} FROM files WHERE id > ? ORDER BY id LIMIT 1"  # noqa: S608
        of_tags = "SELECT tag, probability FROM probabilities WHERE file = ?"
        with self._errors():
            found = self._database.execute(of_files, (number,)).fetchone()
            if found is None:
                return None
            tags = dict(self._database.execute(of_tags, found[:1]).fetchall())
        try:
            return found[0], Row.read(dict(zip(COLUMNS, found[1:], strict=True)), tags or None)
        except (TypeError, ValueError) as error:
            raise self.damaged(f"file {found[0]}", error) from error

    def close(self) -> None:
        """Close the database."""
        self._database.close()
