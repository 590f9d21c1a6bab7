"""What several commands share: models named on the command line."""

import argparse
import csv
import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from samplecnn.errors import UserError

if TYPE_CHECKING:
    from samplecnn.inference.tagger import Tagger

RUNS = Path("runs")
UNSPEAKING = re.compile(r"\d\d-\d\d-\d\d|\d+")  # names of run folders: a time of day, a cell of a sweep


def own_class_options() -> argparse.ArgumentParser:
    """Return a parent parser with ``--block`` and ``--network``."""
    own = argparse.ArgumentParser(add_help=False)
    for kind, ours in (("block", "the paper's six"), ("network", "this project's")):
        own.add_argument(
            f"--{kind}",
            metavar="NAME=MODULE.CLASS",
            action="append",
            default=[],
            help=f"the class of a {kind} that is not one of {ours}",
        )
    return own


def named_run(text: str) -> Path:
    """Read a run as argparse's ``type``: a path, or the end of one below ``runs`` if no other ends so."""
    from samplecnn.runs.listing import find

    try:
        return find(Path(text), RUNS)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def default_model() -> Path:
    """Return the model that `samplecnn use` has chosen, else that of the newest finished run below ``runs``.

    Raises UserError where there is neither.
    """
    return chosen_model() or newest_run(RUNS)


def config_file() -> Path:
    """Return where the choice of `samplecnn use` is kept."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".config") / "samplecnn" / "model.json"


def chosen_model() -> Path | None:
    """Return the model that `samplecnn use` has chosen; UserError where it is gone."""
    from samplecnn.runs.untrusted import read_json

    file = config_file()
    if not file.is_file():
        return None
    content = read_json(file)
    model = content.get("model") if isinstance(content, dict) else None
    change = "`samplecnn use MODEL` chooses another, `samplecnn use --forget` none"
    if not isinstance(model, str) or not model:
        raise UserError(f"{file} names no model: {change}")
    if Path(model).is_absolute() and not Path(model).exists():  # else it is a name
        raise UserError(f"{model}, which `samplecnn use` has chosen, is not there any more: {change}")
    return Path(model)


def newest_run(folder: Path) -> Path:
    """Return the run folder below ``folder`` that finished last; UserError if there is none."""
    finished = [path.parent for path in folder.rglob("results.json")]
    trained = [run for run in finished if (run / "checkpoints" / "best.ckpt").is_file()]
    if not trained:
        raise UserError(
            f"there is no model: none was chosen, and no finished run below {folder.resolve()}.\n"
            "  samplecnn pull mtat-musicnn  fetches published weights (samplecnn models lists them)\n"
            "  samplecnn import FILE DIR    makes a model of published weights that you have\n"
            "  samplecnn train              trains one\n"
            "  samplecnn use MODEL          chooses one that is elsewhere: a run, checkpoint, bundle or name"
        )
    return max(trained, key=lambda run: (run / "results.json").stat().st_mtime)


def model_name(path: Path, block: str) -> str:
    """Return what a model is called: its folder, with date and block where that is a time or a number."""
    if not path.exists():
        return str(path)  # of published weights, or on the Hub
    path = path.resolve()
    if path.is_file() and path.parent.name == "checkpoints":
        path = path.parent.parent
    elif path.is_file() and path.suffix == ".safetensors":
        path = path.parent
    name = path.name if path.is_dir() else path.stem
    if UNSPEAKING.fullmatch(name):
        return f"{path.parent.name}/{name} {block}"
    return name


def load_tagger(path: Path, options: argparse.Namespace, *, precision: str = "auto") -> "Tagger":
    """Return the tagger in a run folder or checkpoint, with the user's own classes."""
    from samplecnn.inference.tagger import load

    warn_unfinished(path)
    return load(path, precision=precision, **own_classes(options))


def warn_unfinished(path: Path) -> bool:
    """Say on stderr that a model is that of a run which has not finished; return whether it is."""
    from samplecnn.runs.folder import unfinished

    if sentence := unfinished(path):
        print(f"samplecnn: {sentence}", file=sys.stderr)
    return sentence is not None


def own_classes(options: argparse.Namespace) -> dict[str, Any]:
    """Return the classes of ``--block`` and ``--network`` as the arguments ``blocks`` and ``networks``."""
    return {
        "blocks": named_classes("--block", options.block),
        "networks": named_classes("--network", options.network),
    }


def named_classes(option: str, named: Sequence[str]) -> dict[str, Any]:
    """Return classes by the names that an option gives them; UserError for what is none."""
    classes: dict[str, Any] = {}
    for text in named:
        name, separator, target = text.partition("=")
        if not separator or "." not in target:
            raise UserError(f"{option} {text}: write NAME=MODULE.CLASS, such as mine=my_module.MyBlock")
        find_own_modules()
        try:
            classes[name] = resolve_name(target)
        except Exception as error:  # an import may raise anything
            raise UserError(f"{option} {text}: {target} cannot be imported: {error}") from error
        if not isinstance(classes[name], type):
            raise UserError(f"{option} {text}: {target} is a {type(classes[name]).__name__}, not a class")
    return classes


def find_own_modules() -> None:
    """Have Python find the user's own modules in the current folder."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)


def comma_separated(text: str) -> list[str]:
    """Read names between commas; one that has a comma of its own stands in double quotes."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]


def share(text: str) -> float:
    """Read a number from 0 to 1, as argparse's ``type``."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def whole(text: str, least: int = 0, most: int | None = None) -> int:
    """Read a whole number within bounds, as argparse's ``type``."""
    if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {bounds}")
    return int(text)


positive = partial(whole, least=1)
