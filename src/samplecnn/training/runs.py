"""What a run leaves behind, and how to read it again.

    RUN/config.yaml        the resolved configuration
    RUN/results.json       what it is and how well it does on the test split
    RUN/predictions.npz    clip_ids, tags, labels and probabilities of the test split
    RUN/metrics.csv        one row per epoch
    RUN/checkpoints/       best.ckpt (lowest validation loss) and last.ckpt (to resume from)

Files are read as hostile: no pickle, nothing that a file names is imported. What reads a run folder's model and
configuration also reads a bundle's (`bundle.py`).
"""

import csv
import hashlib
import json
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from samplecnn.model.architecture import build
from samplecnn.model.network import SampleCNN
from samplecnn.training.bundle import WEIGHTS, BundleError, is_bundle, read_bundle
from samplecnn.training.schedule import MONITOR

DESCRIPTION_FORMAT = 1
BEST, LAST = "checkpoints/best.ckpt", "checkpoints/last.ckpt"
# What does not change what a run computes: where things are and how it is watched.
NOT_IDENTITY = (
    *("logger", "resume", "fast", "trainer.log_every_n_steps"),
    *("data.raw", "data.root", "data.catalog", "data.resident"),
)


class RunError(ValueError):
    """A run folder or checkpoint cannot be used."""


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
        try:
            return read_bundle(run).run_config()
        except BundleError as error:
            raise RunError(str(error)) from error
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
        raise RunError(f"{path} is not JSON: {error}") from error
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
            f"{path} is not a run folder with a trained model: it has no {BEST} (and it is no bundle: no {WEIGHTS})"
        )
    return best


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's plain values and tensors; RunError for anything else, pickled code included."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no common class for what a damaged file does to it
        reason = str(error).strip().partition("\n")[0]
        raise RunError(f"{path} is not a checkpoint of samplecnn, or is damaged: {reason}") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("samplecnn"), dict):
        raise RunError(f"{path} is not a checkpoint of samplecnn: it does not say what it is of")
    return checkpoint


def load_model(path: str | Path, blocks: Mapping[str, type[nn.Module]] | None = None) -> Model:
    """Read a trained model from a run folder or a checkpoint.

    ``blocks`` holds the classes of blocks that are not the paper's, by name. Raises RunError for a path
    that is not a model, and for weights that do not fit what the file says they are of.
    """
    checkpoint_path = find_checkpoint(Path(path))
    checkpoint = read_checkpoint(checkpoint_path)
    description = checkpoint["samplecnn"]
    if description.get("format") != DESCRIPTION_FORMAT:
        raise RunError(
            f"{checkpoint_path} has format {description.get('format')!r}; "
            f"this version reads {DESCRIPTION_FORMAT}"
        )
    prefix = "network."
    try:
        tags = tuple(str(tag) for tag in description["tags"])
        sample_rate = int(description["sample_rate"])
        weights = {
            name.removeprefix(prefix): tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in checkpoint["state_dict"].items()
            if name.startswith(prefix)
        }
        # On the meta device nothing is allocated before the shapes have been compared.
        with torch.device("meta"):
            network = build(description, len(tags), blocks)
        network.load_state_dict(weights, assign=True)
    except (KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"{checkpoint_path} is not a complete model: {reason}") from error
    except ValueError as error:
        raise RunError(f"{checkpoint_path}: {error}") from error
    network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return Model(network, tags, sample_rate, description, checkpoint_path)


def peak_memory(device: torch.device) -> int:
    """Return the most bytes in use so far: of the GPU in this epoch, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class RunCheckpoint(ModelCheckpoint):
    """Keeps the weights with the lowest validation loss of the whole run, and the last ones.

    Goes on with them in a run folder that has been moved, where Lightning's own would start anew.
    """

    def __init__(self, run: Path) -> None:
        best = Path(BEST)
        super().__init__(
            dirpath=run / best.parent,
            filename=best.stem,
            monitor=MONITOR,
            save_last=True,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the files of a checkpoint's state where they are now."""

        def here(path: str) -> str:
            return str(Path(self.dirpath or "") / Path(path).name) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved = {key: here(state_dict[key]) for key in paths}
        moved["dirpath"] = str(self.dirpath)
        best = {here(path): value for path, value in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": best})


class EpochTable(pl.Callback):
    """Writes ``metrics.csv``, one row per epoch, and counts the seconds spent in training.

    The rows are in the checkpoint too, so that a resumed run goes on with the table of the epochs that it
    stands on.
    """

    def __init__(self, path: Path, *, echo: bool) -> None:
        self.path = path
        self.echo = echo  # print a line per epoch
        self.rows: list[dict[str, float]] = []
        self._started = self._trained = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of all epochs, validation included, over all sittings of a resumed run."""
        return sum(row["seconds"] for row in self.rows)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started = time.perf_counter()
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note when the training part of the epoch ended."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        self._trained = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row and write the table."""
        seconds = time.perf_counter() - self._started
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        segments = trainer.num_training_batches * trainer.train_dataloader.sampler.batch_size  # type: ignore[union-attr]
        speed = {
            "segments_per_second": segments / (self._trained - self._started),
            "peak_memory_bytes": peak_memory(pl_module.device),
        }
        for logger in trainer.loggers:
            logger.log_metrics({f"train/{key}": value for key, value in speed.items()}, trainer.global_step)
        row: dict[str, float] = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "train_loss": metrics["train/loss_epoch"],
            "val_loss": metrics["val/loss"],
            "val_roc_auc": metrics["val/roc_auc"],
            "val_pr_auc": metrics["val/pr_auc"],
            "seconds": seconds,
            **speed,
        }
        self.rows.append(row)
        temporary = self.path.with_name(self.path.name + ".tmp")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            writer.writeheader()
            writer.writerows(self.rows)
        temporary.replace(self.path)
        if self.echo:
            print(
                f"epoch {row['epoch']:3.0f}  train loss {row['train_loss']:.4f}  "
                f"val loss {row['val_loss']:.4f}  val ROC-AUC {row['val_roc_auc']:.4f}  {seconds:.1f} s",
                flush=True,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the rows of a checkpoint."""
        self.rows = list(state_dict["rows"])
