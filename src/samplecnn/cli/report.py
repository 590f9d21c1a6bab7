"""``samplecnn report``: the paper's tables and figures out of run folders."""

import argparse
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplecnn.cli.common import named_run, positive, whole
from samplecnn.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from samplecnn.analysis.report import Report
    from samplecnn.analysis.tabular import Table
    from samplecnn.runs.results import Scores

# In the terminal; all others are on the page.
PRINTED = ("table1", "differences", "recipes", "cost", "table2", "alpha", "weight_decay", "few")


def add_commands(commands: Any) -> None:
    """Add ``samplecnn report``."""
    report = commands.add_parser(
        "report", help="the paper's tables and figures from runs, with intervals: a page and CSV files"
    )
    report.add_argument(
        "runs", nargs="+", type=named_run, metavar="RUNS", help="run folders, sweeps, or folders above these"
    )
    report.add_argument("--out", type=Path, default=Path("report"), metavar="DIR", help="default: report")
    report.add_argument(
        "--only", metavar="HASH", help="of runs on several splits, those whose split hash begins so"
    )
    report.add_argument(
        "--draws", type=positive, default=1000, metavar="N", help="of the bootstrap (default: 1000)"
    )
    report.add_argument("--seed", type=whole, default=0, metavar="N", help="of the bootstrap (default: 0)")
    report.add_argument(
        "--wandb", action="store_true", help="show it in Weights & Biases too, in the group of the runs"
    )
    report.set_defaults(command=run_report)


def run_report(options: argparse.Namespace) -> int:
    """Make the report, print its main tables, and say where the page is."""
    from samplecnn.analysis.report import PAGE, make_report

    report = make_report(options.runs, options.out, draws=options.draws, seed=options.seed, only=options.only)
    print_report(report)
    if options.wandb:
        from samplecnn.training.loggers import attach_report

        attach_report(options.out, report.folders)
    print(f"\n{options.out / PAGE}")
    return 0


def print_report(report: "Report") -> None:
    """Print findings and main tables."""
    from samplecnn.analysis.tabular import Table

    console = make_console()
    console.print(report.title, style="bold")
    console.print(f"{report.subject} {report.caution}")
    for group in report.groups:
        if group.name:
            console.print(f"\n{group.name}", style="bold")
        for sentence in group.findings:
            console.print(sentence)
        contents = [content for section in group.sections for content in section.contents]
        for table in contents:
            if isinstance(table, Table) and table.name in PRINTED:
                print_table(table)
    for sentence in (*report.missing, *report.problems):
        console.print(f"- {sentence}")


def make_console() -> "Console":
    """Return a console that takes text as it is, wide where it is no terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)


def print_table(table: "Table") -> None:
    """Print one of a report's tables."""
    words = {index for index, column in enumerate(table.columns) if column.words}
    print_rows(table.heads, table.rows, left={0} | words, title=table.title)


def print_rows(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: Collection[int] = (0,),
    title: str | None = None,
    below: Sequence[str] = (),
) -> None:
    """Print a table: columns are aligned right but for those ``left``; nothing is cut.

    ``below`` is a row under a line.
    """
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=title, title_justify="left")
    for index, head in enumerate(heads):
        shown.add_column(Text(head), justify="left" if index in left else "right", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    if below:
        shown.add_section()
        shown.add_row(*map(Text, below))
    make_console().print(shown)


def aucs(scores: "Scores") -> list[str]:
    """Return ROC-AUC and PR-AUC as they are printed."""
    return ["undefined" if auc is None else f"{auc:.4f}" for auc in (scores.roc_auc, scores.pr_auc)]
