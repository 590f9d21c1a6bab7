"""One run from configuration to results: what `samplecnn train` does once Hydra has composed."""

import logging
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger
from tqdm.contrib.logging import logging_redirect_tqdm

from samplecnn import threads
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.errors import UserError
from samplecnn.files import BusyError, locked, remove_empty, remove_unfinished
from samplecnn.hardware import describe
from samplecnn.memory import keep_freed_memory
from samplecnn.overrides import command, override
from samplecnn.runs.config import RunConfig, config_hash, read_config, write_config
from samplecnn.runs.description import Description
from samplecnn.runs.folder import BEST, LAST, LOCK
from samplecnn.runs.predictions import Predictions, write_predictions
from samplecnn.runs.results import RESULTS, Results, read_results, versions, write_results
from samplecnn.text import counted
from samplecnn.training import loggers
from samplecnn.training.averaging import make_averaging
from samplecnn.training.checkpoint_files import NEXT, finished, last_checkpoint
from samplecnn.training.checkpoints import RunCheckpoint
from samplecnn.training.config import ConfigError
from samplecnn.training.epochs import EpochTable
from samplecnn.training.gpus import take_gpu
from samplecnn.training.launch import as_launched
from samplecnn.training.module import TaggingModule
from samplecnn.training.network import count_parameters, heard, make_module
from samplecnn.training.progress import LOG_SECONDS, TimedBar, TimeLeft
from samplecnn.training.quiet import quiet_libraries
from samplecnn.training.ranks import from_rank_zero, gather, leave, on_all, rank
from samplecnn.training.schedules import make_schedule
from samplecnn.training.stores import make_data, training_store
from samplecnn.training.trainer import device_and_precision, join, make_trainer, watched

log = logging.getLogger(__name__)

PAPER_BATCH = 23  # segments
LOG = "train.log"
PATIENCE = 1.0  # seconds: `samplecnn runs` holds a folder for a moment to see whether another has it


def train(plain: dict[str, Any], run: Path, cell: str | None = None) -> Results:
    """Train and test one network in the folder ``run``; return its results.

    ``plain`` is a validated configuration, ``cell`` which one of a multirun it is. A run that stopped goes
    on from its last checkpoint; one that has finished is not trained again. On several devices all processes
    come here, and train in the folder of rank 0. Raises ConfigError where the folder holds a run of another
    configuration, or belongs to another process; a folder with nothing in it but a log is then removed.
    """
    try:
        config = RunConfig.read(as_launched(plain), "the configuration")
        if config.world == 1 and config.trainer.accelerator != "cpu":
            take_gpu()
        join(config, run)
        run = from_rank_zero(lambda: run)
        with ExitStack() as stack:
            from_rank_zero(lambda: stack.enter_context(owned(run)))
            results = train_owned(config, run, cell)
        gather(None)  # all have come to here
    except (UserError, OSError):
        if rank() == 0:
            discard(run)
        raise
    finally:
        leave()
    return results


@contextmanager
def owned(run: Path) -> Iterator[None]:
    """Hold a run folder against other processes; ConfigError where one has it."""
    run.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(run / LOCK, patience=PATIENCE))
        except BusyError as error:
            raise ConfigError(
                f"{run} belongs to another process, which trains in it: wait for that one, or choose another "
                "hydra.run.dir"
            ) from error
        for folder in (run, run / "checkpoints"):
            remove_unfinished(folder)
        yield


def discard(run: Path) -> bool:
    """Remove a folder if nothing was begun in it, and no other process has it; return whether it is gone."""
    with suppress(OSError, UserError):
        if all(path.name in (LOCK, LOG) for path in run.iterdir()):
            with locked(run / LOCK):
                for path in run.iterdir():
                    path.unlink()
            remove_empty(run)
    return not run.exists()


def train_owned(config: RunConfig, run: Path, cell: str | None) -> Results:
    """Train and test in a folder that no other process has."""
    if (finished := from_rank_zero(lambda: earlier_results(config, run))) is not None:
        log.info("%s has finished before: these are its results", run)
        return finished
    quiet_libraries()
    keep_freed_memory()
    threads.use_available()
    rate, samples = heard(config)
    # Each by itself: where the store is still to be prepared, they share its shards.
    data = on_all(lambda: make_data(config, training_store(config.plain["data"], rate), rate, samples))
    last = from_rank_zero(lambda: last_checkpoint(run))
    module = make_module(config, data.selection, last)
    from_rank_zero(lambda: begin(config, run))
    log_start(config, run, module, data)
    logger = loggers.start(config, run) if rank() == 0 else loggers.RunLogger()
    failed = True
    try:
        fitted = fit_and_test(config, run, last, module, data, logger.loggers, cell)
        results = from_rank_zero(lambda: record(config, run, module, data, *fitted))
        logger.log_results(results)
        from_rank_zero(lambda: write_results(run, results))
        failed = False
    finally:
        logger.close(failed=failed)
        if failed and rank() == 0:
            say_how_to_go_on(run)
    return results


def begin(config: RunConfig, run: Path) -> None:
    """Write down what is trained in a folder, which has no results from here on until it has finished."""
    (run / RESULTS).unlink(missing_ok=True)
    write_config(run, config)


