"""A small prepared store, and a run on it whose network was not trained."""

from pathlib import Path

import numpy as np
import soundfile
import yaml
from omegaconf import OmegaConf

from analysis.made_runs import composed
from inference.models import checkpoint
from samplecnn.data.datasets import mtat
from samplecnn.data.prepare import prepare
from samplecnn.data.store import Store

RATE = 22_050
FOLDERS = "000000cccccdddddd"  # train, validation, test
TAGS = ("loud", "odd", "slow")  # in the order of a store's columns


def write_raw(raw: Path, *, changed: str = "") -> Path:
    """Write clips of a second or two with three tags; those in the folders ``changed`` differ."""
    rows = ["clip_id\tloud\todd\tslow\tmp3_path"]
    for number, folder in enumerate(FOLDERS):
        path = f"{folder}/{number}.wav"
        other = folder in changed
        # As many clips have each tag as before: other counts would be other tags.
        first, count = FOLDERS.index(folder), FOLDERS.count(folder)
        source = first + (number - first + other) % count
        labels = [source % 3 > 0, source % 2 == 1, source % 5 < 2]
        rows.append("\t".join(f'"{cell}"' for cell in (number, *map(int, labels), path)))
        (raw / "mp3" / folder).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number + 100 * other).normal(scale=0.1, size=(1 + number % 2) * 60_000)
        kernel = np.ones(1 + 2 * number % 7 + other) / 8
        soundfile.write(raw / "mp3" / path, np.convolve(noise, kernel, mode="same"), RATE)
    (raw / "annotations_final.csv").write_text("\n".join(rows) + "\n")
    return raw


def write_store(folder: Path, *, changed: str = "") -> Path:
    """Prepare the store ``tiny`` below a folder."""
    raw = write_raw(folder / "raw", changed=changed)
    return prepare(mtat.catalog(raw, "tiny"), folder / "stores", workers=1, progress=False)


def write_run(folder: Path, store: Path) -> Path:
    """Write a run folder without results, of a network that was never trained."""
    selection = Store.open(store).select("pons", None)
    config = yaml.safe_load(composed(("data=mtat", "fast=false", "trainer.precision=32"))) | {"width": 3}
    config["data"] |= {"name": "tiny", "root": str(store.parent), "top": None, "split": "pons"}
    checkpoint(
        folder / "checkpoints" / "best.ckpt",
        tags=list(selection.tags),
        split="pons",
        split_hash=selection.split_hash,
        data="tiny",
    )
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    return folder
