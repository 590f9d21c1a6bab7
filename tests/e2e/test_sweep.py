"""Multiruns from the command line."""

import json

import pytest

import wandb_files
from e2e.conftest import TINY, World
from samplecnn.model.blocks import BLOCKS


def test_all_blocks_with_and_without_multi(world: World) -> None:
    """Every block at a tiny setting: results, W&B runs and the table at the end."""
    sweep = world.folder / "sweeps" / "grid"
    done = world.run(
        "train.py",
        "-m",
        f"block={','.join(BLOCKS)}",
        "multi=true,false",
        *world.data,
        *TINY,
        "trainer.max_epochs=1",
        f"hydra.sweep.dir={sweep}",
    )
    runs = [path.parent for path in sweep.glob("*/results.json")]
    told = [json.loads((run / "results.json").read_text()) for run in runs]
    assert {(t["block"], t["multi"]) for t in told} == {(b, m) for b in BLOCKS for m in (True, False)}
    assert len(told) == 2 * len(BLOCKS)

    ids, names = set(), set()
    for run, results in zip(runs, told, strict=True):
        (recorded,) = wandb_files.read_all(run)
        assert recorded.group == "grid"
        assert recorded.exit_code == 0
        assert recorded.config["block"]["name"] == results["block"]
        assert recorded.config["multi"] == results["multi"]
        assert any("val/loss" in row for row in recorded.history)
        assert recorded.summary["test/roc_auc"] == pytest.approx(results["test"]["roc_auc"])
        ids.add(recorded.id)
        names.add(recorded.name)
        assert recorded.name == f"block={results['block']},multi={results['multi']}"
    assert len(ids) == len(names) == len(told)
    table = done.stdout[done.stdout.rindex("test ROC-AUC") :]
    for results in told:
        assert f"block={results['block']} multi={results['multi']}" in table
        assert f"{results['test']['roc_auc']:.4f}" in table


def test_a_failing_job_takes_no_other_with_it(world: World) -> None:
    sweep = world.folder / "sweeps" / "failing"
    done = world.run(
        "train.py",
        "-m",
        "data.split=clean,nonsense,pons",
        *world.data,
        *TINY,
        "trainer.max_epochs=1",
        "logger=none",
        f"hydra.sweep.dir={sweep}",
        status=1,
    )
    finished = {path.parent.name for path in sweep.glob("*/results.json")}
    assert finished == {"0", "2"}
    table = done.stdout[done.stdout.rindex("test ROC-AUC") :]
    assert "data.split=nonsense" in table
    assert "not finished" in table
    assert "the same command again" in done.stderr
    assert "'nonsense'" in done.stderr
    assert "allowed are clean, pons" in done.stderr


def test_an_impossible_cell_stops_the_sweep_before_it_starts(world: World) -> None:
    before = set(world.folder.rglob("*-sweep"))
    done = world.run("train.py", "-m", "block.alpha=16,-1", *world.data, *TINY, status=1)
    assert "block.alpha=-1: must be a number greater than 0" in done.stderr
    assert set(world.folder.rglob("*-sweep")) == before


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["block=glob(*)"], "a value is needed for block._target_"),  # of block=custom
        (["seed=shuffle(0,1)"], "leave out the shuffling"),
        (["seed=0,1", "~hydra.callbacks.sweep"], "was not planned"),
    ],
)
def test_what_cannot_be_planned_is_not_trained(world: World, overrides: list[str], words: str) -> None:
    sweep = world.folder / "sweeps" / "unplanned"
    done = world.run("train.py", "-m", *overrides, *world.data, *TINY, f"hydra.sweep.dir={sweep}", status=1)
    assert words in done.stderr
    assert not list(sweep.rglob("config.yaml"))
