"""``samplecnn runs``: what was trained, is being trained or has stopped, and how well it does."""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplecnn.cli.common import RUNS, named_run
from samplecnn.cli.report import print_rows
from samplecnn.errors import UserError
from samplecnn.text import printable

if TYPE_CHECKING:
    from samplecnn.runs.listing import Entry

DRAWS = 1000  # of the bootstrap, as in a report
OPENING = 5  # seconds
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
    runs.add_argument(
        "--intervals", action="store_true", help="compute the 95 %% interval of each AUC, as a report does"
    )
    runs.add_argument("--open", type=named_run, metavar="RUN", help="show the folder of this run")
    runs.add_argument("--web", action="store_true", help="with --open: its page in Weights & Biases")
    runs.set_defaults(command=run_runs)


def column_and_value(text: str) -> tuple[str, str]:
    """Read ``COLUMN=VALUE``, as argparse's ``type``."""
    column, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not COLUMN=VALUE, such as network=se")
    return column, value


def run_runs(options: argparse.Namespace) -> int:
    """Print the runs, or show one."""
    from samplecnn.runs.folder import web_page
    from samplecnn.runs.listing import FINISHED, entries, filtered, ordered

    if options.open is not None:
        if not options.open.is_dir():
            raise UserError(f"there is no run {options.open}: `samplecnn runs` lists them")
        show(web_page(options.open) if options.web else str(options.open.resolve()))
        return 0
    if options.web:
        raise UserError("--web is of one run: say --open RUN --web")
    found = list(entries(options.folder, run_name))
    for column, value in options.only:
        found = filtered(found, column, value)
    if options.intervals:
        found = [
            with_interval(entry, options.folder) if entry.state == FINISHED else entry for entry in found
        ]
    if options.sort:
        found = ordered(found, options.sort)
    if options.json:
        for entry in found:
            print(json.dumps(asdict(entry)))
    elif found:
        print_table(found)
    else:
        print(f"no such run below {options.folder}")
    for entry in found:
        if entry.problem:
            print(f"samplecnn runs: {printable(entry.run)}: {printable(entry.problem)}", file=sys.stderr)
    return 0


def with_interval(entry: "Entry", folder: Path) -> "Entry":
    """Return what is known of a finished run below a folder, with an interval where it has predictions."""
    from samplecnn.analysis.statistics import results_with_intervals

    shortened = folder.is_relative_to(RUNS) and entry.run != str(RUNS)  # as `run_name` does it
    try:
        test = results_with_intervals(RUNS / entry.run if shortened else Path(entry.run), draws=DRAWS).test
    except UserError as error:
        return replace(entry, problem=str(error))
    return replace(entry, interval=test.roc_auc_interval)


def run_name(run: Path) -> str:
    """Return the name by which other commands find a run: its path, below ``runs`` without that."""
    return str(run.relative_to(RUNS) if run.is_relative_to(RUNS) and run != RUNS else run)


def show(place: str) -> None:
    """Print where a folder or page is, and open it where there is a desktop."""
    print(place, flush=True)
    mac = sys.platform == "darwin"
    opener = shutil.which("open" if mac else "xdg-open")
    if opener and (mac or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        quiet = subprocess.DEVNULL
        shown = subprocess.Popen(
            [opener, place], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
        )
        with contextlib.suppress(subprocess.TimeoutExpired):  # some openers stay
            shown.wait(OPENING)


def print_table(found: "list[Entry]") -> None:
    """Print a row per run; names are whole, to be copied."""
    shown = [column for column in SHOWN if column != "recipe" or any(entry.recipe for entry in found)]
    numbers = ("width", "seed", "auc", "epochs", "seconds")
    print_rows(
        ["train time" if column == "seconds" else column for column in shown],
        [[cell(entry, column) for column in shown] for entry in found],
        left=[index for index, column in enumerate(shown) if column not in numbers],
    )


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
