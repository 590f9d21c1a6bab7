"""``samplecnn runs``: what was trained, is being trained or has stopped, and how well it does."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplecnn.cli.common import RUNS
from samplecnn.text import printable

if TYPE_CHECKING:
    from samplecnn.runs.listing import Entry

SHOWN = (
    *("run", "state", "network", "multi", "width", "recipe", "seed", "data", "split", "auc"),
    *("epochs", "seconds"),
)


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    runs = commands.add_parser("runs", help="list the runs below a folder: what they are, how well they do")
    runs.add_argument(
        "folder", nargs="?", type=Path, default=RUNS, metavar="FOLDER", help=f"(default: {RUNS})"
    )
    runs.add_argument("--sort", metavar="COLUMN", help="such as auc or seconds (default: by folder)")
    runs.add_argument(
        "--only",
        type=column_and_value,
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="such as network=se or state=finished; several narrow it down",
    )
    runs.add_argument("--json", action="store_true", help="a JSON object per line, with all there is")
    runs.set_defaults(command=run_runs)


def column_and_value(text: str) -> tuple[str, str]:
    """Read ``COLUMN=VALUE``, as argparse's ``type``."""
    column, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not COLUMN=VALUE, such as network=se")
    return column, value


def run_runs(options: argparse.Namespace) -> int:
    """Print the runs."""
    from samplecnn.runs.listing import entries, filtered, ordered

    found = list(entries(options.folder))
    for column, value in options.only:
        found = filtered(found, column, value)
    if options.sort:
        found = ordered(found, options.sort)
    if options.json:
        for entry in found:
            print(json.dumps(entry.as_dict()))
    elif found:
        print_table(found)
    else:
        print(f"no such run below {options.folder}")
    for entry in found:
        if entry.problem:
            print(f"samplecnn runs: {printable(entry.run)}: {printable(entry.problem)}", file=sys.stderr)
    return 0


def print_table(found: "list[Entry]") -> None:
    """Print a row per run."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    shown = [column for column in SHOWN if column != "recipe" or any(entry.recipe for entry in found)]
    for column in shown:
        right = column in ("width", "seed", "auc", "epochs", "seconds")
        table.add_column(
            "train time" if column == "seconds" else column, justify="right" if right else "left"
        )
    for entry in found:
        table.add_row(*(Text(printable(cell(entry, column))) for column in shown))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def cell(entry: "Entry", column: str) -> str:
    """Return a value as it is shown."""
    from samplecnn.inference.timeline import clock
    from samplecnn.runs.listing import written

    value = getattr(entry, column)
    if value is None:
        return ""
    if column == "auc":
        interval = "" if entry.interval is None else " [{:.4f}, {:.4f}]".format(*entry.interval)
        return f"{value:.4f}{interval}"
    return clock(value) if column == "seconds" else written(value)
