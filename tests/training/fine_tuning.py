"""Tiny trainings that start from a trained model, on a store of twelve clips."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose
from torch import Tensor

from inference.known.files import file_of
from inference.known.files import weights as published_weights
from inference.models import checkpoint, model
from samplecnn.inference.bundle import write_bundle
from samplecnn.inference.known.importing import import_file
from samplecnn.runs.config import RunConfig
from samplecnn.runs.folder import load_model
from samplecnn.runs.results import Results
from samplecnn.training.config import started, validate
from samplecnn.training.job import train
from samplecnn.training.module import TaggingModule
from samplecnn.training.network import heard, make_module
from samplecnn.training.stores import make_data
from training.composing import composing
from training.stores import Clip, prepare_clips

TAGS = ["loud", "slow", "rare"]  # as the store has them


@dataclass(frozen=True)
class World:
    """A store, and tiny trainings on it."""

    root: Path

    def said(self, *overrides: str) -> list[str]:
        data = ["data=mtat", "data.name=tiny", f"data.root={self.root}", "logger=none", "fast=false"]
        small = ["trainer.accelerator=cpu", "trainer.precision=32", "batch_size=4", "trainer.max_epochs=1"]
        return [*data, *small, *overrides]

    def compose(self, *overrides: str) -> dict[str, Any]:
        said = self.said(*overrides)
        return started(validate(compose("train", overrides=said), overrides), overrides, Path)

    def train(self, run: Path, *overrides: str) -> Results:
        return train(self.compose(*overrides), run)

    def module(self, *overrides: str) -> TaggingModule:
        config = RunConfig.read(self.compose(*overrides), "here")
        return make_module(config, make_data(config, self.root / "tiny", *heard(config)).selection)


def write_world(root: Path) -> World:
    """Clips of one segment or two: eight to train on, two and two for the rest."""
    clips = [
        Clip(name, [1, n % 2, n % 5 == 0], (1 + n % 2) * 60_000, taps=1 + n % 4, seed=n)
        for n, name in enumerate("00000000ccdd")
    ]
    return World(prepare_clips(root, TAGS, clips).parent)


def train_source(world: World, run: Path) -> Path:
    """Train on the same data: its tags are the same."""
    with composing():
        world.train(run, "width=2", "block=res2", "multi=false")
    return run


def state(run: Path) -> dict[str, Tensor]:
    return load_model(run).network.state_dict()


def source(kind: str, tmp_path: Path, run: Path) -> Path:
    if kind == "run":
        return run
    if kind == "checkpoint":
        return checkpoint(tmp_path / "made.ckpt", tags=TAGS)
    folder = tmp_path / "bundle"
    if kind == "bundle":
        write_bundle(model(tmp_path, "rese2", tags=TAGS), folder, source="random")
        return folder
    file = tmp_path / "best_model.pth"
    file.write_bytes(file_of(published_weights("musicnn", len(TAGS))))
    write_bundle(import_file(file, TAGS).model, folder, source="random")
    return folder
