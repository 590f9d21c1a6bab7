"""A run folder, and the model in one, in a checkpoint or in a bundle.

    RUN/config.yaml        the resolved configuration          config.py
    RUN/results.json       what it is and how well it does on the test split; written last    results.py
    RUN/predictions.npz    clip_ids, tags, labels and probabilities of the test split    predictions.py
    RUN/metrics.csv        one row per epoch    run.py
    RUN/robustness.json    how well it does on a disturbed test split    robustness.py
    RUN/thresholds.json    from which probability on a clip has a tag    thresholds.py
    RUN/checkpoints/       best.ckpt (tested) and last.ckpt (to resume from)    checkpoint.py

All of it is untrusted input. What reads the model or the configuration of a run folder reads those of a
bundle too (`bundle.py`).
"""

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from samplecnn.model.architecture import Blocks, Networks, build
from samplecnn.model.network import sample_cnns
from samplecnn.model.networks.network import Network
from samplecnn.runs import config as configuration
from samplecnn.runs.bundle import WEIGHTS, is_bundle, read_bundle
from samplecnn.runs.checkpoint import describe, network_weights, read_checkpoint
from samplecnn.runs.config import CONFIG, RunConfig
from samplecnn.runs.description import PROBES, Description
from samplecnn.runs.errors import RunError
from samplecnn.runs.results import RESULTS
from samplecnn.runs.untrusted import read_bytes

BEST, LAST = "checkpoints/best.ckpt", "checkpoints/last.ckpt"
LOCK = "run.lock"  # held while a process trains into the folder
WANDB_ID, WANDB_URL = "wandb_id.txt", "wandb_url.txt"  # of the run in Weights & Biases


MAX_URL = 2000  # bytes


@dataclass(frozen=True)
class Model:
    """A trained network and what its outputs mean."""

    network: Network  # in evaluation mode
    description: Description
    checkpoint: Path  # the file it was read from

    @property
    def tags(self) -> tuple[str, ...]:
        """What the outputs mean, in their order."""
        return self.description.tags

    @property
    def sample_rate(self) -> int:
        """What it hears, in Hz."""
        return self.description.sample_rate

    @property
    def segment_samples(self) -> int:
        """How many samples it hears at once."""
        return self.description.segment_samples


def read_config(path: Path) -> RunConfig:
    """Return the configuration of a run folder or bundle; RunError if it has none, or not a sound one."""
    if not (path / CONFIG).is_file() and is_bundle(path):
        return read_bundle(path).run_config()
    return configuration.read_config(path)


def unfinished(path: Path) -> str | None:
    """Say that the run of a folder or checkpoint has not finished; None if it has, and for a bundle."""
    run = path.resolve()
    if not path.is_dir():
        if run.parent.name != "checkpoints":  # a file by itself
            return None
        run = run.parent.parent
    if not (run / CONFIG).is_file() or (run / RESULTS).is_file():
        return None
    return f"{run} has not finished training: this is its best model so far"


def web_page(run: Path) -> str:
    """Return the address of a run in Weights & Biases; RunError where it has none, or none that is known."""
    file = run / WANDB_URL
    if file.is_file():
        address = read_bytes(file, MAX_URL).decode(errors="replace").strip()
        if not re.fullmatch("https?://[!-~]+", address):
            raise RunError(f"{file} holds no address of a page")
        return address
    if offline := sorted((run / "wandb").glob("offline-run-*")):
        raise RunError(f"{run} was recorded offline: wandb sync {offline[-1]} uploads it, and names its page")
    raise RunError(f"{run} was not recorded by Weights & Biases, or by an earlier version: no {WANDB_URL}")


def find_checkpoint(path: Path) -> Path:
    """Return ``path`` if it is a file, else where the weights of the run folder or bundle are that it is."""
    if path.is_file():
        if path.suffix == ".onnx":
            raise RunError(
                f"{path} is an ONNX file, which is for other programs: name its bundle, the folder with "
                f"{WEIGHTS}, or a checkpoint"
            )
        return path
    if not path.exists():
        raise RunError(f"there is no run folder or checkpoint {path}")
    best = path / BEST
    if not best.is_file() and is_bundle(path):
        return path / WEIGHTS
    if not best.is_file():
        if (path / RESULTS).is_file() and read_config(path).model["name"] in PROBES.values():
            raise RunError(
                f"{path} is a probe of an earlier version, which kept no weights: to tag with it, "
                "`samplecnn probe` has to make it again, in another folder"
            )
        raise RunError(
            f"{path} is not a run folder with a trained model, nor a bundle: "
            f"it has no {BEST} and no {WEIGHTS}"
        )
    return best


def read_description(path: Path) -> Description:
    """Return what a run folder, checkpoint or bundle says of its network."""
    found = find_checkpoint(path)
    if found.name == WEIGHTS:
        return read_bundle(found.parent).description
    return describe(found, read_checkpoint(found))


def load_model(path: str | Path, blocks: Blocks | None = None, networks: Networks | None = None) -> Model:
    """Read a trained model from a run folder, a checkpoint or a bundle.

    ``blocks`` and ``networks`` hold the classes of those that are not of this project, by name. Raises
    RunError for a path that is not a model, and for weights that do not fit what the file says they are of.
    """
    found = find_checkpoint(Path(path))
    if found.name == WEIGHTS:
        bundle = read_bundle(found.parent)
        description = bundle.description
        network = _without_weights(found, description, blocks, networks)
        weights = bundle.weights(network.state_dict())
    else:
        checkpoint = read_checkpoint(found)
        description = describe(found, checkpoint)
        network = _without_weights(found, description, blocks, networks)
        weights = network_weights(found, checkpoint, network.state_dict())
    network.load_state_dict(weights, assign=True)
    for found_in_it in sample_cnns(network):
        found_in_it.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval()
    return Model(network, description, found)


def _without_weights(
    path: Path, description: Description, blocks: Blocks | None, networks: Networks | None
) -> Network:
    """Build the described network on the meta device: nothing is allocated before shapes were compared."""
    try:
        with torch.device("meta"):
            network = build(description.as_dict(), len(description.tags), blocks, networks)
    except ValueError as error:
        reason = str(error).partition("\n")[0]  # of PyTorch's own the rest is its call stack
        raise RunError(f"{path}: {reason}") from error
    except (TypeError, OverflowError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"{path} is not a complete model: {reason}") from error
    if network.segment_samples != description.segment_samples:
        raise RunError(
            f"{path} says that the network hears {description.segment_samples:,} samples at once; "
            f"{network.title} hears {network.segment_samples:,}"
        )
    return network
