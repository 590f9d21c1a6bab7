"""Networks trained, and reported on, as typed in a shell."""

import csv
import json

import pytest

import wandb_files
from e2e.conftest import TINY, World


@pytest.mark.slow
def test_a_sweep_and_its_report(world: World) -> None:
    sweep = world.folder / "sweeps" / "reported"
    world.run(
        "train.py",
        "-m",
        "block=basic,se",
        "seed=0,1",
        *world.data,
        *TINY,
        "trainer.max_epochs=1",
        f"hydra.sweep.dir={sweep}",
    )
    out = world.folder / "report"
    done = world.run("samplecnn", "report", sweep, "--out", out, "--draws", "100", "--wandb")
    assert done.stdout.rstrip().endswith(str(out / "index.html"))
    assert "mean of 2 seeds" in done.stdout
    assert "Traceback" not in done.stderr
    (recorded,) = wandb_files.read_all(out)
    assert (recorded.group, recorded.job_type) == ("reported", "report")
    assert {"index.html", "table1.csv"} <= set(recorded.artifacts["report"])
    rows = list(csv.DictReader((out / "table1.csv").read_text().splitlines()))
    assert [(row["cell"], row["seeds"]) for row in rows] == [("Basic, multi", "2"), ("SE, multi", "2")]
    for row in rows:
        told = [json.loads(path.read_text()) for path in sweep.glob("*/results.json")]
        aucs = [t["test"]["roc_auc"] for t in told if t["block"] == row["block"]]
        assert float(row["roc_auc"]) == pytest.approx(sum(aucs) / 2, abs=1e-5)
    page = (out / "index.html").read_text()
    assert "The built-in set is synthetic" in page
    assert str(world.folder) not in page

    (sweep / "1" / "results.json").unlink()
    done = world.run("samplecnn", "report", sweep, "--out", out, "--draws", "100")
    assert "In Table 1, seed 1 is missing of Basic (multi); others have it." in done.stdout
    assert "reported/1: block=basic seed=1" in done.stdout
    assert "has not finished (samplecnn train resume=FOLDER goes on with it)" in done.stdout
