"""One run from configuration to results: what `python train.py` does once Hydra has composed."""

import logging
import multiprocessing
import os
import statistics
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import get_class
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.loggers import Logger
from torch import nn

from samplecnn.data.audio import SAMPLE_RATE
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.data.store import Selection, Store
from samplecnn.errors import UserError
from samplecnn.files import BusyError, locked, remove_empty, remove_unfinished
from samplecnn.hardware import describe, multiplies_bfloat16
from samplecnn.memory import keep_freed_memory
from samplecnn.model.architecture import build
from samplecnn.model.blocks import BLOCKS as PAPER_BLOCKS
from samplecnn.model.network import SampleCNN
from samplecnn.model.norm import use_keras_statistics
from samplecnn.overrides import override
from samplecnn.runs.config import RunConfig, config_hash, read_config, write_config
from samplecnn.runs.description import Description
from samplecnn.runs.folder import BEST, LAST
from samplecnn.runs.predictions import Predictions, write_predictions
from samplecnn.runs.results import RESULTS, Results, SplitScores, read_results, versions, write_results
from samplecnn.training import loggers
from samplecnn.training.backends import Plan, choose, test_backend
from samplecnn.training.checkpoints import RunCheckpoint, WholeFiles, finished, last_checkpoint
from samplecnn.training.config import ConfigError
from samplecnn.training.epochs import EpochTable
from samplecnn.training.module import TaggingModule
from samplecnn.training.schedule import make_schedule
from samplecnn.training.stores import make_data, prepare_store

log = logging.getLogger(__name__)

PAPER_BATCH = 23  # segments
LOCK, LOG = "run.lock", "train.log"


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


def make_trainer(config: RunConfig, run: Path, **options: Any) -> pl.Trainer:
    """Return a Lightning trainer as the ``trainer`` configuration wants it."""
    accelerator = resolve_accelerator(config.trainer.accelerator)
    # SLURM's signals are answered by `RunCheckpoint`; Lightning's way leaves checkpoints of its own.
    cluster = [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
    return pl.Trainer(
        default_root_dir=run / "lightning",  # where Lightning would look for checkpoints of its own
        plugins=[WholeFiles(), *cluster],
        accelerator=accelerator,
        devices=config.trainer.devices,
        precision=resolve_precision(config.trainer.precision, accelerator),  # type: ignore[arg-type]
        log_every_n_steps=1,  # the module logs when it is time
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=watched(),
        **options,
    )


def scaled(config: RunConfig) -> dict[str, Any]:
    """Return the schedule's settings, its learning rate in proportion to the batch if that is wanted."""
    settings = dict(config.schedule)
    if config.scale_rate:
        settings["learning_rate"] *= config.batch_size / PAPER_BATCH
    return settings


def own_blocks(config: RunConfig) -> dict[str, type[nn.Module]]:
    """Return the class of the block under its name, if it is not one of the paper's."""
    name, target = config.block["name"], config.block["_target_"]
    try:
        block = get_class(target)
    except Exception as error:  # Hydra wraps whatever an import raises
        raise ConfigError(f"block._target_={target} cannot be imported: {error}") from error
    return {} if block is PAPER_BLOCKS.get(name) else {name: block}


def describe_network(config: RunConfig, selection: Selection) -> Description:
    """Return what a checkpoint says of the network that the configuration asks for."""
    return Description(
        block={key: value for key, value in config.block.items() if key != "_target_"},
        multi=config.multi,
        width=config.width,
        dropout=config.dropout,
        tags=selection.tags,
        sample_rate=SAMPLE_RATE,
        data=config.data.name,
        split=selection.split,
        split_hash=selection.split_hash,
    )


def choose_backend(config: RunConfig, network: SampleCNN, description: Description) -> Plan:
    """Return how to compute the network's training."""
    accelerator = resolve_accelerator(config.trainer.accelerator)
    return choose(
        network,
        fast=config.fast,
        device=torch.device(accelerator),
        precision=resolve_precision(config.trainer.precision, accelerator),
        batch_size=config.batch_size,
        description=description.as_dict(),
        graphs=config.trainer.devices == 1,
    )


def train(plain: dict[str, Any], run: Path, *, name: str | None, group: str | None = None) -> Results:
    """Train and test one network in the folder ``run``; return its results.

    ``plain`` is a validated configuration. A run that stopped goes on from its last checkpoint; one that has
    finished is not trained again. Raises ConfigError where the folder holds a run of another configuration,
    or belongs to another process; a folder with nothing in it but a log is then removed.
    """
    try:
        with owned(run):
            return train_owned(RunConfig.read(plain, "the configuration"), run, name=name, group=group)
    except (UserError, OSError, KeyboardInterrupt):
        discard(run)
        raise


@contextmanager
def owned(run: Path) -> Iterator[None]:
    """Hold a run folder against other processes; ConfigError where one has it."""
    if "LOCAL_RANK" in os.environ:  # the processes of one training share it
        yield
        return
    run.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(run / LOCK))
        except BusyError as error:
            raise ConfigError(
                f"{run} belongs to another process, which trains in it: wait for that one, or choose another "
                "hydra.run.dir"
            ) from error
        yield


def discard(run: Path) -> None:
    """Remove a folder in which nothing was begun."""
    with suppress(OSError):
        if all(path.name in (LOCK, LOG) for path in run.iterdir()):
            for path in run.iterdir():
                path.unlink()
            remove_empty(run)


