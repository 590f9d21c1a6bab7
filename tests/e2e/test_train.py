"""One training from the command line, and what it leaves behind."""

import csv
import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

import wandb_files
from e2e.conftest import ENDLESS, TINY, World
from held import Place, as_callback
from samplecnn.runs.folder import read_config


def results(run: Path) -> dict[str, object]:
    return json.loads((run / "results.json").read_text())


def test_the_ways_to_compute_are_tried_once(world: World) -> None:
    folder = world.folder / "tried"
    options = [*world.data, *TINY, "fast=auto", "logger=none", "trainer.max_epochs=1"]
    said = world.run("train.py", *options, f"hydra.run.dir={folder}").stdout
    assert "trying ways to compute on this machine" in said
    assert said.count("trying backend: ") == 3
    assert "left out" not in said
    backend = str(results(folder)["backend"])
    assert backend in said.partition("computing on backend: ")[2].partition(" (")[0]
    for memory in (world.folder / "home").rglob("backends.json"):
        memory.unlink()
    said = world.run("train.py", f"resume={folder}", "trainer.max_epochs=2").stdout
    assert f"computing on backend: {backend} (as before)" in said
    assert "trying" not in said


def epochs(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))


def weights(run: Path, which: str = "last") -> dict[str, torch.Tensor]:
    checkpoint = torch.load(run / "checkpoints" / f"{which}.ckpt", weights_only=True)
    return checkpoint["state_dict"]


def predictions(run: Path) -> dict[str, np.ndarray]:
    with np.load(run / "predictions.npz", allow_pickle=False) as file:
        return dict(file)


def test_the_run_folder_says_it_all(world: World, run: Path) -> None:
    config = read_config(run).plain
    assert config["block"]["name"] == "se"
    assert (config["seed"], config["width"], config["batch_size"]) == (3, 2, 23)
    told = results(run)
    expected = {"block": "se", "multi": True, "seed": 3, "data": "mini", "split": "clean", "epochs": 2}
    assert expected.items() <= told.items()
    assert isinstance(told["train_seconds"], float)
    assert told["train_seconds"] > 0
    rows = epochs(run)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert {"train_loss", "val_loss", "val_roc_auc", "learning_rate", "seconds"} <= rows[0].keys()
    assert min(float(row["val_loss"]) for row in rows) == pytest.approx(told["val"]["loss"])  # type: ignore[index]
    assert (run / "checkpoints" / "best.ckpt").is_file()
    assert (run / "checkpoints" / "last.ckpt").is_file()


def test_the_scores_are_those_of_the_predictions(run: Path) -> None:
    stored = predictions(run)
    told = json.loads((run / "results.json").read_text())["test"]
    clips, tags = stored["labels"].shape
    assert stored["probabilities"].shape == (clips, tags) == (len(stored["clip_ids"]), len(stored["tags"]))
    roc, pr = [], []
    for i, tag in enumerate(stored["tags"]):
        truth, guess = stored["labels"][:, i], stored["probabilities"][:, i]
        of_tag = told["per_tag"][str(tag)]
        assert of_tag["positives"] == truth.sum()
        if truth.min() == truth.max():
            assert of_tag["roc_auc"] is None
            assert tag in told["undefined"]
            continue
        roc.append(roc_auc_score(truth, guess))
        pr.append(average_precision_score(truth, guess))
        assert of_tag["roc_auc"] == pytest.approx(roc[-1], abs=1e-6)
        assert of_tag["pr_auc"] == pytest.approx(pr[-1], abs=1e-6)
    assert told["roc_auc"] == pytest.approx(np.mean(roc), abs=1e-6)
    assert told["pr_auc"] == pytest.approx(np.mean(pr), abs=1e-6)


def test_test_clips_come_from_test_directories(world: World, run: Path) -> None:
    manifest = json.loads((world.folder / "data" / "mini" / "manifest.json").read_text())
    clips = dict(zip(manifest["clips"]["id"], manifest["clips"]["path"], strict=True))
    assert {clips[clip][0] for clip in predictions(run)["clip_ids"]} <= set("def")


def test_recorded_by_weights_and_biases_without_a_login(run: Path) -> None:
    """What W&B stored, read back from its own file."""
    (recorded,) = wandb_files.read_all(run)
    assert recorded.project == "samplecnn"
    assert recorded.id == (run / "wandb_id.txt").read_text()
    assert recorded.exit_code == 0
    assert "seed=3" in recorded.name
    config = read_config(run).plain
    assert {key: recorded.config[key] for key in config} == config
    told = results(run)
    assert recorded.summary["test/roc_auc"] == pytest.approx(told["test"]["roc_auc"])  # type: ignore[index]
    assert recorded.summary["parameters"] == told["parameters"]
    losses = [row["train/loss_step"] for row in recorded.history if "train/loss_step" in row]
    assert len(losses) == 6
    validated = [row for row in recorded.history if "val/loss" in row]
    rows = epochs(run)
    assert [row["val/loss"] for row in validated] == pytest.approx([float(row["val_loss"]) for row in rows])
    rates = [row["learning_rate"] for row in recorded.history if "learning_rate" in row]
    assert rates[0] == pytest.approx(0.01)
    table = json.loads((recorded.folder / "files" / recorded.summary["test/per_tag"]["path"]).read_text())
    assert table["columns"] == ["tag", "roc_auc", "pr_auc", "positives"]
    assert [row[0] for row in table["data"]] == list(predictions(run)["tags"])
    assert "wandb sync" in (run / "stdout.txt").read_text()


