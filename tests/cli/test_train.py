"""``samplecnn train`` and ``prepare`` as typed in any folder; what they do is in tests/e2e."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from samplecnn.cli import main, parser
from samplecnn.cli.train import print_cells
from samplecnn.training.planning import Cell


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "samplecnn", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_all_arguments_are_hydra_s() -> None:
    for arguments in (["-m", "block=se,res1"], ["--cfg", "job"], ["+a=b", "~c", "--", "--help"], []):
        options = parser().parse_args(["train", *arguments])
        assert options.name == "train"
        assert options.arguments == [argument for argument in arguments if argument != "--"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "widht=3"), ["There is no 'widht'; did you mean width?"]),
        (("train", "data=mtat", "logger=none"), ["`samplecnn prepare data=mtat` downloads"]),
        (("train", "-m", "seed=0,x"), ["seed=x: must be a whole number"]),
        (("train", "--nonsense"), ["usage: samplecnn train"]),
        (("prepare", "wrokers=3"), ["There is no 'wrokers'; did you mean workers?"]),
        (("prepare", "data=folder", "rate=null"), ["samplecnn prepare data=folder data.raw=DIR"]),
    ],
)
def test_what_is_refused_is_said_as_the_scripts_do(
    tmp_path: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode in (1, 2)
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_classes_of_one_s_own_are_found_from_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blocks_here.py").write_text("from samplecnn.model.blocks import Basic as Mine\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    for target, words in (
        ("blocks_here.Mine", "not a run folder"),  # the class is there
        ("blocks_here.Other", "cannot be imported"),
        ("blocks_here.__name__", "blocks_here.__name__ is a str, not a class"),
    ):
        assert main(["tag", "x.wav", "--model", ".", "--block", f"mine={target}"]) == 1
        assert words in capsys.readouterr().err


def test_without_the_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ("samplecnn.training", "samplecnn.cli.train")
    for name in [name for name in sys.modules if name.startswith(ours)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hydra", None)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", sys.path[:])
    assert main(["train", "block=se"]) == 1
    said = 'samplecnn train: hydra is not installed: pip install "samplecnn[train]"\n'
    assert capsys.readouterr().err == said


def test_the_table_of_what_was_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tag = {"roc_auc": 0.75, "pr_auc": None, "positives": 3}
    results = {
        **{"block": "se", "multi": True, "seed": 0, "data": "mini", "split": "clean", "split_hash": "a"},
        **{"width": 2, "parameters": 12345, "epochs": 1, "train_seconds": 61.2, "config_hash": "b"},
        **{"test": {**tag, "per_tag": {"rock": tag}}, "precision": "32-true", "hardware": "a processor"},
    }
    cells = [Cell(tmp_path, str(seed), [f"seed={seed}", "width=2"]) for seed in range(4)]
    for cell in (cells[0], cells[1], cells[3]):
        cell.folder.mkdir()
        (cell.folder / "cell.json").write_text("{}")
    (cells[0].folder / "results.json").write_text(json.dumps(results))
    (cells[3].folder / "results.json").write_text("{")
    assert not print_cells(cells)
    lines = capsys.readouterr().out.splitlines()
    row = {seed: next(line for line in lines if f"seed={seed}" in line) for seed in range(4)}
    assert all(word in row[0] for word in ("0.7500", "undefined", "12,345", "61 s"))
    assert "not finished" in row[1]
    assert "not started" in row[2]
    assert "its results cannot be read" in row[3]
    assert "width" not in row[0]
    assert print_cells(cells[:1])


def test_names_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_cells(
        [Cell(tmp_path / "[old] sweep", "0", ["logger.project=[/rock]"]), Cell(tmp_path, "1", [":cat:"])]
    )
    out = capsys.readouterr().out.replace("\n", "")
    assert "[/rock]" in out
    assert ":cat:" in out
    assert "[old] sweep" in re.sub(r"[│ ]+", " ", out)
