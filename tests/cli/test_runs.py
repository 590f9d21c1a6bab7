"""``samplecnn runs``: what lies below a folder, and names that are the end of a path."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from analysis.made_runs import make_run
from samplecnn.cli import main, runs
from samplecnn.cli.common import named_run
from samplecnn.errors import UserError
from samplecnn.files import locked
from samplecnn.runs.folder import LOCK
from samplecnn.runs.listing import find


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two finished runs, a stopped one, one that goes on, and a damaged one."""
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/2026-01-31/12-00-00"), "block=se", "logger=none", separation=1.0)
    make_run(Path("runs/sweep/0"), "block=basic", "multi=false", "logger=none", separation=3.0, seed=2)
    for name in ("runs/2026-01-31/13-00-00", "runs/sweep/1"):
        make_run(Path(name), "block=res1", "logger=none", epochs=3)
        (Path(name) / "results.json").unlink()
        (Path(name) / LOCK).touch()
    make_run(Path("runs/sweep/2"), "block=res2", "logger=none")
    Path("runs/sweep/2/results.json").write_text("{}")
    return tmp_path


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    with locked(Path("runs/sweep/1") / LOCK):
        assert main(["runs", *arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_runs_and_their_states(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {entry["run"]: entry for entry in listed(capsys)}
    states = {name: entry["state"] for name, entry in found.items()}
    assert states == {
        "2026-01-31/12-00-00": "finished",
        "2026-01-31/13-00-00": "stopped",
        "sweep/0": "finished",
        "sweep/1": "running",
        "sweep/2": "damaged",
    }
    first = found["2026-01-31/12-00-00"]
    results = json.loads(Path("runs/2026-01-31/12-00-00/results.json").read_text())
    assert first["auc"] == results["test"]["roc_auc"]
    assert first["seconds"] == results["train_seconds"]
    assert (first["network"], first["multi"], first["data"]) == ("se", True, "mini")
    stopped = found["2026-01-31/13-00-00"]
    assert (stopped["network"], stopped["epochs"], stopped["auc"]) == ("res1", 3, None)
    assert stopped["seconds"] == pytest.approx(33.0)
    assert "results.json" in found["sweep/2"]["problem"]


def test_sorted_and_narrowed_down(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_auc = [entry["run"] for entry in listed(capsys, "--sort", "auc")]
    assert by_auc[:2] == ["sweep/0", "2026-01-31/12-00-00"]
    by_network = [entry["network"] for entry in listed(capsys, "--sort", "network")]
    assert by_network == ["basic", "res1", "res1", "se", None]
    only = listed(capsys, "--only", "state=finished", "--only", "multi=true")
    assert [entry["run"] for entry in only] == ["2026-01-31/12-00-00"]
    assert main(["runs", "--sort", "colour"]) == 1
    assert "runs have no colour; there are run, state, network" in capsys.readouterr().err
    assert main(["runs", "nowhere"]) == 1
    assert "there is no folder nowhere" in capsys.readouterr().err


def test_as_a_table(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs"]) == 0
    out, err = capsys.readouterr()
    (line,) = (line for line in out.splitlines() if "12-00-00" in line)
    auc = json.loads(Path("runs/2026-01-31/12-00-00/results.json").read_text())["test"]["roc_auc"]
    for word in ("finished", "se", "true", "mini", f"{auc:.4f}", "0:54"):
        assert f" {word} " in line
    assert "samplecnn runs: sweep/2: " in err


def test_a_long_name_is_whole(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "block=se,multi=True,seed=0," * 6 + "end"
    make_run(Path("runs") / name, "block=se", "logger=none")
    assert main(["runs"]) == 0
    cells = [line.split("│")[1].strip() for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert name in "".join(cells)


def test_intervals_are_those_of_a_report(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {entry["run"]: entry["interval"] for entry in listed(capsys)}
    assert set(found.values()) == {None}
    found = {entry["run"]: entry["interval"] for entry in listed(capsys, "--intervals")}
    assert {name for name, interval in found.items() if interval} == {"2026-01-31/12-00-00", "sweep/0"}
    assert main(["report", "sweep/0", "--out", "out"]) == 0
    with Path("out/table1.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert found["sweep/0"] == pytest.approx(
        [float(row["roc_auc_low"]), float(row["roc_auc_high"])], abs=1e-6
    )
    capsys.readouterr()
    assert main(["runs", "--intervals"]) == 0
    assert f"[{found['sweep/0'][0]:.4f}, {found['sweep/0'][1]:.4f}]" in capsys.readouterr().out


def test_an_interval_is_of_the_run_that_is_listed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not of the one that lies below runs by the same name."""
    for folder, separation in (("elsewhere/a", 3.0), ("runs/elsewhere/a", 0.5)):
        make_run(Path(folder), "block=se", "logger=none", separation=separation)
    (found,) = listed(capsys, "elsewhere", "--intervals")
    assert found["interval"][0] < found["auc"] < found["interval"][1]
    (found,) = listed(capsys, "runs/elsewhere", "--intervals")
    assert found["interval"][0] < found["auc"] < found["interval"][1]


def test_the_names_that_it_prints_are_taken(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Below runs, in a part of it, and elsewhere; a name that others end in too is the run that has it."""
    make_run(Path("elsewhere/a/0"), "block=se", "logger=none")
    make_run(Path("runs/older/sweep/0"), "block=se", "logger=none")
    for folder in ([], ["runs/sweep"], ["elsewhere"], ["runs/sweep/0"], [str(here / "elsewhere")]):
        finished = [entry["run"] for entry in listed(capsys, *folder) if entry["state"] == "finished"]
        assert finished
        for name in finished:
            assert main(["report", name, "--draws", "10"]) == 0, name
            capsys.readouterr()
            assert main(["runs", "--open", name]) == 0
            assert (Path(capsys.readouterr().out.strip()) / "results.json").is_file()
    assert named_run("sweep/0") == Path("runs/sweep/0")


@pytest.fixture
def opened(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A desktop, whose opener writes down what it is to open."""
    programs = here / "bin"
    programs.mkdir()
    for name in ("xdg-open", "open"):
        (programs / name).write_text(f'#!/bin/sh\nprintf %s "$1" > {here}/opened\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(runs, "OPENING", 300)
    return here / "opened"


def test_a_folder_is_opened(opened: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--open", "12-00-00"]) == 0
    folder = str(Path("runs/2026-01-31/12-00-00").resolve())
    assert capsys.readouterr().out == f"{folder}\n"
    assert opened.read_text() == folder


def test_a_page_is_opened(opened: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path("runs/sweep/0")
    assert main(["runs", "--open", "sweep/0", "--web"]) == 1
    assert "was not recorded by Weights & Biases" in capsys.readouterr().err
    (run / "wandb" / "offline-run-20260131_120000-abc").mkdir(parents=True)
    assert main(["runs", "--open", "sweep/0", "--web"]) == 1
    assert "wandb sync runs/sweep/0/wandb/offline-run-20260131_120000-abc" in capsys.readouterr().err
    for address in ("file:///etc/passwd", "--help", "https://x.org/\x1b[2J", "https://x.org/a b", ""):
        (run / "wandb_url.txt").write_text(address)
        assert main(["runs", "--open", "sweep/0", "--web"]) == 1
        assert "holds no address of a page" in capsys.readouterr().err
    (run / "wandb_url.txt").write_text("https://wandb.ai/me/samplecnn/runs/abc\n")
    assert main(["runs", "--open", "sweep/0", "--web"]) == 0
    assert capsys.readouterr().out == "https://wandb.ai/me/samplecnn/runs/abc\n"
    assert opened.read_text() == "https://wandb.ai/me/samplecnn/runs/abc"


def test_without_a_desktop_it_is_printed_alone(
    opened: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["runs", "--open", "sweep/0"]) == 0
    assert capsys.readouterr().out == f"{Path('runs/sweep/0').resolve()}\n"
    assert not opened.exists()
    assert main(["runs", "--open", "nowhere"]) == 1
    assert "there is no run nowhere: `samplecnn runs` lists them" in capsys.readouterr().err
    assert main(["runs", "--web"]) == 1
    assert "--web is of one run" in capsys.readouterr().err


def test_names_that_are_the_end_of_a_path(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = Path("runs")
    assert find(Path("12-00-00"), runs) == Path("runs/2026-01-31/12-00-00")
    assert find(Path("sweep/0"), runs) == Path("runs/sweep/0")
    assert find(Path("runs/sweep/0"), runs) == Path("runs/sweep/0")
    for name in ("00-00", "2026-01-31", "hf:owner/0", "/sweep/0", "nowhere"):  # left as they are
        assert find(Path(name), runs) == Path(name)
    make_run(Path("runs/other/0"), "block=basic", "logger=none")
    with pytest.raises(UserError, match="2 runs end in 0: runs/other/0, runs/sweep/0"):
        find(Path("0"), runs)
    assert named_run("sweep/0") == Path("runs/sweep/0")
    Path("1").mkdir()
    assert find(Path("1"), runs) == Path("1")  # which is there
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", "0"])
    assert "2 runs end in 0" in capsys.readouterr().err
    assert main(["report", "12-00-00", "sweep/0", "--draws", "10"]) == 0