def test_an_account_that_does_not_answer_stops_nothing(world: World) -> None:
    """A key, and no server: said, recorded offline, and trained all the same."""
    account = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    folder = world.folder / "runs" / "unreachable"
    done = World(world.folder, account).train(folder, "trainer.max_epochs=1")
    assert "Weights & Biases cannot be used" in done.stdout
    (recorded,) = wandb_files.read_all(folder)
    assert "test/roc_auc" in recorded.summary


def test_nothing_is_said_that_a_user_cannot_act_on(run: Path) -> None:
    """No warnings (they are errors in these processes), no tips, no tracebacks."""
    said = (run / "stderr.txt").read_text() + (run / "stdout.txt").read_text()
    for word in ("Warning", "Tip", "Traceback", "litlogger", "GPU available"):
        assert word not in said


def test_a_seed_reproduces_a_run(world: World, run: Path) -> None:
    world.train("runs/again", "trainer.max_epochs=2", "seed=3", "logger=none")
    world.train("runs/other", "trainer.max_epochs=2", "seed=4", "logger=none")
    first, again, other = (predictions(world.folder / "runs" / name) for name in ("first", "again", "other"))
    np.testing.assert_array_equal(again["probabilities"], first["probabilities"])
    assert (other["probabilities"] != first["probabilities"]).any()
    assert results(run)["config_hash"] == results(world.folder / "runs/again")["config_hash"]
    assert results(run)["config_hash"] != results(world.folder / "runs/other")["config_hash"]


def test_ctrl_c_says_how_to_go_on(world: World) -> None:
    folder = world.folder / "runs" / "interrupted"
    arguments = [*world.data, *TINY, *ENDLESS, f"hydra.run.dir={folder}", "logger=none"]
    process = world.start("train.py", *arguments)
    table = folder / "metrics.csv"
    while not table.is_file() or len(table.read_text().splitlines()) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGINT
    assert f"python train.py resume={folder}" in out
    assert "Traceback" not in err


def test_a_killed_run_resumes_to_the_same_end(world: World) -> None:
    """SIGKILL after the second epoch; resumed by one override; then moved, and resumed once more."""
    overrides = ["block=res2", "trainer.max_epochs=4", "seed=5"]
    whole = world.folder / "runs" / "whole"
    world.train(whole, *overrides, "logger=none")
    killed = world.folder / "runs" / "killed"
    arguments = [*world.data, *TINY, f"hydra.run.dir={killed}", *overrides]
    place = Place(str(world.folder / "held"), str(killed / "metrics.csv"), "\n1,", later=1)
    there = World(world.folder, place.environment(world.folder))
    process = there.start_warm("train.py", *arguments, as_callback())
    while not place.reached():
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    place.leave()
    assert not (killed / "results.json").exists()

    world.run("train.py", f"resume={killed}")
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(killed)[name], tensor, rtol=0, atol=0, msg=name)
    np.testing.assert_array_equal(predictions(killed)["probabilities"], predictions(whole)["probabilities"])
    assert results(killed)["test"] == results(whole)["test"]
    rows = [epochs(killed), epochs(whole)]
    assert [r["val_loss"] for r in rows[0]] == [r["val_loss"] for r in rows[1]]
    recorded = wandb_files.read_all(killed)
    assert len(recorded) == 2
    run_id = (killed / "wandb_id.txt").read_text()  # what was not flushed before the kill is lost
    assert all(r.folder.name.endswith(f"-{run_id}") for r in recorded)
    assert recorded[1].id == run_id

    moved = world.folder / "moved"
    shutil.move(killed, moved)
    world.run("train.py", f"resume={moved}", "trainer.max_epochs=5", "logger=none")
    assert results(moved)["epochs"] == 5
    assert results(moved)["val"] == {"loss": min(float(r["val_loss"]) for r in epochs(moved))}


def test_a_folder_holds_one_run(world: World, run: Path) -> None:
    """The same command again shows its results; another configuration is refused and changes nothing."""
    before = {path: path.stat().st_mtime_ns for path in run.glob("**/*.ckpt")}
    again = world.train(run, "trainer.max_epochs=2", "seed=3")
    assert "has finished before" in again.stdout
    refused = world.train(run, "trainer.max_epochs=2", "seed=4", status=1)
    assert "holds a run of another configuration" in refused.stderr
    assert {path: path.stat().st_mtime_ns for path in run.glob("**/*.ckpt")} == before


@pytest.mark.parametrize("logger", ["csv", "tensorboard"])
def test_other_loggers(world: World, logger: str) -> None:
    folder = world.folder / "runs" / logger
    world.train(folder, f"logger={logger}", "trainer.max_epochs=1")
    assert (folder / "results.json").is_file()
    assert not (folder / "wandb").exists()
    if logger == "csv":
        (metrics,) = folder.glob("csv/*/metrics.csv")
        assert "train/loss_step" in metrics.read_text()
    else:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder / "tensorboard"))
        events.Reload()
        assert len(events.Scalars("train/loss_step")) == 3
        assert len(events.Scalars("test/roc_auc")) == 1


def test_the_onecycle_schedule_and_weight_decay(world: World) -> None:
    folder = world.folder / "runs" / "onecycle"
    world.train(
        folder, "schedule=onecycle", "trainer.max_epochs=2", "weight_decay=1e-4", "block=rese2", "logger=none"
    )
    rates = [float(row["learning_rate"]) for row in epochs(folder)]
    assert rates[1] < rates[0] <= 0.1
