"""Which runs are found below folders, and what is said of those that cannot be used."""

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.made_runs import make_run
from samplecnn.runs.collect import Collected, collect
from samplecnn.runs.errors import RunError
from samplecnn.runs.predictions import read_predictions
from samplecnn.runs.run import read_run


def names(found: Collected) -> list[str]:
    return [run.name for run in found.runs]


def rewrite(run: Path, **arrays: Any) -> None:
    """Write predictions with other arrays."""
    with np.load(run / "predictions.npz") as file:
        stored = dict(file)
    np.savez(run / "predictions.npz", **{**stored, **arrays})


def edit(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change results.json."""
    results = json.loads((run / "results.json").read_text())
    change(results)
    (run / "results.json").write_text(json.dumps(results))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for job in range(3):
        make_run(folder / str(job), seed=job)
    return folder


@pytest.fixture
def sweep(tmp_path: Path, made: Path) -> Path:
    """Three seeds of one cell."""
    shutil.copytree(made, tmp_path / "runs" / "sweep")
    return tmp_path / "runs" / "sweep"


def test_runs_sweeps_and_folders_above(sweep: Path) -> None:
    assert names(collect([sweep / "1"])) == ["sweep/1"]
    assert names(collect([sweep])) == ["sweep/0", "sweep/1", "sweep/2"]
    assert names(collect([sweep.parent])) == ["sweep/0", "sweep/1", "sweep/2"]
    make_run(sweep.parent / "single", "block=basic")
    make_run(sweep / "10", seed=10)
    found = collect([sweep.parent, sweep, sweep / "0"])
    assert names(found) == ["runs/single", *(f"runs/sweep/{job}" for job in (0, 1, 2, 10))]
    assert not found.left_out


def test_small_files_are_enough(sweep: Path) -> None:
    assert {path.name for path in (sweep / "0").iterdir()} == {
        "config.yaml",
        "metrics.csv",
        "predictions.npz",
        "results.json",
    }
    run = read_run(sweep / "0")
    assert run.predictions is not None
    assert run.predictions.labels.shape == (60, 8)
    assert len(run.epochs) == 5
    assert run.seconds_per_epoch == pytest.approx(10.8)
    assert run.config.dataset == "mini"
    assert not run.notes


def test_what_lies_in_a_run_folder_is_its_own(sweep: Path) -> None:
    inside = sweep / "0" / "wandb" / "offline-run" / "files"
    inside.mkdir(parents=True)
    (inside / "config.yaml").write_text("wandb_version: 1")
    found = collect([sweep])
    assert len(found.runs) == 3
    assert not found.unfinished


def test_without_epochs_and_predictions(sweep: Path) -> None:
    (sweep / "0" / "predictions.npz").unlink()
    (sweep / "0" / "metrics.csv").unlink()
    run = read_run(sweep / "0")
    assert run.predictions is None
    assert run.epochs == ()
    assert run.seconds_per_epoch == pytest.approx(run.results.train_seconds / run.results.epochs)


def test_unfinished_runs_are_named(sweep: Path) -> None:
    (sweep / "1" / "results.json").unlink()
    planned = {str(seed): ["block=se", f"seed={seed}"] for seed in range(5)} | {"../away": ["x=1"]}
    (sweep / "cells.json").write_text(json.dumps(planned))
    found = collect([sweep])
    assert names(found) == ["sweep/0", "sweep/2"]
    told = {left.name: left.reason for left in found.unfinished}
    assert set(told) == {"sweep/1", "sweep/3", "sweep/4"}
    assert told["sweep/1"].startswith("block=se seed=1: has not finished (samplecnn train resume=")
    assert told["sweep/3"] == "block=se seed=3: not started"
    assert not collect([sweep / "0", sweep / "2"]).unfinished
    (sweep / "cells.json").write_text("[" * 100_000)  # not a plan: nothing is known of other jobs
    assert [left.name for left in collect([sweep]).unfinished] == ["sweep/1"]


def test_nothing_to_report(tmp_path: Path, sweep: Path) -> None:
    with pytest.raises(RunError, match=r"there is no folder .*/nowhere"):
        collect([sweep, tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="empty holds no run"):
        collect([sweep, tmp_path / "empty"])
    (sweep / "0" / "results.json").unlink()
    with pytest.raises(RunError, match=r"no finished run that can be used:\n  \S+/0: it has no .*resume="):
        collect([sweep / "0"])
    with pytest.raises(RunError, match=r"config.yaml is a file: name a run folder"):
        collect([sweep / "1" / "config.yaml"])


def test_of_doubles_the_newest_is_taken(sweep: Path) -> None:
    older = make_run(sweep.parent / "before", seed=1, noise=5)
    os.utime(older / "results.json", (1, 1))
    newest = make_run(sweep.parent / "again", seed=2, noise=6)
    os.utime(newest / "results.json", (2e9, 2e9))
    found = collect([sweep.parent])
    assert names(found) == ["runs/again", "runs/sweep/0", "runs/sweep/1"]
    assert {left.name: left.reason for left in found.left_out} == {
        "runs/before": "has the configuration and seed of runs/sweep/1, which is newer",
        "runs/sweep/2": "has the configuration and seed of runs/again, which is newer",
    }


def test_what_is_off_may_be_absent(sweep: Path) -> None:
    """A run of before a key existed is the same as one where it is off, and another where it is on."""
    text = (sweep / "0" / "config.yaml").read_text()
    for off in ("  max_epochs: null\n", "scale_rate: false\n"):
        assert off in text
        text = text.replace(off, "")
    (sweep / "0" / "config.yaml").write_text(text)
    one, other = read_run(sweep / "0"), read_run(make_run(sweep.parent / "same", seed=0))
    assert one.settings == other.settings
    assert read_run(make_run(sweep.parent / "capped", "trainer.max_epochs=3")).settings != one.settings


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r.pop("split_hash"), "has no split_hash: it was written by samplecnn 0.1.0, and this is "),
        (
            lambda r: r.update(versions={"samplecnn": 7}, test={}),
            r"has no test.roc_auc: .* samplecnn of unknown version",
        ),
        (lambda r: r["test"].update(per_tag={}), "test.per_tag={} must be scores by tag, of at least one"),
        (lambda r: r["test"]["per_tag"]["tag 0"].pop("roc_auc"), "has no test.per_tag.tag 0.roc_auc"),
        (
            lambda r: r["test"].update(roc_auc=1.01),
            "test.roc_auc=1.01 must be null or a number from 0 to 1",
        ),
        (lambda r: r["test"].update(roc_auc=float("nan")), "NaN is not a finite number"),
        (lambda r: r.update(epochs=0), "epochs=0 must be a whole number of at least 1"),
        (lambda r: r.update(epochs=10**400), "epochs=1000.* must be a whole number of at least 1"),
        (lambda r: r.update(block="../../x"), "block='../../x' must be a name"),
        (lambda r: r.update(hardware="\x1b[2J"), "hardware=.* must be a printable text"),
        (lambda r: r.update(block="basic"), "config.yaml and results.json are of different runs"),
        (lambda r: r.update(test=[1]), "test is a list, not an object"),
        (lambda r: r["test"].update(roc_auc=0.5), "predictions.npz and results.json are of different runs"),
        (lambda r: r["test"].update(pr_auc=0.5), "predictions.npz and results.json are of different runs"),
        (
            lambda r: r["test"].update(per_tag=dict(reversed(r["test"]["per_tag"].items()))),
            "predictions.npz and results.json are of different runs",
        ),
    ],
)
def test_results_that_cannot_be_used(
    sweep: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    edit(sweep / "1", change)
    found = collect([sweep])
    assert names(found) == ["sweep/0", "sweep/2"]
    (left,) = found.left_out
    assert left.name == "sweep/1"
    with pytest.raises(RunError, match=reason):
        read_run(sweep / "1")
    assert str(sweep) not in left.reason


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("results.json", b'{"test": '),
        ("results.json", b"[" * 100_000),
        ("results.json", b"\xff\xfe"),
        ("config.yaml", b"- 1\n- 2\n"),
        ("config.yaml", b"a: [1,\n"),
        ("config.yaml", b"!!python/object/apply:os.system ['true']"),
        ("config.yaml", b"block: se\nmulti: true\nseed: 1\n"),
    ],
)
def test_files_that_cannot_be_read(sweep: Path, file: str, content: bytes) -> None:
    (sweep / "1" / file).write_bytes(content)
    found = collect([sweep])
    assert names(found) == ["sweep/0", "sweep/2"]
    assert [left.name for left in found.left_out] == ["sweep/1"]
    assert file in found.left_out[0].reason


def test_configurations_that_cannot_be_used(sweep: Path) -> None:
    config = sweep / "1" / "config.yaml"
    for change, reason in (
        (
            lambda: config.write_text(config.read_text() + 'own: "\\e[2J"\n'),
            "'own' holds what cannot be printed",
        ),
        (config.unlink, "sweep/1 is not a run folder: it has no config.yaml"),
    ):
        change()
        (left,) = collect([sweep]).left_out
        assert reason in left.reason
        assert str(sweep) not in left.reason


def test_auc_a_little_above_one_is_rounding(sweep: Path) -> None:
    edit(sweep / "1", lambda r: r["test"]["per_tag"]["tag 0"].update(roc_auc=1.0000001192092896))
    assert len(collect([sweep]).runs) == 3


def as_pickle(run: Path) -> None:
    (run / "predictions.npz").write_bytes(pickle.dumps({"labels": [1]}))


def as_object_array(run: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return os.mkdir, (str(run / "executed"),)

    np.savez(run / "predictions.npz", clip_ids=np.array([Bomb()], dtype=object), allow_pickle=True)


def as_bomb(run: Path) -> None:
    with zipfile.ZipFile(run / "predictions.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.npy", bytes((1 << 30) + 1))


def as_giant(run: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(run / "predictions.npz", "w") as archive:
        archive.writestr("clip_ids.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


def truncated(run: Path) -> None:
    path = run / "predictions.npz"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (as_pickle, "cannot be read"),
        (as_object_array, "cannot be read: Object arrays cannot be loaded"),
        pytest.param(as_bomb, "unpacks to 1,073,741,825 bytes", marks=pytest.mark.slow),
        (as_giant, "cannot be read"),
        (truncated, "cannot be read"),
        (lambda run: rewrite(run, labels=np.full((60, 8), 2)), "labels are not zeros and ones"),
        (lambda run: rewrite(run, labels=np.zeros((60, 7))), "labels are not zeros and ones for 60 clips"),
        (lambda run: rewrite(run, probabilities=np.full((60, 8), np.nan)), "a probability is not between"),
        (lambda run: rewrite(run, probabilities=np.full((60, 8), 1.5)), "a probability is not between"),
        (lambda run: rewrite(run, probabilities=np.zeros((60, 8), int)), "probabilities are not numbers"),
        (lambda run: rewrite(run, tags=np.array(["a"] * 8)), "tags is not a list of different names"),
        (lambda run: rewrite(run, clip_ids=np.arange(60)), "clip_ids is not a list of different names"),
    ],
)
def test_predictions_that_cannot_be_read(sweep: Path, spoil: Callable[[Path], None], reason: str) -> None:
    """The run stays, without intervals; nothing in the file is executed, and no memory taken for it."""
    spoil(sweep / "1")
    with pytest.raises(RunError, match=reason):
        read_predictions(sweep / "1")
    found = collect([sweep])
    assert len(found.runs) == 3
    assert found.runs[1].predictions is None
    (note,) = found.runs[1].notes
    assert "predictions.npz" in note
    assert "no interval" in note
    assert not (sweep / "1" / "executed").exists()


@pytest.mark.parametrize(
    "content",
    [
        "epoch,seconds\n0,1\n",
        "noise",
        "epoch\n\x00",
        *(
            f"epoch,train_loss,val_loss,val_roc_auc,seconds\n{row}\n"
            for row in ("0,1,1,1,-5", "0,1,1,1,inf", "nan,1,1,1,5", "inf,1,1,1,5", "-1,1,1,1,5")
        ),
    ],
)
def test_a_table_of_epochs_that_cannot_be_read(sweep: Path, content: str) -> None:
    (sweep / "1" / "metrics.csv").write_text(content)
    run = read_run(sweep / "1")
    assert run.epochs == ()
    assert content == "noise" or run.notes[0].endswith("it has no learning curve")


def test_of_a_training_that_diverged_the_epochs_stay(sweep: Path) -> None:
    rows = "epoch,train_loss,val_loss,val_roc_auc,seconds\n0,nan,inf,0.5,3\n"
    (sweep / "1" / "metrics.csv").write_text(rows)
    assert [(row["val_roc_auc"], row["seconds"]) for row in read_run(sweep / "1").epochs] == [(0.5, 3)]


def test_a_link_to_a_folder_above_does_not_go_on_for_ever(sweep: Path) -> None:
    (sweep / "loop").symlink_to(sweep.parent, target_is_directory=True)
    assert len(collect([sweep]).runs) == 3
    shutil.rmtree(sweep / "1")
    assert len(collect([sweep]).runs) == 2
