"""One run from configuration to results: what `python train.py` does once Hydra has composed."""

import json
import logging
import multiprocessing
import statistics
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import TQDMProgressBar
from torch import nn

from samplecnn.data.audio import SAMPLE_RATE
from samplecnn.data.store import Store
from samplecnn.hardware import describe, multiplies_bfloat16
from samplecnn.memory import keep_freed_memory
from samplecnn.model.architecture import build
from samplecnn.model.blocks import BLOCKS as PAPER_BLOCKS
from samplecnn.model.norm import use_keras_statistics
from samplecnn.runs import folder as runs
from samplecnn.training import loggers
from samplecnn.training.backends import choose, test_backend
from samplecnn.training.checkpoints import RunCheckpoint, WholeFiles, last_checkpoint
from samplecnn.training.config import ConfigError
from samplecnn.training.epochs import EpochTable
from samplecnn.training.module import TaggingModule
from samplecnn.training.stores import make_data, prepare_store

log = logging.getLogger(__name__)

PAPER_BATCH = 23  # segments


def resolve_accelerator(accelerator: str) -> str:
    """Return ``cuda`` or ``cpu`` for ``auto``; ConfigError for a GPU that is not there."""
    available = torch.cuda.is_available()
    if accelerator == "cuda" and not available:
        raise ConfigError("trainer.accelerator=cuda, but PyTorch sees no CUDA device: use cpu or auto")
    if accelerator == "auto":
        return "cuda" if available else "cpu"
    return accelerator


def resolve_precision(precision: str | int, accelerator: str) -> str:
    """Return Lightning's name of the precision; ``auto`` is bfloat16 where the hardware multiplies in it."""
    if precision == "auto":
        return "bf16-mixed" if multiplies_bfloat16(accelerator) else "32-true"
    return "32-true" if str(precision) == "32" else str(precision)


def watched() -> bool:
    """Whether somebody sees a progress bar; of jobs side by side each would write over the others'."""
    return sys.stderr.isatty() and multiprocessing.parent_process() is None


def make_trainer(config: Mapping[str, Any], run: Path, **options: Any) -> pl.Trainer:
    """Return a Lightning trainer as the ``trainer`` configuration wants it."""
    settings = config["trainer"]
    accelerator = resolve_accelerator(settings["accelerator"])
    return pl.Trainer(
        default_root_dir=run / "lightning",  # where Lightning would look for checkpoints of its own
        plugins=[WholeFiles()],
        accelerator=accelerator,
        devices=settings["devices"],
        precision=resolve_precision(settings["precision"], accelerator),  # type: ignore[arg-type]
        log_every_n_steps=1,  # the module logs when it is time
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=watched(),
        **options,
    )


