"""A table in an SQLite database: ``files``, a row each, and ``probabilities``, a row per file and tag."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from samplecnn.inference.many import Stamp
from samplecnn.inference.table import COLUMNS, Row, Source, Table

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
        self._database = sqlite3.connect(path, isolation_level=None)
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise self.damaged("as a database", error) from error
        except BaseException:
            self._database.close()
            raise

    def _open(self) -> None:
        self._database.execute("PRAGMA trusted_schema = OFF")
        found = [
            name for (name,) in self._database.execute("SELECT name FROM sqlite_schema WHERE type='table'")
        ]
        if not found:
            self._database.executescript(f"BEGIN;{SCHEMA}COMMIT;")
        of_rows = "SELECT DISTINCT model, model_hash, average, overlap FROM files"
        for values in self._database.execute(of_rows):
            theirs = dict(zip(("model", "model_hash", "average", "overlap"), values, strict=True))
            self.check(theirs, None)
        one = "SELECT tag FROM probabilities WHERE file = (SELECT MIN(file) FROM probabilities)"
        if tags := [tag for (tag,) in self._database.execute(one)]:
            self.check(self.source.columns(), tags)
        for name, size, mtime in self._database.execute("SELECT path, size, mtime FROM files"):
            self.stamps[name] = Stamp(size, mtime)

    def put(self, row: Row) -> None:
        """Write the row and its probabilities in one transaction."""
        database, values = self._database, row.columns(self.source)
        database.execute("BEGIN")
        try:
            old = "(SELECT id FROM files WHERE path = ?)"
            database.execute(f"DELETE FROM probabilities WHERE file = {old}", (row.path,))  # noqa: S608
            database.execute("DELETE FROM files WHERE path = ?", (row.path,))
            names, marks = ", ".join(COLUMNS), ", ".join("?" * len(COLUMNS))
            insert = f"INSERT INTO files ({names}) VALUES ({marks})"  # noqa: S608
            file = database.execute(insert, tuple(values.values())).lastrowid
            tags = ((file, tag, probability) for tag, probability in (row.tags or {}).items())
            database.executemany("INSERT INTO probabilities VALUES (?, ?, ?)", tags)
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")

    def rows(self) -> Iterator[Row]:
        """Yield the rows in the order in which they were written, also those that are written meanwhile."""
        columns = "id, path, size, mtime, seconds, error, warning"
        of_files = f"SELECT {columns} FROM files WHERE id > ? ORDER BY id LIMIT 1"  # noqa: S608
        of_tags = "SELECT tag, probability FROM probabilities WHERE file = ?"
        number = 0
        while found := self._database.execute(of_files, (number,)).fetchone():
            number, path, size, mtime, seconds, error, warning = found
            tags = dict(self._database.execute(of_tags, (number,)).fetchall())
            yield Row(path, Stamp(size, mtime), seconds, error, warning, tags or None)

    def close(self) -> None:
        """Close the database."""
        self._database.close()
