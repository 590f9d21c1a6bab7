"""Experiments by command: interrupted, run again, side by side, on a cluster, in Weights & Biases."""

import json
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
from omegaconf import OmegaConf
from wandb.sdk.launch.sweeps import utils as wandb_sweeps

import wandb_files
from e2e.conftest import ROOT, TINY, World
from held import Place, as_callback
from samplecnn.training.loggers import attach_report

CELLS = [f"block={block},multi=True,seed=0" for block in ("basic", "se", "res1")]
SAID = ["-m", "experiment=table1", "block=basic,se,res1", "multi=true", "hydra.sweep.dir=sweeps/table1"]


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Return which files there are, and when each was written."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".log", ".json")]
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def epochs(folder: Path) -> list[str]:
    table = folder / "metrics.csv"
    return table.read_text().splitlines()[1:] if table.is_file() else []


@dataclass
class Sweep:
    """A sweep that was killed in its second cell, and then run again."""

    folder: Path
    finished: dict[str, tuple[int, int]]  # of the first cell, when it was killed
    interrupted: list[str]  # epochs of the second cell
    planned: set[str]
    out: str  # of the second time


@pytest.fixture(scope="module")
def table1(world: World, run: Path) -> Sweep:
    """Recorded by Weights & Biases."""
    said = [*SAID, *world.data, *TINY, "trainer.max_epochs=4"]
    folder = world.folder / "sweeps" / "table1"
    place = Place(str(world.folder / "held"), str(folder / CELLS[1] / "metrics.csv"), "\n1,", later=1)
    there = World(world.folder, place.environment(world.folder))
    process = there.start_warm("train.py", *said, as_callback())
    while not place.reached():
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    place.leave()
    killed = Sweep(
        folder,
        state(folder / CELLS[0]),
        epochs(folder / CELLS[1]),
        set(json.loads((folder / "cells.json").read_text())),
        "",
    )
    assert not (folder / CELLS[1] / "results.json").exists()
    killed.out = world.run("train.py", *said).stdout
    return killed


def test_run_again_trains_what_is_missing(table1: Sweep) -> None:
    first, second, third = (table1.folder / cell for cell in CELLS)
    assert state(first) == table1.finished
    whole = table1.interrupted[:-1]  # of the last, the checkpoint may not have been written yet
    assert epochs(second)[: len(whole)] == whole
    assert [len(epochs(cell)) for cell in (first, second, third)] == [4, 4, 4]
    assert len(re.findall("has finished before", table1.out)) == 1
    assert f"{first} has finished before" in table1.out
    assert len(re.findall("goes on where it stopped", table1.out)) == 1
    assert f"{second} goes on" in table1.out


def test_the_table_has_all_cells(table1: Sweep) -> None:
    table = table1.out[table1.out.rindex("test ROC-AUC ┃") :]
    for cell in CELLS:
        results = json.loads((table1.folder / cell / "results.json").read_text())
        (row,) = (line for line in table.splitlines() if f"block={results['block']} " in line)
        assert f"{results['test']['roc_auc']:.4f}" in row
        assert f"{results['parameters']:,}" in row
        assert cell in row
    assert table1.planned == set(CELLS)


def test_other_settings_are_kept_apart(world: World, table1: Sweep) -> None:
    before = state(table1.folder)
    refused = world.run("train.py", *SAID, *world.data, *TINY, "trainer.max_epochs=4", "width=3", status=1)
    assert (
        "sweeps/table1/block=basic,multi=True,seed=0 holds a run of another configuration" in refused.stderr
    )
    assert "width=2 there, 3 here" in refused.stderr
    assert "hydra.sweep.dir=" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert state(table1.folder) == before


def test_weights_and_biases_has_the_sweep_as_a_group(table1: Sweep) -> None:
    for cell in CELLS:
        recorded = wandb_files.read_all(table1.folder / cell)[-1]
        block = cell.split(",")[0].removeprefix("block=")
        assert (recorded.group, recorded.job_type, recorded.name) == ("table1", "train", cell)
        assert recorded.tags == [block, "multi", "mini"]
        assert recorded.config["block"]["name"] == block
        assert "test/roc_auc" in recorded.summary
    interrupted = wandb_files.read_all(table1.folder / CELLS[1])
    assert len(interrupted) == 2  # two sittings of one run: both have its id in their name
    assert len({run.folder.name.rpartition("-")[2] for run in interrupted}) == 1