def say_how_to_go_on(run: Path) -> None:
    """Print what to do about a run that has stopped."""
    if (run / LAST).is_file():
        again = override("resume", run)
        print(f"stopped; to go on from its last checkpoint: {command('train')} {again}", flush=True)
    else:
        print("stopped before the first checkpoint: nothing is saved", flush=True)


def earlier_results(config: RunConfig, run: Path) -> Results | None:
    """Return the results of a run that has finished in its folder; None for one that has not.

    Raises ConfigError where the folder holds a run of another configuration.
    """
    begun = any((run / name).is_file() for name in (NEXT, LAST, RESULTS))
    if config.plain["resume"] is not None or not begun:
        return None
    if config_hash(read_config(run).plain) != config_hash(config.plain):
        raise ConfigError(f"{run} holds a run of another configuration: choose another hydra.run.dir")
    return read_results(run) if (run / RESULTS).is_file() else None


def log_start(config: RunConfig, run: Path, module: TaggingModule, data: SegmentDataModule) -> None:
    """Say in a line what is about to be trained, and on several devices in another what they share."""
    batches = -(-len(data.train_dataloader()) // config.world)
    if (limit := config.trainer.limit_train_batches) is not None:
        batches = min(batches, limit)
    log.info(
        "%s: %s, %s parameters, %d tags, split %s, %s an epoch, on %s",
        run,
        ", ".join(Description.read(module.description, str(run)).words),
        f"{count_parameters(module.network):,}",
        len(data.selection.tags),
        data.selection.split,
        counted(batches, "batch", "batches"),
        describe(device_and_precision(config.trainer)[0]),
    )
    if config.world > 1:
        log.info(
            "%d devices, with batches of %d segments each: %d segments a step",
            *(config.world, config.batch_size, config.world * config.batch_size),
        )


def fit_and_test(
    config: RunConfig,
    run: Path,
    last: Path | None,
    module: TaggingModule,
    data: SegmentDataModule,
    lightning_loggers: list[Logger],
    cell: str | None = None,
) -> tuple[Trainer, EpochTable]:
    """Train, and test the weights that count; return what has done so, and the table of its epochs.

    ``last`` is the checkpoint to go on from, ``cell`` what the bar calls a job of a multirun.
    """
    settings = dict(config.schedule)
    if config.scale_rate:
        settings["learning_rate"] *= config.batch_size * config.world / PAPER_BATCH
    schedule = make_schedule(settings)
    table = EpochTable(run / "metrics.csv", echo=not watched())
    keeper = RunCheckpoint(run, tested=schedule.tested, every_minutes=config.trainer.save_every_minutes)
    log_seconds = None if watched() else LOG_SECONDS
    time_left = TimeLeft(schedule, config.trainer.max_epochs, config.width, log_seconds=log_seconds)
    bar = [TimedBar(time_left, cell)] if watched() else []
    averaging = make_averaging(config.average, config.trainer.max_epochs)
    trainer = make_trainer(
        config,
        run,
        max_epochs=config.trainer.max_epochs or -1,
        limit_train_batches=config.trainer.limit_train_batches,
        callbacks=[schedule, table, keeper, time_left, *bar, *averaging],
        logger=lightning_loggers,
    )
    if last is not None:
        log.info("%s goes on where it stopped", run)
    if last is None or not finished(last, config.trainer.max_epochs, table):
        with logging_redirect_tqdm():  # lines of the log go above the bar
            trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
    trainer.test(module, datamodule=data, ckpt_path=run / BEST, weights_only=True, verbose=False)
    if module.averaged is not None:
        log.info("tested: an average of weights, %s", module.averaged)
    return trainer, table


def record(
    config: RunConfig,
    run: Path,
    module: TaggingModule,
    data: SegmentDataModule,
    trainer: Trainer,
    table: EpochTable,
) -> Results:
    """Write down the predictions of a test; return the results."""
    assert module.test_scores is not None
    assert module.test_probabilities is not None
    selection, test = data.selection, data.selection.parts["test"]
    write_predictions(run, Predictions(test.clip_ids, selection.tags, test.labels, module.test_probabilities))
    return Results(
        model=config.model["name"],
        block=config.block["name"] if config.block else None,
        multi=config.multi,
        seed=config.seed,
        recipe=config.recipe,
        averaged=module.averaged,
        data=config.data.name,
        split=selection.split,
        split_hash=selection.split_hash,
        width=config.width,
        parameters=count_parameters(module.network),
        epochs=len(table.rows),
        train_seconds=table.seconds,
        val={"loss": min(row["val_loss"] for row in table.rows)},
        test=replace(module.test_scores, loss=float(trainer.callback_metrics["test/loss"])),
        segments_per_second=statistics.median(row["segments_per_second"] for row in table.rows),
        peak_memory_bytes=max(int(row["peak_memory_bytes"]) for row in table.rows),
        precision=str(trainer.precision),
        backend=str(module.plan),
        hardware=describe(device_and_precision(config.trainer)[0]),
        versions=versions(),
        config_hash=config_hash(config.plain),
    )
