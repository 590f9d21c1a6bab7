"""A model to give away: a folder in the Hugging Face Hub's layout, read as hostile.

    DIR/config.json         what the network is, its tags, results, versions, checksum of the weights
    DIR/model.safetensors   the weights, by their names in the network
    DIR/README.md           the model card
    DIR/model.onnx          the network for ONNX runtimes, where wanted; model_fp16.onnx in half the size

Nothing that a file names is imported, and a link has to stay in the folder. `inference/bundle.py` writes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from samplecnn.data.resampling import RATES
from samplecnn.runs import weights
from samplecnn.runs.errors import RunError
from samplecnn.runs.rules import RULES

FORMAT = 1
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
ONNX, ONNX_HALF = "model.onnx", "model_fp16.onnx"
FILES = (CONFIG, WEIGHTS, CARD, ONNX, ONNX_HALF)
MAX_CONFIG = 4 << 20  # bytes; with the scores of 50 tags it takes 20 kB
MAX_TAGS = 10_000

# For what a run's configuration says of its machine, and a bundle leaves out: values that hold anywhere.
ANYWHERE: dict[str, Any] = {"resume": None, "logger": {"name": "none"}}
ANYWHERE_DATA = {"raw": None, "root": "data", "resident": "auto"}
ANYWHERE_TRAINER = {"accelerator": "auto", "devices": 1, "log_every_n_steps": 50, "save_every_minutes": 10}
# What testing again needs of it.
NEEDED = ("batch_size", "seed", "data.name", "data.split", "data.top", "trainer.precision")
NEEDED_IF_THERE = ("fast", "data.train_segments", "data.test_segments")


@dataclass(frozen=True)
class Bundle:
    """What the ``config.json`` of a bundle says."""

    folder: Path
    description: dict[str, Any]  # of the network and what it says, as in a checkpoint
    checksum: str  # SHA-256 of the weights
    results: dict[str, Any] | None  # of the run's test
    config: dict[str, Any] | None  # of the run, without paths
    source: str  # where the weights come from, in words

    def weights(self, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights; RunError unless they are sound and of the shapes and types of ``expected``."""
        return weights.read(own_file(self.folder, WEIGHTS), expected, self.checksum)

    def run_config(self) -> dict[str, Any]:
        """Return the configuration of the run, for this machine; RunError if it has none."""
        path = self.folder / CONFIG
        if self.config is None:
            raise RunError(
                f"{path} holds no configuration of a run ({self.source}): the model can tag, but on which "
                "data set, split and batches to test it is not known"
            )
        _check_run_config(path, self.config)
        return {
            **self.config,
            **ANYWHERE,
            "data": {**self.config["data"], **ANYWHERE_DATA},
            "trainer": {**self.config["trainer"], **ANYWHERE_TRAINER},
        }


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
    with path.open("rb") as file:
        data = file.read(MAX_CONFIG + 1)
    if len(data) > MAX_CONFIG:
        raise RunError(f"{path} has more than {MAX_CONFIG >> 20} MiB: not a bundle's")
    try:
        told = weights.strict_json(data)
    except ValueError as error:
        raise RunError(f"{path} is not JSON: {error}") from error
    if not isinstance(told, dict) or told.get("library_name") != "samplecnn":
        raise RunError(f"{path} is not of a samplecnn bundle: it does not say library_name samplecnn")
    if told.get("format") != FORMAT:
        raise RunError(f"{path} has format {str(told.get('format'))[:20]!r}; this version reads {FORMAT}")
    model, stored = _object(path, told, "model"), _object(path, told, "weights")
    _check_model(path, model)
    checksum = stored.get("sha256")
    if not isinstance(checksum, str):
        raise RunError(f"{path} has no weights.sha256")
    source = told.get("source")
    return Bundle(
        folder,
        model,
        checksum,
        _object(path, told, "results") if told.get("results") is not None else None,
        _object(path, told, "config") if told.get("config") is not None else None,
        source if isinstance(source, str) and source.isprintable() else "of unknown origin",
    )


def _object(path: Path, told: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = told.get(key)
    if not isinstance(value, dict):
        raise RunError(f"{path}: {key} is a {type(value).__name__}, not an object")
    return value


def _check_model(path: Path, model: Mapping[str, Any]) -> None:
    """Check what is shown or used before the network is built; building checks the rest."""
    tags, rate = model.get("tags"), model.get("sample_rate")
    if not isinstance(tags, list) or not 1 <= len(tags) <= MAX_TAGS:
        raise RunError(f"{path}: model.tags is not a list of 1 to {MAX_TAGS:,} names")
    for tag in tags:
        if not isinstance(tag, str) or not tag or not tag.isprintable():
            raise RunError(f"{path}: tag {str(tag)[:80]!r} is not a printable name")
    if len(set(tags)) < len(tags):
        raise RunError(f"{path}: model.tags names a tag twice")
    if not isinstance(rate, int) or not RATES[0] <= rate <= RATES[1]:
        raise RunError(
            f"{path}: model.sample_rate is {str(rate)[:20]}; allowed are {RATES[0]:,} to {RATES[1]:,} Hz"
        )


def _check_run_config(path: Path, config: Mapping[str, Any]) -> None:
    for key in (*NEEDED, *NEEDED_IF_THERE):
        group, _, name = key.rpartition(".")
        node = config.get(group) if group else config
        if not isinstance(node, dict):
            raise RunError(f"{path}: config.{group} is not an object")
        if name not in node and key in NEEDED_IF_THERE:
            continue
        if name not in node or not RULES[key].holds(node[name]):
            told = str(node.get(name, "missing"))[:80]
            raise RunError(f"{path}: config.{key} is {told}; it must be {RULES[key].allowed}")