def schedule(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schedule's configuration, its learning rate in proportion to the batch if that is wanted."""
    chosen = dict(config["schedule"])
    if config["scale_rate"]:
        chosen["learning_rate"] *= config["batch_size"] / PAPER_BATCH
    return chosen


def own_blocks(config: Mapping[str, Any]) -> dict[str, type[nn.Module]]:
    """Return the class that the command line or a yaml file names as the block, under its name."""
    block = config["block"]
    try:
        return {block["name"]: get_class(block["_target_"])}
    except Exception as error:  # Hydra wraps whatever an import raises
        raise ConfigError(f"block._target_={block['_target_']} cannot be imported: {error}") from error


def train(config: dict[str, Any], run: Path, *, name: str, group: str | None = None) -> dict[str, Any]:
    """Train and test one network in the folder ``run``; return its results.

    ``config`` is validated and plain. A run that stopped goes on from its last checkpoint; one that has
    finished is not trained again. Raises ConfigError where the folder holds a run of another configuration.
    """
    trained = any((run / name).is_file() for name in (runs.LAST, "results.json"))
    if config["resume"] is None and trained:
        if runs.config_hash(runs.read_config(run)) != runs.config_hash(config):
            raise ConfigError(f"{run} holds a run of another configuration: choose another hydra.run.dir")
        if (run / "results.json").is_file():
            log.info("%s has finished before: these are its results", run)
            return runs.read_results(run)
    quiet_libraries()
    keep_freed_memory()
    blocks = {k: v for k, v in own_blocks(config).items() if v is not PAPER_BLOCKS.get(k)}
    store = Store.open(prepare_store(config["data"]))
    data = make_data(config, store)
    selection = data.selection

    pl.seed_everything(config["seed"], verbose=False)
    description = {
        "format": runs.DESCRIPTION_FORMAT,
        "block": {k: v for k, v in config["block"].items() if k != "_target_"},
        **{key: config[key] for key in ("multi", "width", "dropout")},
        "tags": list(selection.tags),
        "sample_rate": SAMPLE_RATE,
        "data": config["data"]["name"],
        "split": selection.split,
        "split_hash": selection.split_hash,
    }
    network = build(description, len(selection.tags), blocks)
    if config.get("running_statistics", "keras") == "keras":  # as runs of earlier versions were trained
        use_keras_statistics(network)
    accelerator = resolve_accelerator(config["trainer"]["accelerator"])
    device = torch.device(accelerator)
    plan = choose(
        network,
        fast=config["fast"],
        device=device,
        precision=resolve_precision(config["trainer"]["precision"], accelerator),
        batch_size=config["batch_size"],
        description=description,
        graphs=config["trainer"]["devices"] == 1,
    )
    module = TaggingModule(
        network,
        description=description,
        weight_decay=config["weight_decay"],
        seed=config["seed"],
        plan=plan,
        log_every=config["trainer"]["log_every_n_steps"],
        test_backend=test_backend(config["fast"]),
    )
    parameters = count_parameters(network)
    run.mkdir(parents=True, exist_ok=True)
    runs.write_atomically(
        run / "config.yaml", OmegaConf.to_yaml(OmegaConf.create({**config, "resume": None}))
    )
    table = EpochTable(run / "metrics.csv", echo=not watched())
    log.info(
        "%s: block %s, %s, width %d, %s parameters, %d tags, split %s, %d batches an epoch",
        run,
        config["block"]["name"],
        "multi" if config["multi"] else "no multi",
        config["width"],
        f"{parameters:,}",
        len(selection.tags),
        selection.split,
        len(data.train_dataloader()),
    )
    watch = loggers.start(config["logger"], run, config=config, name=name, group=group)
    failed = True
    try:
        chosen = instantiate(schedule(config))
        trainer = make_trainer(
            config,
            run,
            max_epochs=config["trainer"]["max_epochs"] or -1,
            limit_train_batches=config["trainer"]["limit_train_batches"],
            callbacks=[
                chosen,
                table,
                RunCheckpoint(
                    run, tested=chosen.tested, every_minutes=config["trainer"].get("save_every_minutes", 10)
                ),
                *([TQDMProgressBar(refresh_rate=10)] if watched() else []),
            ],
            logger=watch.loggers,
        )
        last = last_checkpoint(run)
        if last is not None:
            log.info("%s goes on where it stopped", run)
        trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
        # Taken now: reading the best checkpoint puts the callbacks back to its epoch.
        epochs, seconds = list(table.rows), table.seconds
        trainer.test(module, datamodule=data, ckpt_path=run / runs.BEST, weights_only=True, verbose=False)
        assert module.test_scores is not None
        assert module.test_probabilities is not None
        test = selection.parts["test"]
        np.savez_compressed(
            run / "predictions.npz",
            clip_ids=np.array(test.clip_ids),
            tags=np.array(selection.tags),
            labels=test.labels,
            probabilities=module.test_probabilities,
        )
        results = {
            "block": config["block"]["name"],
            "multi": config["multi"],
            "seed": config["seed"],
            "data": config["data"]["name"],
            "split": selection.split,
            "split_hash": selection.split_hash,
            "width": config["width"],
            "parameters": parameters,
            "epochs": len(epochs),
            "train_seconds": seconds,
            "val": {"loss": min(row["val_loss"] for row in epochs)},
            "test": {"loss": float(trainer.callback_metrics["test/loss"]), **module.test_scores.as_dict()},
            "segments_per_second": statistics.median(row["segments_per_second"] for row in epochs),
            "peak_memory_bytes": max(int(row["peak_memory_bytes"]) for row in epochs),
            "precision": str(trainer.precision),
            "backend": str(plan),
            "hardware": describe(device),
            "versions": runs.versions(),
            "config_hash": runs.config_hash(config),
        }
        flat = {k: v for k, v in results.items() if not isinstance(v, dict)}
        watch.results(module.test_scores, flat)
        runs.write_atomically(run / "results.json", json.dumps(results, indent=1) + "\n")
        failed = False
    finally:
        watch.close(failed=failed)
        if failed and (run / runs.LAST).is_file():
            print(f"stopped; to go on from its last checkpoint: python train.py resume={run}", flush=True)
    return results


def count_parameters(network: nn.Module) -> int:
    """Count weights as Keras does: batch norms' running means and variances are among them."""
    statistics = sum(buffer.numel() for key, buffer in network.named_buffers() if "running_" in key)
    return statistics + sum(p.numel() for p in network.parameters())


def quiet_libraries() -> None:
    """Silence what Lightning says that a user can do nothing about."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated", FutureWarning)
    # A resumed run goes on in its own folder.
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
