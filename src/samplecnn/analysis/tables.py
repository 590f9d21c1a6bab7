"""A table of a report: records for its CSV file, columns for people."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samplecnn.analysis.statistics import Interval

Record = dict[str, Any]
NONE, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
LONG = 20  # letters: what fits beside a column of numbers on a phone


@dataclass(frozen=True)
class Column:
    """What people see of a record."""

    header: str
    show: Callable[[Record], str]
    words: bool = False  # and not numbers: aligned left


@dataclass(frozen=True)
class Table:
    """Records, and how they are shown: the first column names the row."""

    name: str  # of its CSV file
    title: str
    note: str  # what it shows and how that was computed
    columns: Sequence[Column]
    records: Sequence[Record]
    visible: Callable[[Record], bool] = field(default=lambda record: True)  # others are in the CSV file alone

    @property
    def rows(self) -> list[list[str]]:
        """What is shown of each record."""
        return [[c.show(record) for c in self.columns] for record in self.records if self.visible(record)]

    @property
    def long_names(self) -> bool:
        """Whether names of rows have to be broken into lines on a narrow screen."""
        return any(len(name) > LONG for name, *_ in self.rows)


def write_csv(tables: Sequence[tuple[str, Table]], path: Path) -> None:
    """Write tables of one kind, each with the name of its group, into one CSV file."""
    records = [{"group": group, **record} for group, table in tables for record in table.records]
    keys = list(dict.fromkeys(key for record in records for key in record))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, keys, lineterminator="\n")
        writer.writeheader()
        for record in records:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in record.items()})


def plain(key: str) -> Callable[[Record], str]:
    """Show a text or a whole number."""

    def show(record: Record) -> str:
        value = record.get(key)
        return NONE if value is None else f"{value:,}" if isinstance(value, int) else str(value)

    return show


def decimals(key: str, digits: int = 4, *, sign: bool = False) -> Callable[[Record], str]:
    """Show a number."""
    return lambda record: number(record.get(key), digits, sign=sign)


def between(key: str, digits: int = 4, *, sign: bool = False) -> Callable[[Record], str]:
    """Show the interval whose ends are ``key_low`` and ``key_high``."""
    return lambda record: span(ends(record, key), digits, sign=sign)


def ends(record: Record, key: str) -> Interval | None:
    """Return an interval of a record."""
    low, high = record.get(f"{key}_low"), record.get(f"{key}_high")
    return None if low is None or high is None else (low, high)


def interval(key: str, value: Interval | None) -> Record:
    """Return the two fields of an interval."""
    return {f"{key}_low": value[0] if value else None, f"{key}_high": value[1] if value else None}


def number(value: float | None, digits: int = 4, *, sign: bool = False) -> str:
    """Write a number, with a true minus; a dash for none. With ``sign``, also that of a rounded 0."""
    if value is None:
        return NONE
    text = f"{value:{'+' if sign and value else ''},.{digits}f}"
    zero = float(text.replace(",", "")) == 0 and not sign
    return (text.lstrip("-") if zero else text).replace("-", MINUS)


def span(value: Interval | None, digits: int = 4, *, sign: bool = False) -> str:
    """Write an interval."""
    if value is None:
        return NONE
    return f"{number(value[0], digits, sign=sign)} to {number(value[1], digits, sign=sign)}"


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
