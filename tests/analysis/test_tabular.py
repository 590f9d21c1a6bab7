"""How numbers are written."""

import csv
from pathlib import Path

import pytest

from samplecnn.analysis.tabular import (
    ROC,
    Column,
    Table,
    compact,
    duration,
    number,
    span,
    write_tables,
)

MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("value", "sign", "expected"),
    [
        (0.91113, False, "0.9111"),
        (0.00206, True, "+0.0021"),
        (-0.00206, True, f"{MINUS}0.0021"),
        (-0.00001, True, f"{MINUS}0.00001"),  # what is not 0 does not look like it
        (0.00004999, True, "+0.00005"),
        (0.00005001, True, "+0.0001"),
        (1e-12, True, "0.0000"),  # floats that are rounded
        (-0.00001, False, "0.0000"),
        (0.0, True, "0.0000"),
        (-1234.5, False, f"{MINUS}1,234.5000"),
        (None, True, "\N{EN DASH}"),
    ],
)
def test_numbers(value: float | None, sign: bool, expected: str) -> None:
    assert number(value, sign=sign) == expected


def test_intervals() -> None:
    assert span((-0.01, 0.02), 2, sign=True) == f"{MINUS}0.01 to +0.02"
    assert span(None) == "\N{EN DASH}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (16, "16"), (0.125, "0.125"), (1e-4, "1e-4"), (2.5e-5, "2.5e-5"), (1e-3, "1e-3")],
)
def test_settings_are_written_as_on_the_command_line(value: float, expected: str) -> None:
    assert compact(value) == expected


def test_durations() -> None:
    assert [duration(seconds) for seconds in (5, 90, 5400)] == ["5.0 s", "1.5 min", "1.5 h"]


def test_csv_files_hold_all_records_of_all_groups(tmp_path: Path) -> None:
    columns = [Column("name", "a"), Column("never", "c", optional=True)]
    first = Table("t", "", "", columns, [], unseen=[{"a": "x", "b": 1 / 3, "c": None}])
    second = Table("t", "", "", columns, [{"a": "y", "c": None, "d_interval": (0.5, 1 / 3)}])
    third = Table("t", "", "", columns, [{"a": "z", "c": None, "d_interval": None}])
    write_tables([("one", first), ("two", second), ("two", third)], tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"group": "one", "a": "x", "b": "0.333333", "c": "", "d_low": "", "d_high": ""},
            {"group": "two", "a": "y", "b": "", "c": "", "d_low": "0.5", "d_high": "0.333333"},
            {"group": "two", "a": "z", "b": "", "c": "", "d_low": "", "d_high": ""},
        ]
    assert first.rows == []
    assert second.rows == [["y"]]


def test_names_in_csv_files_are_no_formulas(tmp_path: Path) -> None:
    records = [{"tag": "=HYPERLINK(1)", "gain": -0.5}, {"tag": "-2+3", "gain": -1e-3}]
    write_tables([("@all", Table("t", "", "", [Column("tag", "tag")], records))], tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.reader(file))[1:] == [
            ["'@all", "'=HYPERLINK(1)", "-0.5"],
            ["'@all", "'-2+3", "-0.001"],
        ]


def test_columns_have_names_of_their_own() -> None:
    columns = [
        Column("tag", "tag"),
        *ROC,
        Column("PR-AUC", "pr_auc", optional=True),
        Column("95 % interval", "pr_auc_interval", span),
    ]
    record = {"tag": "rock", "roc_auc": 0.9, "roc_auc_interval": None, "pr_auc": 0.5, "pr_auc_interval": None}
    heads = ["tag", "ROC-AUC", "95 % interval\nof ROC-AUC", "PR-AUC", "95 % interval\nof PR-AUC"]
    assert Table("t", "", "", columns, [record]).heads == heads
    assert Table("t", "", "", columns[:3], [record]).heads == ["tag", "ROC-AUC", "95 % interval"]


def test_the_best_of_a_column_is_what_looks_best() -> None:
    """Two that are alike to a reader are both marked; what is not known is no candidate."""
    scores = [0.90004, 0.90001, 0.8, None, float("nan")]
    records = [{"a": "x", "roc_auc": score, "seconds": score} for score in scores]
    columns = [Column("a", "a"), ROC[0], Column("seconds", "seconds", number)]
    table = Table("t", "", "", columns, records, highest=("roc_auc",), lowest=("seconds",))
    assert [row[1].mark for row in table.cells] == ["highest", "highest", "", "", ""]
    assert [row[2].mark for row in table.cells] == ["", "", "lowest", "", ""]
    assert [row[1].place for row in table.cells[:4]] == scores[:4]
    assert [row[0].place for row in table.cells] == [None] * 5
    alone = Table("t", "", "", columns, records[:1], highest=("roc_auc",))
    assert alone.cells[0][1].mark == ""
    assert not any(cell.mark for row in Table("t", "", "", columns, records).cells for cell in row)


def test_an_interval_is_sorted_by_where_it_begins() -> None:
    table = Table("t", "", "", [ROC[1]], [{"roc_auc_interval": ends} for ends in ((0.8, 0.9), None)])
    assert [row[0].place for row in table.cells] == [0.8, None]
