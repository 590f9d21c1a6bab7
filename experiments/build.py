"""Rebuild the tables in `experiments/*/README.md` from the figures beside them: none is typed by hand.

    python experiments/build.py                          # `make experiments`
    python experiments/build.py keep RUN... --to DIR     # what a page needs of a run: a few small files

A table stands between `<!-- kind file -->` and `<!-- end -->`; the kind is one of `TABLES` below, its file or
folder relative to the page. `report:NAME` is a table of `samplecnn report` (or its findings), which writes
its own page and CSV files into `report/` beside.
"""

import argparse
import csv
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from samplecnn.analysis.comparison import difference_interval
from samplecnn.analysis.grid import draw
from samplecnn.analysis.report import Report, make_report
from samplecnn.analysis.statistics import score_interval
from samplecnn.runs.run import Run, read_run

HERE = Path(__file__).parent
DRAWS = 2000  # of the bootstrap
KEPT = ("results.json", "metrics.csv", "predictions.npz")
MARK = re.compile(r"(<!-- (\S+) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
# What a run's configuration says of the machine it ran on.
MACHINE = {"data.raw": None, "data.root": "data", "data.catalog.raw": None, "resume": None}

Rows = list[list[str]]


def keep(runs: Sequence[Path], to: Path) -> None:
    """Copy the small files of finished runs, their configuration without this machine's paths."""
    for run in runs:
        target = to / run.name
        target.mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            if name != "metrics.csv" or (run / name).is_file():  # a probe has no epochs
                shutil.copy(run / name, target / name)
        config = OmegaConf.load(run / "config.yaml")
        for key, value in MACHINE.items():
            if OmegaConf.select(config, key) is not None:
                OmegaConf.update(config, key, value)
        if (init := OmegaConf.select(config, "init")) is not None:
            OmegaConf.update(config, "init", Path(init).name)
        OmegaConf.save(config, target / "config.yaml")


def table(head: Sequence[str], rows: Rows) -> str:
    """Lay out a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cells(path: Path) -> str:
    """A small CSV file as it is, numbers to four digits."""
    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    return table(head, [[f"{float(cell):.4g}" if "." in cell else cell for cell in row] for row in rows])


@cache
def reported(folder: Path) -> Report:
    """The report on kept runs, its page and tables written beside them."""
    return make_report([folder], folder.parent / "report", draws=DRAWS)


def report_part(name: str, folder: Path) -> str:
    """A table of a report on runs, or its findings."""
    report = reported(folder)
    if name == "findings":
        return "".join(f"- {sentence}\n" for group in report.groups for sentence in group.findings)
    found = [content for _, content in report.tables if content.name == name]
    if not found:
        raise ValueError(f"{folder}: the report has no table {name!r}")
    head = [column.header for column in found[0].columns]
    return table(head, found[0].rows) + f"\n{found[0].note}\n"


def _variants(folder: Path) -> dict[str, list[Run]]:
    """Return the runs in folders called VARIANT-SEED, by variant."""
    found: dict[str, list[Run]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: _order(path.name)):
        found.setdefault(path.name.rpartition("-")[0], []).append(read_run(path))
    return found


def runs(folder: Path) -> str:
    """Macro ROC-AUC of variants that differ in one thing, the first the base."""
    variants = _variants(folder)
    drawn = draw([run for found in variants.values() for run in found], draws=1000, seed=0)
    rows: Rows = []
    first = None
    for name, found in variants.items():
        models = drawn.models(found) if drawn else None
        if drawn is None or models is None:
            raise ValueError(f"{folder}: all runs need predictions")
        estimate = drawn.sampled.roc_auc.macro(models)
        first = first or estimate
        ends, apart = score_interval(estimate), difference_interval(estimate - first)
        between = f" ({apart[0]:+.4f} to {apart[1]:+.4f})" if apart else ""
        rows.append(
            [
                name,
                ", ".join(f"{run.results.test.roc_auc:.4f}" for run in found),
                f"{estimate.value:.4f}",
                f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else "",
                f"{estimate.value - first.value:+.4f}{between}" if rows else "",
            ]
        )
    head = ["", "test ROC-AUC of each seed", "mean", "95 % interval", "minus the first"]
    return table(head, rows)


def losses(folder: Path) -> str:
    """Training loss of each epoch, mean and range over the seeds of each variant."""
    rows = []
    for name, found in _variants(folder).items():
        values = np.array([[row["train_loss"] for row in run.epochs] for run in found])
        spans = zip(values.mean(0), values.min(0), values.max(0), strict=True)
        rows.append([name, *(f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in spans)])
    return table(["", *(f"epoch {number}" for number in range(1, len(rows[0])))], rows)


def _order(name: str) -> tuple[bool, list[int], str]:
    """Put plain variants first, and numbers in their order."""
    return not name.startswith("plain-fp32"), [int(n) for n in re.findall(r"\d+", name)][:1], name


TABLES: dict[str, Callable[[Path], str]] = {
    "cells": cells,
    "losses": losses,
    "measured": lambda path: path.read_text(encoding="utf-8"),  # as a benchmark wrote it
    "runs": runs,
}


def build(page: Path) -> bool:
    """Put the tables of a page anew; say whether it changed."""

    def fill(match: re.Match[str]) -> str:
        kind, path = match[2], page.parent / match[3]
        if kind.startswith("report:"):
            shown = report_part(kind.removeprefix("report:"), path)
        elif kind in TABLES:
            shown = TABLES[kind](path)
        else:
            raise ValueError(f"{page}: no table {kind!r}; there are report:NAME, {', '.join(TABLES)}")
        return f"{match[1]}\n{shown}\n{match[4]}"

    before = page.read_text(encoding="utf-8")
    after = MARK.sub(fill, before)
    page.write_text(after, encoding="utf-8")
    return after != before


def main() -> None:
    """Build all pages, or keep the small files of runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command")
    keeping = commands.add_parser("keep", help="copy the small files of runs")
    keeping.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    keeping.add_argument("--to", required=True, type=Path, metavar="DIR")
    options: Any = parser.parse_args()
    try:
        if options.command == "keep":
            keep(options.runs, options.to)
            return
        for page in sorted(HERE.glob("*/README.md")):
            print(f"{page.relative_to(HERE.parent)}: {'new' if build(page) else 'as it was'}")
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
