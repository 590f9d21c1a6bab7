"""Tables and lists of text as spreadsheets and scripts write them: one reader for all data sets."""

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from samplecnn.data.catalog import CatalogError

MAX_BYTES = 500_000_000  # MagnaTagATune's annotations have 21 MB
DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon"}
COLUMNS_SHOWN = 6


@dataclass(frozen=True)
class Table:
    """A table below its header line; iterating gives where each row stands, and its cells by column."""

    file: Path
    header: list[str]
    rows: list[tuple[int, list[str]]]  # line number, one cell per column

    def __iter__(self) -> Iterator[tuple[str, dict[str, str]]]:
        for line, row in self.rows:
            yield f"{self.file}, line {line}", dict(zip(self.header, row, strict=True))

    def require_distinct(self, column: str) -> None:
        """Raise `CatalogError` where two rows have the same in a column."""
        first_line: dict[str, int] = {}
        for line, row in self.rows:
            value = row[self.header.index(column)]
            if (earlier := first_line.setdefault(value, line)) != line:
                raise CatalogError(
                    f"{self.file}, line {line}: {column} {value!r} is also on line {earlier}:"
                    " each has one line, with all its tags"
                )


def read_bytes(file: Path) -> bytes:
    """Read a file, or what is in it if its name ends in .gz.

    Raises `CatalogError` for one that cannot be read, is damaged or has more than 500 MB.
    """
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise CatalogError(f"{file}: cannot be read ({error})") from error
    if len(content) > MAX_BYTES:
        raise CatalogError(f"{file}: more than {MAX_BYTES:,} bytes, no table is so large")
    return content


def decode(content: bytes, file: Path) -> str:
    """Return a file's bytes as text: UTF-8 or UTF-16, with or without the mark at the beginning.

    Raises `CatalogError`, with the line, for anything else: letters would be guessed.
    """
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    # Without a mark, UTF-16 shows in the zero byte of its first letter.
    encoding = "utf-16" if marked else "utf-16-le" if content[1:2] == b"\0" else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CatalogError(
            f"{file}, line {line}: not UTF-8 ({error.reason}): save it as UTF-8"
            " (in a spreadsheet: as 'CSV UTF-8')"
        ) from error


def read_table(file: Path, required: Sequence[str], optional: Sequence[str] = (), tail: str = "") -> Table:
    """Read a table with a header line, its cells separated by commas, tabs or semicolons.

    The names in `required` and `optional` are found whatever their case. Spaces around cells, blank rows and
    empty cells beyond the header are dropped. If `tail` is the header's last column, it takes all further
    cells of a row, joined as they were.

    Raises `CatalogError`, with the line, for what is no table, has no rows or lacks a `required` column, for
    columns that repeat, and for rows of another length than the header.
    """
    text = decode(read_bytes(file), file)
    names = {name.casefold(): name for name in (*required, *optional)}

    def header_of(delimiter: str) -> list[str]:
        try:
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
                if any(cells := [cell.strip() for cell in row]):
                    return [names.get(cell.casefold(), cell) for cell in cells]
        except csv.Error:
            pass
        return []

    headers = {delimiter: header_of(delimiter) for delimiter in DELIMITERS}
    delimiter = max(headers, key=lambda d: (len(set(required) & set(headers[d])), len(headers[d])))
    header, word = headers[delimiter], DELIMITERS[delimiter]
    while header and not header[-1]:
        header.pop()
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        read = ((reader.line_num, [cell.strip() for cell in row]) for row in reader)
        rows = [(line, row) for line, row in read if any(row)]
    except csv.Error as error:
        raise CatalogError(
            f"{file}, line {reader.line_num}: not a {word}-separated table ({error}). A cell with a quote"
            ' in it is written in quotes, and that quote twice: """Heroes"" live.wav"'
        ) from error
    _check_header(header, rows, file, required, word)
    width = len(header)
    for line, row in rows:
        if header[-1] == tail and len(row) > width:
            row[width - 1 :] = [delimiter.join(row[width - 1 :])]
        while len(row) > width and not row[-1]:
            row.pop()
        if len(row) != width:
            mend = (
                "a cell that holds one has to be in quotes" if len(row) > width else "so has every line to be"
            )
            counts = f"{len(row)} columns, the header has {width}"
            raise CatalogError(f"{file}, line {line}: {counts}, separated by {word}s: {mend}")
    return Table(file, header, rows[1:])


def _check_header(
    header: list[str], rows: list[tuple[int, list[str]]], file: Path, required: Sequence[str], word: str
) -> None:
    line = rows[0][0] if rows else 1
    if missing := [column for column in required if column not in header]:
        found = ", ".join(map(repr, header[:COLUMNS_SHOWN])) or "nothing"
        more = f" and {len(header) - COLUMNS_SHOWN} more" if len(header) > COLUMNS_SHOWN else ""
        raise CatalogError(
            f"{file}, line {line}: no column {missing[0]!r} in the header, which has {found}{more}"
            f" (read as {word}-separated); needed are {', '.join(required)}"
        )
    if repeated := sorted({column for column in header if column and header.count(column) > 1}):
        raise CatalogError(
            f"{file}, line {line}: columns that appear twice: {', '.join(map(repr, repeated))}"
        )
    if len(rows) == 1:
        raise CatalogError(f"{file}: no rows, only the header line")
