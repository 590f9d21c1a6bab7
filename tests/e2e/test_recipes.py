"""Recipes as users have them: averages that are stopped, resumed, tested and tested again; the experiment."""

import csv
import json
import signal

import pytest
import torch

from e2e.conftest import ROOT, TINY, World
from e2e.test_kills import Training, assert_same
from e2e.test_ranks import Together
from samplecnn.runs.results import read_results
from samplecnn.training.evaluate import open_subject

RECIPES = [path.stem for path in (ROOT / "conf" / "recipe").glob("*.yaml")]


@pytest.mark.parametrize(
    ("average", "settings", "averaged"),
    [
        ("EMA", ["average=ema", "optimizer=adamw", "schedule=cosine"], "ema of 27 steps"),
        ("SWA", ["average=swa", "average.start=0", "label_smoothing=0.1"], "swa of "),
    ],
)
def test_stopped_within_an_epoch(world: World, average: str, settings: list[str], averaged: str) -> None:
    """It ends in the same weights and averages, bit by bit; what is tested is what best.ckpt holds."""
    outcomes, averages = [], []
    for name in ("whole", "stopped"):
        training = Training(world, world.folder / "runs" / f"{average}-{name}", *settings)
        if name == "stopped":
            training.stop_within_second_epoch(signal.SIGTERM)
        training.finish()
        outcomes.append(training.outcome())
        last = torch.load(training.run / "checkpoints/last.ckpt", weights_only=True)
        averages.append(last["callbacks"][average])
    assert_same(*outcomes)
    assert averages[0]["count"] == averages[1]["count"] > 1
    for name, tensor in averages[0]["weights"].items():
        assert torch.equal(tensor, averages[1]["weights"][name]), name
    best, trained = (outcomes[0][kind]["network.stem_conv.weight"] for kind in ("best", "last"))
    assert not torch.equal(best, trained)
    results = read_results(training.run)
    assert results.averaged is not None
    assert results.averaged.startswith(averaged)
    assert f"tested: an average of weights, {averaged}" in training.said.read_text()
    again = open_subject(training.run).scores()
    assert (again.roc_auc, again.per_tag) == (results.test.roc_auc, results.test.per_tag)


@pytest.mark.slow
@pytest.mark.parametrize("average", ["ema", "swa"])
def test_on_two_devices(world: World, average: str) -> None:
    """One average, whichever process is asked; stopped and resumed, to the same end."""
    settings = [f"average={average}", "schedule=onecycle", "trainer.save_every_minutes=0.0005"]
    settings += ["average.start=0"] if average == "swa" else []
    outcomes = []
    for name in ("whole", "stopped"):
        training = Together(world, world.folder / "runs" / f"two-{average}-{name}", *settings)
        if name == "stopped":
            training.stop_ranks_within_second_epoch(2)
        training.finish_ranks(2)
        outcome = training.outcome()
        # Without those of the training: a mean over the ranks that is taken in two parts rounds otherwise.
        outcome["losses"] = [row[1:] for row in outcome["losses"]]
        outcomes.append(outcome)
    assert_same(*outcomes)
    results = read_results(training.run)
    again = open_subject(training.run).scores()
    assert results.averaged is not None
    assert (again.roc_auc, again.per_tag) == (results.test.roc_auc, results.test.per_tag)


@pytest.mark.slow
def test_the_experiment_and_its_report(world: World) -> None:
    """All recipes, a moment each; run again, nothing is trained."""
    said = ["-m", "experiment=recipes", "seed=0,1", *world.data, *TINY, "trainer.max_epochs=1", "logger=none"]
    world.run("train.py", *said)
    sweep = world.folder / "runs" / "recipes-mini"
    again = world.run("train.py", *said).stdout
    assert again.count("has finished before") == 2 * len(RECIPES)
    listed = world.run("samplecnn", "runs", sweep, "--json").stdout.splitlines()
    recipes = [json.loads(line)["recipe"] for line in listed]
    assert {recipe: recipes.count(recipe) for recipe in recipes} == dict.fromkeys(RECIPES, 2)
    averaged = {path.parent.name: read_results(path.parent).averaged for path in sweep.glob("*/results.json")}
    assert averaged["recipe=ema,seed=0"] == "ema of 3 steps"
    assert averaged["recipe=swa,seed=1"] == "swa of 1 epoch"
    assert averaged["recipe=base,seed=0"] is None
    page = world.run("samplecnn", "report", sweep, "--out", world.folder / "report", "--draws", "20").stdout
    assert "Recipes" in page
    with (world.folder / "report" / "recipes.csv").open(newline="") as file:
        rows = {row["recipe"]: row for row in csv.DictReader(file)}
    assert rows.keys() == set(RECIPES)
    assert {row["seeds"] for row in rows.values()} == {"2"}
    assert all(row["difference"] for recipe, row in rows.items() if recipe != "base")