ATTACH = """
import sys
from pathlib import Path
from samplecnn.training.loggers import attach_report

folder, *runs = map(Path, sys.argv[1:])
attach_report(folder, runs)
"""


def test_a_report_in_weights_and_biases(world: World, table1: Sweep, tmp_path: Path) -> None:
    """Tables with numbers in them, page, picture and files, in the group of the runs."""
    report = tmp_path / "report"
    world.run("samplecnn", "report", table1.folder, "--out", report, fresh=True)
    (report / "curve.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    files = {path.name for path in report.iterdir()}
    script = tmp_path / "attach.py"
    script.write_text(ATTACH)
    runs = [table1.folder / cell for cell in CELLS]
    done = world.run(str(script), report, *runs)
    assert "wandb sync" in done.stdout
    (recorded,) = wandb_files.read_all(report)
    assert (recorded.group, recorded.job_type, recorded.project) == ("table1", "report", "samplecnn")
    assert recorded.config["runs"] == [str(run) for run in runs]
    assert recorded.exit_code == 0
    assert set(recorded.artifacts["report"]) == files
    shown = recorded.folder / "files"
    page = (shown / recorded.summary["pages/index"]["path"]).read_bytes()
    assert page == (report / "index.html").read_bytes()
    assert "svg" in (shown / recorded.summary["figures/curve"]["path"]).read_text()
    table = json.loads((shown / recorded.summary["tables/table1"]["path"]).read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    for run in runs:
        results = json.loads((run / "results.json").read_text())
        (row,) = (row for row in rows if row["block"] == results["block"])
        assert row["roc_auc"] == pytest.approx(results["test"]["roc_auc"], rel=1e-5)

    assert (report / "wandb_id.txt").read_text() == recorded.id  # attached again, it goes on in this run


def test_a_report_on_other_runs(world: World, run: Path, table1: Sweep, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    unrecorded = tmp_path / "unrecorded"
    unrecorded.mkdir()
    (tmp_path / "empty").mkdir()
    config = yaml.safe_load((run / "config.yaml").read_text())
    (unrecorded / "config.yaml").write_text(yaml.safe_dump({**config, "logger": {"name": "csv"}}))
    with pytest.raises(ValueError, match="none of the 1 runs was recorded by Weights & Biases"):
        attach_report(tmp_path, [unrecorded])
    with pytest.raises(ValueError, match=r"several projects or groups .*samplecnn, table1"):
        attach_report(tmp_path, [table1.folder / CELLS[0], unrecorded, run])
    with pytest.raises(ValueError, match="holds no files to attach"):
        attach_report(tmp_path / "empty", [run])
    assert not (tmp_path / "wandb").exists()


def test_the_alpha_search_of_weights_and_biases(world: World, run: Path) -> None:
    """The file's command, as W&B's agent makes it and starts it."""
    sweep = yaml.safe_load((ROOT / "experiments" / "sweeps" / "alpha.yaml").read_text())
    first = {key: {"value": parameter["values"][0]} for key, parameter in sweep["parameters"].items()}
    arguments = wandb_sweeps.create_sweep_command_args({"args": first})
    command: list[str] = []
    for part in wandb_sweeps.create_sweep_command(sweep["command"]):
        known = {
            "${env}": [],
            "${program}": [sweep["program"]],
            **{f"${{{k}}}": v for k, v in arguments.items()},
        }
        command += known.get(part, [part])
    assert command[:2] == ["python", "train.py"]
    agent = World(world.folder, {"WANDB_SWEEP_ID": "x1y2z3", "WANDB_RUN_ID": "a1b2c3"})
    agent.run(*command[1:], *world.data, *TINY, "trainer.max_epochs=1")
    folder = world.folder / "runs" / "wandb" / "x1y2z3" / "a1b2c3"
    (recorded,) = wandb_files.read_all(folder)
    assert (recorded.sweep_id, recorded.id) == ("x1y2z3", "a1b2c3")
    assert recorded.config["block"] == {"name": "se", "_target_": "samplecnn.model.blocks.SE", "alpha": 0.125}
    assert any(sweep["metric"]["name"] in row for row in recorded.history)


TELLING = """
import os
import torch
from samplecnn.model.blocks import Basic


class Telling(Basic):
    def __init__(self, in_channels, out_channels, *, fails=False):
        super().__init__(in_channels, out_channels)
        assert not fails, "as told"
        print(f"process {os.getpid()} has {torch.get_num_threads()} threads", flush=True)
"""


class OwnThreads(World):
    """Where nobody has said how many threads there are to be."""

    @property
    def environment(self) -> dict[str, str]:
        return {key: value for key, value in super().environment.items() if key != "OMP_NUM_THREADS"}


@pytest.mark.slow
def test_jobs_side_by_side(world: World, run: Path) -> None:
    """Two at a time, each with its share of the cores; a failing one takes no other with it."""
    (world.folder / "telling.py").write_text(TELLING)
    folder = world.folder / "sweeps" / "side"
    block = [
        "block=custom",
        "block.name=telling",
        "block._target_=telling.Telling",
        "+block.fails=false,true",
    ]
    done = OwnThreads(world.folder).run(
        "train.py",
        *("-m", "experiment=table1", "multi=true", "seed=0,1", *block, "hydra/launcher=local"),
        *("hydra.sweep.subdir='fails=${block.fails},seed=${seed}'", f"hydra.sweep.dir={folder}"),
        # Each tries the ways to compute in a process of its own.
        *(*world.data, *TINY, "fast=auto", "trainer.max_epochs=1", "logger=none"),
        status=1,
        fresh=True,
    )
    told = re.findall(r"process (\d+) has (\d+) threads", done.stdout)
    logs = [path.read_text() for path in folder.glob("fails=False*/train.log")]
    assert len(logs) == 2
    assert all("computing on backend: " in log and "left out" not in log for log in logs)
    assert {int(threads) <= max(1, len(os.sched_getaffinity(0)) // 2) for _, threads in told} == {True}
    assert len({process for process, _ in told}) == 2
    finished = {path.parent.name for path in folder.glob("*/results.json")}
    assert finished == {"fails=False,seed=0", "fails=False,seed=1"}
    assert "as told" in done.stderr
    assert done.stdout.count("not finished") == 2
    assert "the same command again" in done.stderr


@pytest.mark.slow
def test_jobs_by_submitit(world: World, run: Path) -> None:
    """What submits to SLURM, with its executor for one machine: one finishes, one fails, both are named."""
    folder = world.folder / "sweeps" / "submitted"
    done = world.run(
        "train.py",
        *("-m", "experiment=table1", "block=basic", "multi=true", "data.split=clean,nonsense"),
        *("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"),
        *("hydra.sweep.subdir='split=${data.split}'", f"hydra.sweep.dir={folder}"),
        *(*world.data, *TINY, "trainer.max_epochs=1", "logger=none"),
        status=1,
        fresh=True,
    )
    assert [path.parent.name for path in folder.glob("*/results.json")] == ["split=clean"]
    assert "allowed are clean, pons" in done.stderr
    assert done.stdout.count("not finished") == 1


def test_what_is_asked_of_slurm() -> None:
    """The keys and types that the launcher knows (any other is an error), and a thread for each CPU."""
    settings = OmegaConf.load(ROOT / "conf" / "hydra" / "launcher" / "slurm.yaml")
    known = OmegaConf.merge(OmegaConf.structured(SlurmQueueConf), settings)
    assert (known.nodes, known.tasks_per_node, known.gpus_per_node, known.cpus_per_task) == (1, 1, 1, 4)
    assert (known.timeout_min, known.max_num_timeout) == (1440, 10)
    assert known.setup == ["export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK"]
