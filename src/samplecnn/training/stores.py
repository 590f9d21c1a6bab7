"""The store and the batches that a configuration asks for."""

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from samplecnn.data.catalog import Catalog
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.data.datasets import Dataset, find
from samplecnn.data.prepare import prepare, shard_count
from samplecnn.data.resampling import SAMPLE_RATE
from samplecnn.data.store import MANIFEST, Store, store_folder
from samplecnn.overrides import command
from samplecnn.runs.config import RunConfig
from samplecnn.training.config import ConfigError

log = logging.getLogger(__name__)


def prepare_store(
    data: Mapping[str, Any],
    *,
    rate: int = SAMPLE_RATE,
    workers: int | None = None,
    shard: int | None = None,
    fetch: bool = False,
) -> Path:
    """Prepare the store that the ``data`` configuration names, or one shard of it; return its folder.

    With ``fetch``, a data set that can be downloaded is, where no raw audio is given. Raises ConfigError
    where there is neither a finished store nor raw audio to make it from. Beside a finished store, raw audio
    may be gone, deleted since or on another machine; this is logged.
    """
    path = store_folder(data["root"], data["name"], rate)
    known = find(data["catalog"]["_target_"])
    finished, raw = (path / MANIFEST).is_file(), data["raw"]
    options = dict(data["catalog"])
    if raw is not None and "raw" in options:  # which a resumed run has as it was typed then
        options["raw"] = raw
    if not finished and raw is None:
        if not (fetch and known and known.fetch):
            raise ConfigError(_how_to_prepare(data["name"], path, known, rate))
        options["raw"] = path.parent / "raw" / data["name"]
        resolve_name(known.fetch)(options["raw"])
    if not finished or (raw is not None and Path(raw).is_dir()):
        # Leaves a store of the same catalogue alone, and refuses one of another.
        catalog = make_catalog(options)
        prepare(catalog, data["root"], rate=rate, workers=workers, shard=shard)
        if shard is not None:
            log.info("shard %d is prepared, one of %d (from 0)", shard, shard_count(catalog))
    elif raw is not None and Path(raw) != path.parent / "raw" / data["name"]:  # which nobody typed
        log.warning("data.raw=%s is no folder here: store %s is whole, and used as it is", raw, path)
    return path


def _how_to_prepare(name: str, path: Path, known: Dataset | None, rate: int) -> str:
    said = f"{command('prepare')} data={known.name if known else name}"
    if known and known.name != name:
        said += f" data.name={name}"
    if rate != SAMPLE_RATE:
        said += f" rate={rate}"
    title = known.title if known else name
    there = f"there is no prepared store {path}."
    if path.is_dir():
        there = f"store {path} is not finished: the command that began to prepare it goes on."
    if known and known.fetch:
        return (
            f"{there} `{said}` downloads {title} and prepares it; `{said} data.raw=DIR` takes files that you"
            " have"
        )
    return f"{there} Give the folder with the audio and annotations of {title}: {said} data.raw=DIR"


def make_catalog(options: Mapping[str, Any]) -> Catalog:
    """Call the function that ``_target_`` names with the other options.

    Raises ConfigError where there is no such function or option, and what the function raises.
    """
    target, others = options["_target_"], {key: value for key, value in options.items() if key != "_target_"}
    known = find(target)
    try:
        function = resolve_name(known.catalog if known else target)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"data.catalog._target_={target} cannot be loaded ({error}): it has to name a function as"
            " module.function, in a module that Python finds from here"
        ) from error
    try:
        inspect.signature(function).bind(**others)
    except TypeError as error:
        raise ConfigError(f"data.catalog: {target} {error}") from error
    made = function(**others)
    if not isinstance(made, Catalog):
        raise ConfigError(f"data.catalog._target_={target} returns {type(made).__name__}, not a Catalog")
    return made


def warn_of_top(store: Store, top: int | None) -> None:
    """Log that ``data.top`` is more than the store has."""
    if top is not None and top > (count := len(store.tags)):
        log.warning(
            "data.top=%d: store %s has %d tags, and all are used (allowed are 1 to %d, or null for all)",
            *(top, store.path, count, count),
        )


def describe(store: Store, data: Mapping[str, Any]) -> list[str]:
    """Say what a prepared store holds under the ``data`` configuration, a line each."""
    warn_of_top(store, top := data["top"])
    tags = f"top {min(top, len(store.tags))}" if top else f"all {len(store.tags)}"
    known = find(data["catalog"]["_target_"])
    return [
        f"{store.path}: {len(store.clip_ids)} clips, {len(store.tags)} tags, {len(store.skipped)} skipped",
        *(
            f"split {name}, {tags} tags: clips {train:,} train, {valid:,} valid, {test:,} test"
            for name, (train, valid, test) in store.count_clips(top).items()
        ),
        *(resolve_name(known.compare)(store) if known and known.compare else ()),
    ]


def find_store(root: str | Path, name: str, rate: int) -> Path:
    """Return the folder of a data set's store at a rate in Hz; where there is none, that of another rate."""
    wanted = store_folder(root, name, rate)
    if (wanted / MANIFEST).is_file():
        return wanted
    stores = {SAMPLE_RATE: store_folder(root, name)}
    for path in Path(root).glob(f"{name}-*"):
        if (behind := path.name.removeprefix(f"{name}-")).isdecimal():
            stores[int(behind)] = path
    finished = {other: path for other, path in stores.items() if (path / MANIFEST).is_file()}
    if not finished:
        return wanted
    best = max(finished)
    log.info(
        "there is no store %s (%s rate=%d makes it): %s is resampled from %d Hz on the device",
        *(wanted, command("prepare"), rate, finished[best], best),
    )
    return finished[best]


def training_store(data: Mapping[str, Any], rate: int) -> Path:
    """Return the store that a training reads, prepared if it is missing and there is raw audio.

    Without raw audio a store of another rate serves. Raises ConfigError where there is none either.
    """
    if data["raw"] is None and ((found := find_store(data["root"], data["name"], rate)) / MANIFEST).is_file():
        return found
    return prepare_store(data, rate=rate)


def make_data(config: RunConfig, path: Path, rate: int, samples: int) -> SegmentDataModule:
    """Return the batches that the configuration asks for: segments of ``samples`` at ``rate`` Hz."""
    data = config.data
    made = SegmentDataModule(
        path,
        split=data.split,
        top=data.top,
        batch_size=config.batch_size,
        seed=config.seed,
        sample_rate=rate,
        segment_samples=samples,
        train_clips=data.train_clips,
        train_segments=data.train_segments,
        random_chunks=data.random_chunks,
        test_segments=data.test_segments,
        resident=data.resident,
    )
    warn_of_top(made.store, data.top)
    return made
