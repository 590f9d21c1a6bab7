"""The ``samplecnn`` command; each file beside this one holds a group of its subcommands."""

import argparse
import io
import os
import sys
from collections.abc import Sequence

from samplecnn import __version__
from samplecnn.cli import (
    data,
    doctor,
    embed,
    evaluate,
    excitation,
    models,
    probe,
    published,
    report,
    runs,
    serve,
    tag,
    thresholds,
    training,
    use,
)
from samplecnn.cli.help import explain
from samplecnn.errors import UserError
from samplecnn.text import lines
from samplecnn.threads import wait_without_spinning

TRAINING = ("hydra", "lightning_fabric", "omegaconf", "pytorch_lightning", "wandb")  # the extra "train"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 where something failed, 2 for a wrong command line.

    ``samplecnn tag`` and ``embed`` have 3 too, where some files could not be read. Without arguments the
    commands are listed.
    """
    commands = parser()
    options = commands.parse_args(arguments)
    if options.name is None:
        commands.print_help()
        return 0
    wait_without_spinning()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files can be any bytes
    try:
        return int(options.command(options))
    except BrokenPipeError:  # `| head` has seen enough; nothing is left for the interpreter to flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (UserError, OSError) as error:
        print(f"samplecnn {options.name}: {lines(error)}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (library := str(error.name).partition(".")[0]) not in TRAINING:
            raise
        needed = f'{library} is not installed: pip install "samplecnn[train]"'
        print(f"samplecnn {options.name}: {needed}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="samplecnn",
        description="Music auto-tagging from raw waveforms with sample-level CNNs.",
        epilog="`samplecnn COMMAND --help` says more, with examples; docs are in README.md.",
    )
    top.add_argument("--version", action="version", version=f"samplecnn {__version__}")
    commands = top.add_subparsers(dest="name", metavar="COMMAND")
    listed = (
        *(training, tag, embed, runs, evaluate, thresholds, probe, data, excitation, report),
        *(models, published, serve, use, doctor),
    )
    for module in listed:
        module.add_commands(commands)
    for name, command in commands.choices.items():
        explain(name, command)
    return top
