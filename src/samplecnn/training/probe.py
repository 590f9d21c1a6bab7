"""A probe: what a trained network knows of other tags, by a small classifier on its embeddings of a store.

It leaves a run folder with configuration, results and predictions, which reports show beside others.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.data.datasets import DATASETS
from samplecnn.data.store import Store
from samplecnn.errors import UserError
from samplecnn.hardware import describe
from samplecnn.model.architecture import Blocks, Networks
from samplecnn.runs.config import RunConfig, config_hash, write_config
from samplecnn.runs.folder import load_model
from samplecnn.runs.metrics import score
from samplecnn.runs.predictions import Predictions, write_predictions
from samplecnn.runs.results import Results, versions, write_results
from samplecnn.runs.weights import file_sha256
from samplecnn.training.classifiers import KINDS, Fitted
from samplecnn.training.features import store_features

log = logging.getLogger(__name__)


def probe(
    store: Path,
    model: Path,
    out: Path,
    *,
    name: str,
    kind: str = "linear",
    levels: Sequence[str] | None = None,
    split: str | None = None,
    top: int | None = 50,
    seed: int = 0,
    blocks: Blocks | None = None,
    networks: Networks | None = None,
) -> Results:
    """Fit and test a classifier on a model's embeddings of a store, and write the run folder ``out``.

    ``name`` is what the model is called, ``kind`` one of `KINDS`. ``split`` is by default the first of the
    store, ``top`` how many of its most frequent tags are learned. Embeddings are kept in the folder
    above ``out``. Raises UserError where ``out`` is there, and as `samplecnn.runs.folder.load_model`,
    `SegmentDataModule` and `samplecnn.training.features.store_features` do.
    """
    if out.exists():
        raise UserError(f"{out} is there already: name another folder with --out")
    loaded = load_model(model, blocks, networks)
    data = SegmentDataModule(
        store,
        split=split or next(iter(Store.open(store).splits)),
        top=top,
        sample_rate=loaded.sample_rate,
        segment_samples=loaded.segment_samples,
    )
    trained_on = loaded.description
    if trained_on.data == data.store.name and trained_on.split not in (None, data.selection.split):
        log.warning(
            "%s was trained on split %s of this data set: it may have heard clips of this test part",
            *(name, trained_on.split),
        )
    features, names = store_features(loaded, data, levels, out.parent)
    train, valid = ((features[part], data.parts[part].labels) for part in ("train", "valid"))
    began = time.monotonic()
    fitted = KINDS[kind](train, valid, seed)
    seconds = time.monotonic() - began
    described = {"name": f"{kind}-probe", "of": name, "levels": " ".join(names)}
    config = _config(described, data, top, seed)
    test = data.parts["test"]
    predictions = Predictions(test.clip_ids, data.tags, test.labels, fitted.predict(features["test"]))
    weights = file_sha256(loaded.checkpoint)[:16]
    results = _results(config, data, fitted, predictions, seconds, weights)
    out.mkdir(parents=True)
    write_config(out, config)
    write_predictions(out, predictions)
    write_results(out, results)
    return results


def _config(model: dict[str, Any], data: SegmentDataModule, top: int | None, seed: int) -> RunConfig:
    """Return the configuration of the run: what a report has to know of it."""
    store = data.store
    of_data: dict[str, Any] = {
        "name": store.name,
        "split": data.selection.split,
        "top": top,
        "root": str(store.path.resolve().parent),
    }
    if store.name in DATASETS:
        of_data["catalog"] = {"_target_": DATASETS[store.name].catalog}
    plain = {
        "model": model,
        "dropout": 0.0,
        "weight_decay": 0.0,
        "batch_size": max(2, len(data.parts["train"].clip_ids)),
        "seed": seed,
        "data": of_data,
        "trainer": {"precision": "32"},
        "schedule": {},
    }
    return RunConfig.read(plain, "the probe's configuration")


def _results(
    config: RunConfig,
    data: SegmentDataModule,
    fitted: Fitted,
    predictions: Predictions,
    seconds: float,
    weights: str,
) -> Results:
    return Results(
        model=config.model["name"],
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
        versions={**versions(), "weights": weights},
        config_hash=config_hash(config.plain),
    )
