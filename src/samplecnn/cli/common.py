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


def own_block_option() -> argparse.ArgumentParser:
    """Return a parent parser with ``--block``."""
    own_block = argparse.ArgumentParser(add_help=False)
    own_block.add_argument(
        "--block",
        metavar="NAME=MODULE.CLASS",
        action="append",
        default=[],
        help="the class of a block that is not one of the paper's six",
    )
    return own_block


def newest_run(folder: Path) -> Path:
    """Return the run folder below ``folder`` that finished last; UserError if there is none."""
    finished = [path.parent for path in folder.rglob("results.json")]
    trained = [run for run in finished if (run / "checkpoints" / "best.ckpt").is_file()]
    if not trained:
        raise UserError(f"no finished run below {folder.resolve()}: name a model, or train one first")
    return max(trained, key=lambda run: (run / "results.json").stat().st_mtime)


def load_tagger(path: Path, blocks: Sequence[str]) -> "Tagger":
    """Return the tagger in a run folder or checkpoint, with the classes of the user's own blocks."""
    from samplecnn.inference.tagger import load

    warn_unfinished(path)
    return load(path, blocks=own_blocks(blocks))


def warn_unfinished(path: Path) -> bool:
    """Say on stderr that a model is that of a run which has not finished; return whether it is."""
    from samplecnn.runs.folder import unfinished

    if sentence := unfinished(path):
        print(f"samplecnn: {sentence}", file=sys.stderr)
    return sentence is not None


def own_blocks(named: Sequence[str]) -> dict[str, Any]:
    """Return the classes that ``NAME=MODULE.CLASS`` of the command line name."""
    blocks: dict[str, Any] = {}
    for text in named:
        from hydra.utils import get_class

        name, separator, target = text.partition("=")
        if not separator or "." not in target:
            raise UserError(f"--block {text}: write NAME=MODULE.CLASS, such as mine=my_module.MyBlock")
        sys.path.insert(0, "")  # as `python train.py` finds it: beside where one stands
        try:
            blocks[name] = get_class(target)
        except Exception as error:  # Hydra wraps whatever an import raises
            raise UserError(f"--block {text}: {target} cannot be imported: {error}") from error
    return blocks


def positive(text: str) -> int:
    """Read a whole number of at least 1, as argparse's ``type``."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
