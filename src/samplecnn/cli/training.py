"""``samplecnn train`` and ``samplecnn prepare``: Hydra reads all that follows them."""

import argparse
import sys
from typing import Any, NoReturn

from samplecnn.cli.common import find_own_modules
from samplecnn.overrides import command

HELP = {
    "train": "train and test a network, or a grid of them; its --help explains every key",
    "prepare": "make the store of a data set: its audio decoded, with all annotations",
}


def add_commands(commands: Any) -> None:
    """Add the commands to the parser."""
    for name, text in HELP.items():
        # No argument begins an option of argparse's.
        parser = commands.add_parser(name, help=text, add_help=False, prefix_chars="\0")
        parser.add_argument("arguments", nargs="*")
        parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> NoReturn:
    """Have Hydra read the arguments and do what they say; ends with SystemExit, as Hydra does."""
    sys.argv = [command(options.name), *options.arguments]
    find_own_modules()
    if options.name == "train":
        from samplecnn.cli.train import main
    else:
        from samplecnn.cli.prepare import main
    sys.exit(main())
