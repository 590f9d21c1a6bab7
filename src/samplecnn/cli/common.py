"""What several commands share: models named on the command line."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplecnn.errors import UserError

if TYPE_CHECKING:
    from samplecnn.inference.tagger import Tagger

RUNS = Path("runs")


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


def newest_run(folder: Path) -> Path:
    """Return the run folder below ``folder`` that finished last; UserError if there is none."""
    finished = [path.parent for path in folder.rglob("results.json")]
    trained = [run for run in finished if (run / "checkpoints" / "best.ckpt").is_file()]
    if not trained:
        raise UserError(
            f"no finished run below {folder.resolve()}: name a model, or train one first. `samplecnn models` "
            "lists published ones; `samplecnn pull mtat-musicnn` fetches one, for --model mtat-musicnn"
        )
    return max(trained, key=lambda run: (run / "results.json").stat().st_mtime)


def load_tagger(path: Path, options: argparse.Namespace) -> "Tagger":
    """Return the tagger in a run folder or checkpoint, with the user's own classes."""
    from samplecnn.inference.tagger import load

    warn_unfinished(path)
    return load(path, **own_classes(options))


def warn_unfinished(path: Path) -> bool:
    """Say on stderr that a model is that of a run which has not finished; return whether it is."""
    from samplecnn.runs.folder import unfinished

    if sentence := unfinished(path):
        print(f"samplecnn: {sentence}", file=sys.stderr)
    return sentence is not None


def own_classes(options: argparse.Namespace) -> dict[str, Any]:
    """Return the classes of ``--block`` and ``--network`` as the arguments ``blocks`` and ``networks``."""
    return {"blocks": _classes("--block", options.block), "networks": _classes("--network", options.network)}


def _classes(option: str, named: Sequence[str]) -> dict[str, Any]:
    classes: dict[str, Any] = {}
    for text in named:
        from hydra.utils import get_class

        name, separator, target = text.partition("=")
        if not separator or "." not in target:
            raise UserError(f"{option} {text}: write NAME=MODULE.CLASS, such as mine=my_module.MyBlock")
        sys.path.insert(0, "")  # as `python train.py` finds it: beside where one stands
        try:
            classes[name] = get_class(target)
        except Exception as error:  # Hydra wraps whatever an import raises
            raise UserError(f"{option} {text}: {target} cannot be imported: {error}") from error
    return classes


def positive(text: str) -> int:
    """Read a whole number of at least 1, as argparse's ``type``."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
