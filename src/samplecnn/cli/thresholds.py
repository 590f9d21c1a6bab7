"""``samplecnn thresholds``: from which probability on a recording has a tag."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplecnn.cli.common import named_run, own_class_options, own_classes, share, warn_unfinished
from samplecnn.cli.report import print_rows
from samplecnn.text import printable

if TYPE_CHECKING:
    from samplecnn.runs.thresholds import Thresholds


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    thresholds = commands.add_parser(
        "thresholds",
        parents=[own_class_options()],
        help="choose a threshold for each tag of a run on its validation clips, for `tag --decide`",
        description="Choose for each tag of a run the probability from which on a recording has it, by the "
        "validation clips (never the test clips), and keep them in the run folder: `tag --decide` and "
        "`report` take them from there, and `export` into a bundle.",
    )
    thresholds.add_argument("run", type=named_run, metavar="RUN")
    thresholds.add_argument(
        "--precision",
        type=share,
        metavar="P",
        help="that is wanted of each tag, 0 to 1: the threshold with the highest recall (default: the one "
        "with the highest F1)",
    )
    thresholds.add_argument("--data-root", type=Path, help="where the stores are, if not where they were")
    thresholds.set_defaults(command=run_thresholds)


def run_thresholds(options: argparse.Namespace) -> int:
    """Choose thresholds, print them and write them into the run folder."""
    from samplecnn.runs.thresholds import FILE, write_thresholds
    from samplecnn.training.thresholds import choose_thresholds

    warn_unfinished(options.run)
    chosen = choose_thresholds(
        options.run, precision=options.precision, data_root=options.data_root, **own_classes(options)
    )
    write_thresholds(options.run, chosen)
    print_thresholds(chosen)
    if never := [tag for tag, of_tag in chosen.per_tag.items() if of_tag.threshold is None]:
        why = "have no threshold that reaches it" if options.precision else "have no clip there"
        named = printable(", ".join(never))
        print(f"samplecnn thresholds: never given, since they {why}: {named}", file=sys.stderr)
    print(options.run / FILE)
    return 0


def print_thresholds(chosen: "Thresholds") -> None:
    """Print a row per tag, by its threshold's F1."""
    wanted = "the highest F1"
    if chosen.wanted_precision is not None:
        wanted = f"the highest recall at a precision of {chosen.wanted_precision:g}"
    rows = []
    for tag, of_tag in sorted(chosen.per_tag.items(), key=lambda item: -(item[1].f1 or 0)):
        values = (of_tag.threshold, of_tag.precision, of_tag.recall, of_tag.f1)
        cells = ("none" if value is None else f"{value:.3f}" for value in values)
        rows.append([tag, *cells, str(of_tag.positives)])
    heads = ("tag", "threshold", "precision", "recall", "F1", "positive clips")
    print_rows(heads, rows, title=f"{wanted}, on {chosen.clips:,} validation clips")
