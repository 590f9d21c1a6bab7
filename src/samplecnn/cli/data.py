"""``samplecnn data check|info|plot``."""

import argparse
from pathlib import Path
from typing import Any

from samplecnn.cli.common import positive


def add_commands(commands: Any) -> None:
    """Add ``samplecnn data check|info|plot``."""
    data = commands.add_parser("data", help="look into a prepared store")
    inside = data.add_subparsers(required=True, dest="what", metavar="check|info|plot")

    check = inside.add_parser("check", help="verify checksums, shapes and labels")
    check.add_argument("store", type=Path, metavar="STORE")
    check.set_defaults(command=run_check)

    info = inside.add_parser("info", help="counts per part of a split and per tag")
    info.add_argument("store", type=Path, metavar="STORE")
    info.add_argument("--split", help="default: the first that the store has")
    info.add_argument("--top", type=positive, metavar="N", help="most frequent tags (default: all)")
    info.set_defaults(command=run_info)

    plot = inside.add_parser("plot", help="draw the waveform and mel spectrogram of a clip")
    plot.add_argument("store", type=Path, metavar="STORE")
    plot.add_argument("clip", metavar="CLIP", help="clip id")
    plot.add_argument("--out", type=Path, metavar="FILE", help="a .png or .svg file (default: CLIP.png here)")
    plot.set_defaults(command=run_plot)


def run_check(options: argparse.Namespace) -> int:
    """Verify a store; print what is wrong with it."""
    from samplecnn.data.inspect import check

    problems = check(options.store)
    print("\n".join(problems) or f"{options.store} is sound")
    return 1 if problems else 0


def run_info(options: argparse.Namespace) -> int:
    """Print what a store holds."""
    from rich.console import Console

    from samplecnn.data.inspect import info
    from samplecnn.data.store import Store

    store = Store.open(options.store)
    Console().print(info(store, options.split or next(iter(store.splits)), options.top))
    return 0


def run_plot(options: argparse.Namespace) -> int:
    """Draw a clip of a store."""
    from samplecnn.data.inspect import plot

    out = options.out or Path(f"{Path(options.clip).name}.png")  # an id may be the path of a file
    plot(options.store, options.clip, out)
    print(out)
    return 0