def train_owned(config: RunConfig, run: Path, *, name: str | None, group: str | None) -> Results:
    """Train and test in a folder that no other process has."""
    if (finished := earlier_results(config, run)) is not None:
        log.info("%s has finished before: these are its results", run)
        return finished
    quiet_libraries()
    keep_freed_memory()
    data = make_data(config, Store.open(prepare_store(config.plain["data"])))
    pl.seed_everything(config.seed, verbose=False)
    description = describe_network(config, data.selection)
    network = build(description.as_dict(), len(description.tags), own_blocks(config))
    if config.running_statistics == "keras":
        use_keras_statistics(network)
    plan = choose_backend(config, network, description)
    module = TaggingModule(
        network,
        description=description.as_dict(),
        weight_decay=config.weight_decay,
        seed=config.seed,
        plan=plan,
        log_every=config.trainer.log_every_n_steps,
        test_backend=test_backend(config.fast),
    )
    for folder in (run, run / "checkpoints"):
        remove_unfinished(folder)
    last = last_checkpoint(run)
    write_config(run, config)
    log_start(config, run, network, data)
    logger = loggers.start(config, run, name=name, group=group)
    failed = True
    try:
        results = fit_and_test(config, run, last, module, data, plan, logger.loggers)
        logger.log_results(results)
        write_results(run, results)
        failed = False
    finally:
        logger.close(failed=failed)
        if failed and (run / LAST).is_file():
            again = override("resume", run)
            print(f"stopped; to go on from its last checkpoint: python train.py {again}", flush=True)
        elif failed:
            print("stopped before the first checkpoint: nothing is saved", flush=True)
    return results


def earlier_results(config: RunConfig, run: Path) -> Results | None:
    """Return the results of a run that has finished in its folder; None for one that has not.

    Raises ConfigError where the folder holds a run of another configuration.
    """
    if config.plain["resume"] is not None or not any((run / name).is_file() for name in (LAST, RESULTS)):
        return None
    if config_hash(read_config(run).plain) != config_hash(config.plain):
        raise ConfigError(f"{run} holds a run of another configuration: choose another hydra.run.dir")
    return read_results(run) if (run / RESULTS).is_file() else None


def log_start(config: RunConfig, run: Path, network: SampleCNN, data: SegmentDataModule) -> None:
    """Say in a line what is about to be trained."""
    log.info(
        "%s: block %s, %s, width %d, %s parameters, %d tags, split %s, %d batches an epoch",
        run,
        config.block["name"],
        "multi" if config.multi else "no multi",
        config.width,
        f"{count_parameters(network):,}",
        len(data.selection.tags),
        data.selection.split,
        len(data.train_dataloader()),
    )


def fit_and_test(
    config: RunConfig,
    run: Path,
    last: Path | None,
    module: TaggingModule,
    data: SegmentDataModule,
    plan: Plan,
    lightning_loggers: list[Logger],
) -> Results:
    """Train, test the weights that count, write down the predictions; return the results.

    ``last`` is the checkpoint to go on from.
    """
    schedule = make_schedule(scaled(config))
    table = EpochTable(run / "metrics.csv", echo=not watched())
    keeper = RunCheckpoint(run, tested=schedule.tested, every_minutes=config.trainer.save_every_minutes)
    progress = [TQDMProgressBar(refresh_rate=10)] if watched() else []
    trainer = make_trainer(
        config,
        run,
        max_epochs=config.trainer.max_epochs or -1,
        limit_train_batches=config.trainer.limit_train_batches,
        callbacks=[schedule, table, keeper, *progress],
        logger=lightning_loggers,
    )
    if last is not None:
        log.info("%s goes on where it stopped", run)
    if last is None or not finished(last, config.trainer.max_epochs, table):
        trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
    trainer.test(module, datamodule=data, ckpt_path=run / BEST, weights_only=True, verbose=False)
    assert module.test_scores is not None
    assert module.test_probabilities is not None
    selection, test = data.selection, data.selection.parts["test"]
    write_predictions(run, Predictions(test.clip_ids, selection.tags, test.labels, module.test_probabilities))
    return Results(
        block=config.block["name"],
        multi=config.multi,
        seed=config.seed,
        data=config.data.name,
        split=selection.split,
        split_hash=selection.split_hash,
        width=config.width,
        parameters=count_parameters(module.network),
        epochs=len(table.rows),
        train_seconds=table.seconds,
        val={"loss": min(row["val_loss"] for row in table.rows)},
        test=SplitScores.of(module.test_scores, float(trainer.callback_metrics["test/loss"])),
        segments_per_second=statistics.median(row["segments_per_second"] for row in table.rows),
        peak_memory_bytes=max(int(row["peak_memory_bytes"]) for row in table.rows),
        precision=str(trainer.precision),
        backend=str(plan),
        hardware=describe(torch.device(resolve_accelerator(config.trainer.accelerator))),
        versions=versions(),
        config_hash=config_hash(config.plain),
    )


def count_parameters(network: nn.Module) -> int:
    """Count weights as Keras does: batch norms' running means and variances are among them."""
    statistics = sum(buffer.numel() for key, buffer in network.named_buffers() if "running_" in key)
    return statistics + sum(p.numel() for p in network.parameters())


def quiet_libraries() -> None:
    """Silence what Lightning says that a user can do nothing about."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated", FutureWarning)
