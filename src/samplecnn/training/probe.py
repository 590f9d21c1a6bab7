"""A probe: what a trained network knows of other tags, by a small classifier on its embeddings of a store.

It leaves a run folder as a training does: configuration, results, predictions, and a checkpoint of network
and classifier as one. As in a training, the examples are segments with the tags of their clips, and the test
is of the mean of the probabilities over a clip's segments: `samplecnn evaluate` gives the same numbers again.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from samplecnn import threads
from samplecnn.data.batches import evenly_spaced
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.data.datasets import DATASETS
from samplecnn.data.store import Part, Store
from samplecnn.errors import UserError
from samplecnn.files import BusyError, locked, remove_empty
from samplecnn.hardware import describe
from samplecnn.memory import keep_freed_memory
from samplecnn.model.architecture import Blocks, Networks
from samplecnn.model.levels import Levels
from samplecnn.model.network import use
from samplecnn.model.probe import Probe
from samplecnn.runs.checkpoint import DESCRIPTION, NETWORK, STATE
from samplecnn.runs.config import RunConfig, config_hash, write_config
from samplecnn.runs.description import Description, ProbeDescription
from samplecnn.runs.folder import BEST, Model
from samplecnn.runs.metrics import ClipAverage, score
from samplecnn.runs.predictions import Predictions, write_predictions
from samplecnn.runs.results import Results, versions, write_results
from samplecnn.text import printable
from samplecnn.training.backends.choice import test_backend
from samplecnn.training.checkpoint_files import WholeFiles
from samplecnn.training.classifiers import HIDDEN, KINDS, Fitted, Labelled
from samplecnn.training.features import store_features
from samplecnn.training.init import read_model
from samplecnn.training.stores import find_store
from samplecnn.training.trainer import device_and_precision

log = logging.getLogger(__name__)

MOST_EXAMPLES = 50_000  # segments of a part: they are in memory, in double precision


def probe(
    store: Path,
    model: Path,
    out: Path,
    *,
    name: str,
    source: str | None = None,
    license_id: str | None = None,
    kind: str = "linear",
    levels: Sequence[str] | None = None,
    split: str | None = None,
    top: int | None = 50,
    seed: int = 0,
    blocks: Blocks | None = None,
    networks: Networks | None = None,
) -> Results:
    """Fit and test a classifier on a model's embeddings of a store, and write the run folder ``out``.

    ``name`` is what the model is called, ``source`` where its weights come from and ``license_id`` their
    licence, ``kind`` one of `KINDS`. ``split`` is by default the first of the store, ``top`` how many of its
    most frequent tags are learned. Embeddings are kept in the folder above ``out``. Raises UserError where
    ``out`` is there and for a model that is a probe, and as `samplecnn.runs.folder.load_model`,
    `SegmentDataModule` and `samplecnn.model.levels.Levels` do.
    """
    loaded, weights = read_model(model, (blocks or {}, networks or {}))
    if loaded.description.probe is not None:
        raise UserError(f"{name} is a probe, which has no levels of its own: probe its network")
    data = _open(store, loaded, name, split, top)
    reader = Levels(loaded.network, levels)
    described = ProbeDescription(
        levels=list(reader.names),
        hidden=HIDDEN if kind == "mlp" else None,
        tags=len(loaded.tags),
        of=printable(name),
        weights=weights,
        source=source,
        license=license_id,
    )
    config = _config(described, data, top, seed)
    keep_freed_memory()
    threads.use_available()
    device, _ = device_and_precision(config.trainer)
    use(loaded.network.to(device), test_backend(config.fast))
    with _new_folder(out):
        features = store_features(loaded.network, weights, data, reader, out.parent, device)
        train, valid = (_examples(data.parts[part], features[part]) for part in ("train", "valid"))
        began = time.monotonic()
        fitted = KINDS[kind](train, valid, seed)
        seconds = time.monotonic() - began
        network = Probe(loaded.network, reader.names, tags=len(data.tags), hidden=described.hidden).eval()
        network.take(fitted.layers)
        predictions = _test(network.to(device), device, data, features["test"])
        results = _results(config, data, described, fitted, predictions, seconds)
        write_config(out, config)
        _write_model(out, network, loaded.description, described, data)
        write_predictions(out, predictions)
        write_results(out, results)
    return results


@contextmanager
def _new_folder(out: Path) -> Iterator[None]:
    """Make a folder, or take one that is empty, and hold it; it goes if nothing comes into it."""
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    lock = out.absolute().with_name(f".{out.name}.lock")
    taken = UserError(f"{out} is there already: name another folder with --out")
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(lock))
        except BusyError as error:
            raise taken from error
        stack.callback(remove_empty, out)
        stack.callback(lock.unlink, missing_ok=True)
        if out.is_file() or (out.is_dir() and any(out.iterdir())):
            raise taken
        out.mkdir(exist_ok=True)
        yield


def _open(store: Path, model: Model, name: str, split: str | None, top: int | None) -> SegmentDataModule:
    """Return the segments of a store as the model hears them; log what makes the scores worth less."""
    data = SegmentDataModule(
        store,
        split=split or next(iter(Store.open(store).splits)),
        top=top,
        sample_rate=model.sample_rate,
        segment_samples=model.segment_samples,
    )
    trained, opened = model.description, data.store
    if trained.data == opened.name and trained.split not in (None, data.selection.split):
        log.warning(
            "%s was trained on split %s of this data set: it may have heard clips of this test part",
            *(name, trained.split),
        )
    again = find_store(opened.path.resolve().parent, opened.name, model.sample_rate)
    if again.resolve() != opened.path.resolve():
        log.warning("`samplecnn evaluate` will test the probe on %s, and not on %s", again, opened.path)
    return data


def _examples(part: Part, embeddings: NDArray[np.float32]) -> Labelled:
    """Return embeddings of segments and the labels of their clips; of very many, evenly spaced ones."""
    chosen = evenly_spaced(part.segment_clip, max(1, MOST_EXAMPLES // len(part.clip_ids)))
    return embeddings[chosen], part.labels[part.segment_clip[chosen]]


@torch.inference_mode()
def _test(
    network: Probe, device: torch.device, data: SegmentDataModule, embeddings: NDArray[np.float32]
) -> Predictions:
    """Return the predictions for the test clips, by the embeddings of their segments.

    Batches are those of `samplecnn evaluate`, so that sums are rounded in the same way.
    """
    part = data.parts["test"]
    average = ClipAverage(len(part.clip_ids), len(data.tags))
    for chosen in data.in_order("test", device):
        heard = torch.tensor(embeddings[chosen], device=device)  # a copy, in memory aligned as PyTorch's own
        average.update(network.classify(heard).sigmoid().cpu(), torch.from_numpy(part.segment_clip[chosen]))
    return Predictions(part.clip_ids, data.tags, part.labels, average.compute())


def _write_model(
    out: Path, network: Probe, heard: Description, probe: ProbeDescription, data: SegmentDataModule
) -> None:
    """Write the checkpoint; ``heard`` is what the network was before it had a probe."""
    description = replace(
        heard,
        tags=data.tags,
        data=data.store.name,
        split=data.selection.split,
        split_hash=data.selection.split_hash,
        probe=probe,
    )
    state = {f"{NETWORK}{key}": tensor.cpu() for key, tensor in network.state_dict().items()}
    WholeFiles().save_checkpoint({DESCRIPTION: description.as_dict(), STATE: state}, out / BEST)


def _config(described: ProbeDescription, data: SegmentDataModule, top: int | None, seed: int) -> RunConfig:
    """Return the configuration of the run: what a report has to know of it."""
    store = data.store
    of_data: dict[str, Any] = {
        "name": store.name,
        "split": data.selection.split,
        "top": None if top is None or top >= len(store.tags) else top,
        "root": str(store.path.resolve().parent),
    }
    if store.name in DATASETS:
        of_data["catalog"] = {"_target_": DATASETS[store.name].catalog}
    plain = {
        "model": {"name": described.name, "of": described.of, "levels": " ".join(described.levels)},
        "dropout": 0.0,
        "weight_decay": 0.0,
        "batch_size": max(2, len(data.parts["train"].clip_ids)),
        "seed": seed,
        "data": of_data,
        "trainer": {"precision": "32"},
        "schedule": {"examples": "segments"},  # earlier probes had means over clips, and are not comparable
    }
    return RunConfig.read(plain, "the probe's configuration")


def _results(
    config: RunConfig,
    data: SegmentDataModule,
    described: ProbeDescription,
    fitted: Fitted,
    predictions: Predictions,
    seconds: float,
) -> Results:
    return Results(
        model=described.name,
        probe_of=f"{described.of}, weights {described.weights[:16]}",
        seed=config.seed,
        data=config.data.name,
        split=data.selection.split,
        split_hash=data.selection.split_hash,
        parameters=fitted.parameters,
        epochs=fitted.passes,
        train_seconds=seconds,
        val={"loss": fitted.loss, **fitted.chosen},
        test=score(predictions.tags, predictions.labels, predictions.probabilities),
        precision="32-true",
        hardware=describe(torch.device("cpu")),
        versions={**versions(), "weights": described.weights[:16]},
        config_hash=config_hash(config.plain),
    )
