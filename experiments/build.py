"""Rebuild the tables in `experiments/*/README.md` from the figures beside them: none is typed by hand.

    python experiments/build.py                          # `make experiments`
    python experiments/build.py keep RUN... --to DIR     # what a page needs of a run: a few small files

A table stands between `<!-- kind file -->` and `<!-- end -->`; the kind is one of `TABLES` below, its file or
folder relative to the page. `report:NAME` is a table of `samplecnn report` (or its findings, or what it
misses), which writes its own page and CSV files into `report/` beside.
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
from samplecnn.analysis.report import Report, make_report
from samplecnn.analysis.statistics import bootstrap, score_interval
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


def report_part(name: str) -> Callable[[Path], str]:
    """Return what shows a table of a report on runs, its findings, or what is missing."""

    def show(folder: Path) -> str:
        report = reported(folder)
        if name in ("findings", "missing"):
            findings = [sentence for group in report.groups for sentence in group.findings]
            sentences = report.missing if name == "missing" else findings
            return "".join(f"- {sentence}\n" for sentence in sentences)
        found = [content for _, content in report.tables if content.name == name]
        if not found:
            raise ValueError(f"{folder}: the report has no table {name!r}")
        head = [column.header for column in found[0].columns]
        return table(head, found[0].rows) + f"\n{found[0].note}\n"

    return show


def measured(path: Path) -> str:
    """A table as a benchmark wrote it."""
    return path.read_text(encoding="utf-8")


def runs(folder: Path) -> str:
    """Macro ROC-AUC of variants that differ in one thing: folders called VARIANT-SEED, the first the base."""
    variants: dict[str, list[Run]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: _order(path.name)):
        variants.setdefault(path.name.rpartition("-")[0], []).append(read_run(path))
    base, *_ = variants.values()
    predictions = [run.predictions for found in variants.values() for run in found]
    known = [p for p in predictions if p is not None]
    if len(known) < len(predictions) or any(p.clip_ids != known[0].clip_ids for p in known):
        raise ValueError(f"{folder}: all runs need predictions of the same clips")
    scored = bootstrap(known[0].labels, [p.probabilities for p in known]).roc_auc
    rows: Rows = []
    first, start = None, 0
    for name, found in variants.items():
        estimate = scored.macro(range(start, start + len(found)))
        start += len(found)
        first = first or estimate
        ends = score_interval(estimate)
        apart = difference_interval(estimate - first)
        between = f" ({apart[0]:+.4f} to {apart[1]:+.4f})" if apart else ""
        values = [run.results.test.roc_auc for run in found]
        rows.append(
            [
                name,
                ", ".join(f"{value:.4f}" for value in values),
                f"{estimate.value:.4f}",
                f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else "",
                "" if found is base else f"{estimate.value - first.value:+.4f}{between}",
            ]
        )
    head = ["", "test ROC-AUC of each seed", "mean", "95 % interval", "minus the first"]
    return table(head, rows)


def losses(folder: Path) -> str:
    """Training loss of each epoch, mean and range over the seeds of each variant."""
    variants: dict[str, list[list[float]]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: _order(path.name)):
        curve = [row["train_loss"] for row in read_run(path).epochs]
        variants.setdefault(path.name.rpartition("-")[0], []).append(curve)
    rows = []
    for name, curves in variants.items():
        values = np.array(curves)
        rows.append(
            [name]
            + [
                f"{mean:.3f} ({low:.3f} to {high:.3f})"
                for mean, low, high in zip(values.mean(0), values.min(0), values.max(0), strict=True)
            ]
        )
    return table(["", *(f"epoch {number}" for number in range(1, values.shape[1] + 1))], rows)


def _order(name: str) -> tuple[bool, list[int], str]:
    """Put plain variants first, and numbers in their order."""
    return not name.startswith("plain-fp32"), [int(n) for n in re.findall(r"\d+", name)][:1], name


TABLES: dict[str, Callable[[Path], str]] = {
    "cells": cells,
    "losses": losses,
    "measured": measured,
    "runs": runs,
}


def build(page: Path) -> bool:
    """Put the tables of a page anew; say whether it changed."""

    def fill(match: re.Match[str]) -> str:
        kind, name = match[2], match[3]
        first, _, part = kind.partition(":")
        if first == "report":
            show = report_part(part)
        elif kind in TABLES:
            show = TABLES[kind]
        else:
            raise ValueError(f"{page}: no table {kind!r}; there are report:NAME, {', '.join(TABLES)}")
        return f"{match[1]}\n{show(page.parent / name)}\n{match[4]}"

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
