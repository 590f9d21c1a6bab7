"""Tables for people and for programs, and how numbers are written."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samplecnn import files
from samplecnn.runs.results import Interval
from samplecnn.text import csv_text

Record = dict[str, Any]  # an interval stands under a key that ends in "_interval"
NONE, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
NOTHING = 1e-9  # a smaller difference is the rounding of floats
LONG = 20  # letters: what fits beside a column of numbers on a phone


def text(value: Any) -> str:
    """Write a text or a whole number."""
    return NONE if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def number(value: float | None, digits: int = 4, *, sign: bool = False) -> str:
    """Write a number, with a true minus; a dash for none.

    With ``sign`` it is a difference, or the end of its interval: what is not 0 does not look like it, but has
    as many digits as it takes.
    """
    if value is None:
        return NONE
    if sign and abs(value) < NOTHING:
        value = 0.0
    if sign and value and abs(value) < 0.5 * 10**-digits:
        digits = -math.floor(math.log10(abs(value)))
    written = f"{value:{'+' if sign and value else ''},.{digits}f}"
    zero = float(written.replace(",", "")) == 0
    return (written.lstrip("-") if zero else written).replace("-", MINUS)


def span(value: Interval | None, digits: int = 4, *, sign: bool = False) -> str:
    """Write an interval."""
    return NONE if value is None else " to ".join(number(end, digits, sign=sign) for end in value)


def compact(value: float) -> str:
    """Write a setting such as 16, 0.125 or 1e-4 as on the command line."""
    if value == 0 or abs(value) >= 1e-2:
        return f"{value:g}"
    digits, _, power = f"{value:e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"


def duration(seconds: float) -> str:
    """Write a time in the largest units that fit."""
    minutes, hours = seconds / 60, seconds / 3600
    return f"{hours:.1f} h" if hours >= 1 else f"{minutes:.1f} min" if minutes >= 1 else f"{seconds:.1f} s"


@dataclass(frozen=True)
class Column:
    """What people see of one key of the records."""

    header: str
    key: str
    show: Callable[[Any], str] = text
    words: bool = False  # and not numbers: aligned left
    optional: bool = False  # left out where no record has a value


# Scores, each with its interval.
ROC = (Column("ROC-AUC", "roc_auc", number), Column("95 % interval", "roc_auc_interval", span))
PR = (Column("PR-AUC", "pr_auc", number), Column("95 % interval", "pr_auc_interval", span))


@dataclass(frozen=True)
class Shown:
    """What is shown of one key of a record."""

    text: str
    place: float | None = None  # among the numbers of its column
    mark: str = ""  # highest or lowest of its column


@dataclass(frozen=True)
class Table:
    """Records, and how they are shown: the first column names the row."""

    name: str  # of its CSV file
    title: str
    note: str  # what it shows and how that was computed
    all_columns: Sequence[Column]
    records: Sequence[Record]
    unseen: Sequence[Record] = ()  # records that are in the CSV file alone
    highest: Sequence[str] = ()  # keys whose highest value is marked
    lowest: Sequence[str] = ()

    @property
    def columns(self) -> list[Column]:
        """The columns that have something to show."""
        return [
            column
            for column in self.all_columns
            if not column.optional or any(record[column.key] is not None for record in self.records)
        ]

    @property
    def heads(self) -> list[str]:
        """The names of the columns, all different: with the column before, where a name comes twice."""
        headers = [column.header for column in self.columns]
        return [
            f"{header}\nof {headers[place - 1]}" if headers.count(header) > 1 else header
            for place, header in enumerate(headers)
        ]

    @property
    def cells(self) -> list[list[Shown]]:
        """What is shown of each record: rows that can be sorted, and the best of a column marked."""
        return [list(row) for row in zip(*map(self._column, self.columns), strict=True)]

    @property
    def rows(self) -> list[list[str]]:
        """The text of the cells."""
        return [[cell.text for cell in row] for row in self.cells]

    def _column(self, column: Column) -> list[Shown]:
        values = [record[column.key] for record in self.records]
        # An interval is where it begins.
        firsts = [value[0] if isinstance(value, tuple) else value for value in values]
        places = [float(value) if isinstance(value, int | float) else None for value in firsts]
        known = [place for place in places if place is not None and math.isfinite(place)]
        best, mark = None, ""
        if len(known) > 1 and column.key in (*self.highest, *self.lowest):
            mark = "highest" if column.key in self.highest else "lowest"
            best = column.show(values[places.index(max(known) if mark == "highest" else min(known))])
        texts = [column.show(value) for value in values]  # alike to a reader, alike marked
        return [
            Shown(text, place, mark if text == best else "")
            for text, place in zip(texts, places, strict=True)
        ]

    @property
    def long_names(self) -> bool:
        """Whether names of rows have to be broken into lines on a narrow screen."""
        return any(len(name) > LONG for name, *_ in self.rows)


def write_tables(tables: Sequence[tuple[str, Table]], path: Path) -> None:
    """Write tables of one kind, each with the name of its group, into one CSV file."""
    records = [
        {"group": csv_text(group), **dict(_flat(record))}
        for group, table in tables
        for record in (*table.records, *table.unseen)
    ]
    keys = list(dict.fromkeys(key for record in records for key in record))
    write_csv(path, keys, ([record.get(key) for key in keys] for record in records))


def _flat(record: Record) -> Iterator[tuple[str, Any]]:
    """Write numbers to six digits, texts as text, and give each end of an interval a field of its own."""
    for key, value in record.items():
        name = key.removesuffix("_interval")
        if name == key:
            if isinstance(value, str):
                value = csv_text(value)
            yield key, f"{value:.6g}" if isinstance(value, float) else value
        else:
            low, high = (f"{end:.6g}" for end in value) if value else (None, None)
            yield from ((f"{name}_low", low), (f"{name}_high", high))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, whole or not at all."""
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows([header, *rows])
    files.write(path, lines.getvalue())
