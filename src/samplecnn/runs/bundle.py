"""A model to give away: a folder in the Hugging Face Hub's layout; untrusted input.

    DIR/config.json         what the network is, its tags, thresholds, results, versions, checksum of the
                            weights
    DIR/model.safetensors   the weights, by their names in the network
    DIR/README.md           the model card
    DIR/model.onnx          the network for ONNX runtimes, where wanted; model_fp16.onnx in half the size,
                            model_int8.onnx faster on CPUs

Nothing that a file names is imported, and a link has to stay in the folder. `inference/bundle.py` writes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from samplecnn.runs import weights
from samplecnn.runs.config import RunConfig, identity
from samplecnn.runs.description import Description
from samplecnn.runs.errors import RunError
from samplecnn.runs.results import Results
from samplecnn.runs.untrusted import read_json
from samplecnn.text import is_printable, shown

FORMAT = 1
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
ONNX, ONNX_HALF, ONNX_INT8 = "model.onnx", "model_fp16.onnx", "model_int8.onnx"
FILES = (CONFIG, WEIGHTS, CARD, ONNX, ONNX_HALF, ONNX_INT8)
MAX_CONFIG = 4 << 20  # bytes; with the scores of 50 tags it takes 20 kB

MACHINE = ("accelerator", "devices")  # what a run's configuration says of the machine that it ran on


@dataclass(frozen=True)
class Bundle:
    """What the ``config.json`` of a bundle says."""

    folder: Path
    description: Description  # as in a checkpoint
    checksum: str  # SHA-256 of the weights
    config: dict[str, Any] | None  # of the run, without paths
    tested: dict[str, Any] | None  # the results of the run
    source: str  # where the weights come from, in words
    thresholds: dict[str, Any] | None = None  # of the tags: see `samplecnn/runs/thresholds.py`

    def weights(self, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights; RunError unless they are sound and of the shapes and types of ``expected``."""
        return weights.read(own_file(self.folder, WEIGHTS), expected, self.checksum)

    def results(self) -> Results | None:
        """Return the results of the run; RunError if they are not sound."""
        return None if self.tested is None else Results.read(self.tested, f"{self.folder / CONFIG}: results")

    def run_config(self) -> RunConfig:
        """Return the configuration of the run, without what holds on its machine; RunError if it has none."""
        path = self.folder / CONFIG
        if self.config is None:
            raise RunError(
                f"{path} holds no configuration of a run ({self.source}): the model can tag, but on which "
                "data set, split and batches to test it is not known: `evaluate --store STORE` says it"
            )
        plain = {**identity(self.config), "fast": self.config.get("fast", "auto")}
        if isinstance(trainer := plain.get("trainer"), dict):
            plain["trainer"] = {key: value for key, value in trainer.items() if key not in MACHINE}
        return RunConfig.read(plain, str(path), "config.")


def is_bundle(folder: Path) -> bool:
    """Say whether a folder is meant to be a bundle, sound or not."""
    return (folder / CONFIG).is_file() or (folder / WEIGHTS).is_file()


def own_file(folder: Path, name: str) -> Path:
    """Return a file of the folder with all links followed; RunError for one that leaves it, or for none.

    In the cache of the Hugging Face Hub, a model's folder links to files of the same model beside it.
    """
    root, path = folder.resolve(), (folder / name).resolve()
    if root.parent.name == "snapshots" and (root.parent.parent / "blobs").is_dir():
        root = root.parent.parent
    if not path.is_relative_to(root):
        raise RunError(f"{folder / name} is a link that leaves its folder: to {path}")
    if not path.is_file():
        raise RunError(f"{folder} is not a complete bundle: it has no {name}")
    return path


def read_bundle(folder: Path) -> Bundle:
    """Read the ``config.json`` of a bundle; RunError for anything that is not one."""
    path = own_file(folder, CONFIG)
    content = read_json(path, MAX_CONFIG)
    if not isinstance(content, dict) or content.get("library_name") != "samplecnn":
        raise RunError(f"{path} is not of a samplecnn bundle: it does not say library_name samplecnn")
    if content.get("format") != FORMAT:
        raise RunError(f"{path} has format {shown(content.get('format'))}; this version reads {FORMAT}")
    description = Description.read(content.get("model"), str(path), "model.")
    for tag in description.tags:
        if not is_printable(tag):
            raise RunError(f"{path}: tag {shown(tag)} is not a printable name")
    keys = ("weights", "config", "results", "thresholds", "source")
    stored, config, results, thresholds, source = map(content.get, keys)
    if not isinstance(stored, dict) or not isinstance(stored.get("sha256"), str):
        raise RunError(f"{path} has no weights.sha256")
    for key, value in (("config", config), ("results", results), ("thresholds", thresholds)):
        if not isinstance(value, dict | None):
            raise RunError(f"{path}: {key} is a {type(value).__name__}, not an object")
    return Bundle(
        folder,
        description,
        stored["sha256"],
        config,
        results,
        source if isinstance(source, str) and is_printable(source) else "of unknown origin",
        thresholds,
    )
