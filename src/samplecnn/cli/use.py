"""``samplecnn use``: the model of commands that name none."""

import argparse
import json
from pathlib import Path
from typing import Any

from samplecnn.cli.common import RUNS, chosen_model, config_file, named_run, newest_run
from samplecnn.errors import UserError
from samplecnn.text import printable


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    use = commands.add_parser("use", help="choose the model of commands that name none; alone, show it")
    use.add_argument(
        "model",
        nargs="?",
        type=named_run,
        metavar="MODEL",
        help="run folder, checkpoint, bundle or name",
    )
    use.add_argument("--forget", action="store_true", help="take the newest finished run again")
    use.set_defaults(command=run_use)


def run_use(options: argparse.Namespace) -> int:
    """Choose a model, forget the choice, or print what is chosen."""
    file = config_file()
    if options.forget:
        if options.model:
            raise UserError("--forget takes no model")
        file.unlink(missing_ok=True)
    if options.model:
        choose(options.model, file)
    if model := chosen_model():
        print(f"{printable(str(model))} (chosen in {file})")
    else:
        print(f"{printable(str(newest_run(RUNS)))} (the newest finished run: none was chosen)")
    return 0


def choose(model: Path, file: Path) -> None:
    """Write the choice of a model down, if it can be read as one."""
    from samplecnn.files import write
    from samplecnn.inference.locate import local
    from samplecnn.runs.folder import read_description

    read_description(local(model))
    name = str(model.absolute() if model.exists() else model)  # of published weights, or on the Hub
    file.parent.mkdir(parents=True, exist_ok=True)
    write(file, json.dumps({"model": name}) + "\n")
