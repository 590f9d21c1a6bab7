"""A small prepared store, and a run on it whose network was not trained."""

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Clip:
    """Noise, in one of the folders by which MagnaTagATune's clips are split."""

    folder: str
    tags: Sequence[int]  # a 0 or 1 for each
    samples: int
    taps: int  # of a mean over so many samples: its colour
    seed: int


def prepare_clips(folder: Path, tags: Sequence[str], clips: Sequence[Clip], rate: int = RATE) -> Path:
    """Prepare the store ``tiny`` below a folder, of clips at ``rate`` Hz in ``raw`` there."""
    raw = folder / "raw"
    rows = ["\t".join(["clip_id", *tags, "mp3_path"])]
    for number, clip in enumerate(clips):
        path = f"{clip.folder}/{number}.wav"
        rows.append("\t".join(f'"{cell}"' for cell in (number, *map(int, clip.tags), path)))
        (raw / "mp3" / clip.folder).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(clip.seed).normal(scale=0.1, size=clip.samples)
        heard = np.convolve(noise, np.ones(clip.taps) / 8, mode="same")
        soundfile.write(raw / "mp3" / path, heard, rate)
    (raw / "annotations_final.csv").write_text("\n".join(rows) + "\n")
    return prepare(mtat.catalog(raw, "tiny"), folder / "stores", workers=1, progress=False)


def write_store(folder: Path, *, changed: str = "") -> Path:
    """Prepare clips of a second or two with three tags; those in the folders ``changed`` differ."""
    clips = []
    for number, name in enumerate(FOLDERS):
        other = name in changed
        # As many clips have each tag as before: other counts would be other tags.
        first, count = FOLDERS.index(name), FOLDERS.count(name)
        source = first + (number - first + other) % count
        labels = [source % 3 > 0, source % 2 == 1, source % 5 < 2]
        taps, seed = 1 + 2 * number % 7 + other, number + 100 * other
        clips.append(Clip(name, labels, (1 + number % 2) * 60_000, taps, seed))
    return prepare_clips(folder, TAGS, clips)


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
