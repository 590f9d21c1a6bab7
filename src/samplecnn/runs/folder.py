"""What a run leaves behind, and how to read it again.

    RUN/config.yaml        the resolved configuration
    RUN/results.json       what it is and how well it does on the test split
    RUN/predictions.npz    clip_ids, tags, labels and probabilities of the test split
    RUN/metrics.csv        one row per epoch
    RUN/checkpoints/       best.ckpt (lowest validation loss) and last.ckpt (to resume from)

Files are read as hostile: no pickle, nothing that a file names is imported. What reads the model or the
configuration of a run folder reads those of a bundle too (`bundle.py`).
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from samplecnn.model.architecture import build
from samplecnn.model.network import SampleCNN
from samplecnn.runs.bundle import WEIGHTS, is_bundle, read_bundle
from samplecnn.runs.errors import RunError as RunError

DESCRIPTION_FORMAT = 1
BEST, LAST = "checkpoints/best.ckpt", "checkpoints/last.ckpt"
# What does not change what a run computes: where things are and how it is watched.
NOT_IDENTITY = (
    *("logger", "resume", "fast", "trainer.log_every_n_steps", "trainer.save_every_minutes"),
    *("data.raw", "data.root", "data.catalog", "data.resident"),
)


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file or none."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a resolved configuration computes: without paths, logger and launcher."""
    kept = OmegaConf.create(dict(config))
    for key in NOT_IDENTITY:
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(kept, parent) if parent else kept
        if node is not None:
            node.pop(name, None)
    plain = OmegaConf.to_container(kept)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def config_hash(config: Mapping[str, Any]) -> str:
    """Return a hash of what a resolved configuration computes."""
    canonical = json.dumps(identity(config), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def read_config(run: Path) -> dict[str, Any]:
    """Return the resolved configuration of a run folder or bundle; RunError if it has none."""
    path = run / "config.yaml"
    if not path.is_file() and is_bundle(run):
        return read_bundle(run).run_config()
    if not path.is_file():
        raise RunError(f"{run} is not a run folder: it has no config.yaml")
    config = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def read_results(run: Path) -> dict[str, Any]:
    """Return the results of a finished run; RunError if there are none."""
    path = run / "results.json"
    if not path.is_file():
        raise RunError(f"{run} has no results.json: the run has not finished (resume={run} goes on with it)")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is damaged, not JSON ({error}): train the run again") from error
    if not isinstance(results, dict):
        raise RunError(f"{path} holds a {type(results).__name__}, not an object")
    return results


@dataclass(frozen=True)
class Model:
    """A trained network and what its outputs mean."""

    network: SampleCNN  # in evaluation mode
    tags: tuple[str, ...]
    sample_rate: int  # Hz
    description: dict[str, Any]
    checkpoint: Path


def versions() -> dict[str, str]:
    """Return the versions of what computes, and the commit where the program runs from a git checkout."""
    told = {name: version(name) for name in ("samplecnn", "torch", "pytorch-lightning")}
    here = Path(__file__).parent
    if (here.parents[2] / ".git").exists() and (git := shutil.which("git")):
        said = subprocess.run(
            [git, "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            check=False,
            capture_output=True,
            text=True,
        )
        if said.returncode == 0:
            told["commit"] = said.stdout.strip()
    return told


def find_checkpoint(path: Path) -> Path:
    """Return ``path`` if it is a file, else where the weights of the run folder or bundle are that it is."""
    if path.is_file():
        return path
    if not path.exists():
        raise RunError(f"there is no run folder or checkpoint {path}")
    best = path / BEST
    if not best.is_file() and is_bundle(path):
        return path / WEIGHTS
    if not best.is_file():
        raise RunError(
            f"{path} is not a run folder with a trained model, nor a bundle: "
            f"it has no {BEST} and no {WEIGHTS}"
        )
    return best


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's plain values and tensors; RunError for anything else, pickled code included.

    Of a bundle only what it is of: its tensors are read when their shapes are known.
    """
    if path.name == WEIGHTS:
        return {"samplecnn": read_bundle(path.parent).description}
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no common class for what a damaged file does to it
        reason = str(error).strip().partition("\n")[0]
        raise RunError(f"{path} is not a checkpoint of samplecnn, or is damaged: {reason}") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("samplecnn"), dict):
        raise RunError(f"{path} is not a checkpoint of samplecnn: it does not say what it is of")
    return checkpoint


def load_model(path: str | Path, blocks: Mapping[str, type[nn.Module]] | None = None) -> Model:
    """Read a trained model from a run folder, a checkpoint or a bundle.

    ``blocks`` holds the classes of blocks that are not the paper's, by name. Raises RunError for a path
    that is not a model, and for weights that do not fit what the file says they are of.
    """
    checkpoint_path = find_checkpoint(Path(path))
    bundle = read_bundle(checkpoint_path.parent) if checkpoint_path.name == WEIGHTS else None
    checkpoint = {"samplecnn": bundle.description} if bundle else read_checkpoint(checkpoint_path)
    description = checkpoint["samplecnn"]
    if description.get("format") != DESCRIPTION_FORMAT:
        raise RunError(
            f"{checkpoint_path} has format {description.get('format')!r}; "
            f"this version reads {DESCRIPTION_FORMAT}"
        )
    try:
        tags = tuple(str(tag) for tag in description["tags"])
        sample_rate = int(description["sample_rate"])
        # On the meta device nothing is allocated before the shapes have been compared.
        with torch.device("meta"):
            network = build(description, len(tags), blocks)
        weights = bundle.weights(network.state_dict()) if bundle else _weights(checkpoint["state_dict"])
        network.load_state_dict(weights, assign=True)
    except (KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"{checkpoint_path} is not a complete model: {reason}") from error
    except RunError:
        raise
    except ValueError as error:
        reason = str(error).partition("\n")[0]  # of PyTorch's own the rest is its call stack
        raise RunError(f"{checkpoint_path}: {reason}") from error
    network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return Model(network, tags, sample_rate, description, checkpoint_path)


def _weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's part of a Lightning module's state, in single precision."""
    prefix = "network."
    return {
        name.removeprefix(prefix): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }
