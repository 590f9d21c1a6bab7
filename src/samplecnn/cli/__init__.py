"""The ``samplecnn`` command; each file beside this one holds a group of its subcommands."""

import argparse
import sys
from collections.abc import Sequence

from samplecnn.cli import data, excitation, models, report, tagging


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 where something failed, 2 for a wrong command line."""
    options = parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (ValueError, OSError) as error:
        print(f"samplecnn {options.name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="samplecnn", description="Music auto-tagging from raw waveforms with sample-level CNNs."
    )
    commands = top.add_subparsers(required=True, dest="name", metavar="COMMAND")
    for module in (tagging, data, excitation, report, models):
        module.add_commands(commands)
    return top
