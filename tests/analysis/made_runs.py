"""Run folders without training: composed configurations, and predictions of a known quality.

A model's score of a clip for a tag is normal noise, shifted by ``separation`` where the clip has the tag: its
true ROC-AUC is Phi(separation / sqrt 2). Part of the noise belongs to clip and tag, and is the same for all
models, as hard clips are hard for all.
"""

import csv
import json
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any
from zlib import crc32

import numpy as np
import yaml
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from omegaconf import OmegaConf

from samplecnn.runs.config import config_hash
from samplecnn.runs.metrics import score
from samplecnn.training.config import register, validate

CONF = Path(__file__).parents[2] / "conf"
SECONDS = {"basic": 10.0, "se": 10.8, "res1": 11.0, "res2": 17.0, "rese1": 12.0, "rese2": 18.0}


def true_auc(separation: float) -> float:
    """Return the ROC-AUC of scores that are normal, with unit variance, and so far apart."""
    return NormalDist().cdf(separation / 2**0.5)


def labels(
    clips: int, tags: int, seed: int = 0, shares: tuple[float, float] = (0.4, 0.1)
) -> NDArray[np.uint8]:
    """Return labels of correlated tags, whose expected shares of the clips go from the one to the other."""
    rng = np.random.default_rng(seed)
    threshold = [NormalDist().inv_cdf(1 - share) for share in np.geomspace(*shares, tags)]
    mixture = rng.normal(size=(3, tags))
    mixture /= np.linalg.norm(mixture, axis=0)
    latent = 0.8 * rng.normal(size=(clips, 3)) @ mixture + 0.6 * rng.normal(size=(clips, tags))
    return np.asarray(latent > threshold, np.uint8)


def probabilities(
    truth: NDArray[np.uint8], separation: float, seed: int, common: float = 0.8
) -> NDArray[np.float32]:
    """Return what a model of the given quality says; ``common`` is the share of noise common to all."""
    shared = np.random.default_rng(len(truth)).normal(size=truth.shape)
    own = np.random.default_rng(seed).normal(size=truth.shape)
    scores = separation * truth + common**0.5 * shared + (1 - common) ** 0.5 * own - 2
    return (1 / (1 + np.exp(-scores))).astype(np.float32)


@cache
def composed(overrides: tuple[str, ...]) -> str:
    """Return the configuration of ``train.py OVERRIDES`` as YAML."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_yaml(OmegaConf.create(validate(compose("train", overrides=list(overrides)))))


def make_run(
    folder: Path,
    *overrides: str,
    seed: int = 0,
    truth: NDArray[np.uint8] | None = None,
    separation: float = 2.0,
    noise: int | None = None,
    epochs: int = 5,
    **results: Any,
) -> Path:
    """Write a finished run: ``overrides`` as on the command line, ``results`` where they are to be others."""
    config: Any = {**yaml.safe_load(composed(overrides)), "seed": seed}
    truth = labels(60, 8, shares=(0.4, 0.2)) if truth is None else truth
    model, block, multi = config["model"]["name"], config.get("block", {}).get("name"), config.get("multi")
    said = probabilities(truth, separation, hash_of(folder) if noise is None else noise)
    tags = tuple(f"tag {i}" for i in range(truth.shape[1]))
    scores = score(tags, truth, said)
    seconds = SECONDS.get(block or model, 15.0) * (1.0 if multi else 0.95)
    written = {
        **({} if block else {"model": model}),
        "block": block,
        "multi": multi,
        "seed": seed,
        "data": config["data"]["name"],
        "split": config["data"]["split"],
        "split_hash": f"{len(truth):x}{truth.shape[1]:x}".ljust(64, "a"),
        "width": config.get("width"),
        "parameters": 1_000_000 + 1000 * len(block or model),
        "epochs": epochs,
        "train_seconds": seconds * epochs,
        "val": {"loss": 0.3},
        "test": {"loss": 0.3, **scores.as_dict()},
        "precision": "bf16-mixed",
        "hardware": "a processor, 1 threads",
        "versions": {"samplecnn": "0.1.0", "torch": "2.11.0"},
        "config_hash": config_hash(config),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    (folder / "results.json").write_text(json.dumps({**written, **results}, indent=1))
    np.savez_compressed(
        folder / "predictions.npz",
        clip_ids=np.array([f"clip {i}" for i in range(len(truth))]),
        tags=np.array(tags),
        labels=truth,
        probabilities=said,
    )
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["epoch", "step", "learning_rate", "train_loss", "val_loss", "val_roc_auc", "seconds"]
        )
        for epoch in range(epochs):
            loss = 0.3 + 0.4 * 0.6**epoch + 0.001 * seed
            writer.writerow(
                [
                    epoch,
                    epoch * 10,
                    0.01,
                    loss - 0.05,
                    loss,
                    (scores.roc_auc or 0) - 0.2 * 0.6**epoch,
                    seconds,
                ]
            )
    return folder


def hash_of(folder: Path) -> int:
    """Return a number for a folder's name, the same in every process."""
    return crc32("/".join(folder.parts[-2:]).encode())
