"""``samplecnn excitation`` on the built-in set, as a real process."""

import csv
import importlib
import os
import pty
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf

from analysis.excitations_by_hand import assert_same, averages_by_hand
from analysis.made_runs import composed
from samplecnn import mini
from samplecnn.analysis.excitation import Excitations
from samplecnn.cli import main
from samplecnn.cli.common import comma_separated
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.data.prepare import prepare
from samplecnn.model.architecture import build
from samplecnn.model.network import SampleCNN
from samplecnn.runs.folder import load_model

OWN_BLOCK = """
from torch import nn
from samplecnn.model.blocks import Basic, SqueezeExcitation


class Sometimes(Basic):
    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels)
        if in_channels != out_channels:
            self.bn1 = nn.Sequential(self.bn1, SqueezeExcitation(out_channels, 2))
"""


@pytest.fixture(scope="module")
def mini_root(tmp_path_factory: pytest.TempPathFactory, mini_raw: Path) -> Path:
    """The built-in set at its smallest: 16 clips, of which 3 are tested; some tags have no clip there."""
    root = tmp_path_factory.mktemp("stores")
    prepare(mini.catalog(mini_raw, clips=16), root, progress=False)
    return root


def write_run(folder: Path, root: Path, block: dict[str, Any], own: dict[str, Any] | None = None) -> Path:
    """A run folder on the mini set whose network was not trained."""
    data = SegmentDataModule(root / "mini", top=None)
    config = yaml.safe_load(composed(())) | {"block": block, "width": 3}
    config["data"] |= {"root": str(root), "top": None}
    description = {
        "format": 1,
        "block": block,
        "multi": True,
        "width": 3,
        "dropout": 0.5,
        "tags": list(data.tags),
        "sample_rate": 22050,
        "split_hash": data.selection.split_hash,
    }
    torch.manual_seed(0)
    weights = build(description, len(data.tags), own).state_dict()
    state = {f"network.{name}": value for name, value in weights.items()}
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    torch.save({"samplecnn": description, "state_dict": state}, folder / "checkpoints/best.ckpt")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, mini_root: Path) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "se", mini_root, {"name": "se", "alpha": 2})


def start(*command: object, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    strict = {"PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    return subprocess.run(
        [*map(str, command)],
        env=os.environ | strict,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=300,
        check=False,
    )


def read_to_end(terminal: int) -> str:
    """What processes that have ended have left on a terminal."""
    said = b""
    with open(terminal, "rb", buffering=0) as stream, suppress(OSError):  # EIO: no more
        while chunk := stream.read(4096):
            said += chunk
    return said.decode()


SAMPLECNN = Path(sys.executable).with_name("samplecnn")
DATA_FILES = {"excitation.npz", "excitation.csv", "deviation.csv", "cooccurrence.csv"}
FIGURES = {"excitation.svg", "excitation.png", "deviation.svg", "deviation.png"}


def table(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_command(run: Path, mini_root: Path, tmp_path: Path) -> None:
    terminal, other_end = pty.openpty()
    termios.tcsetwinsize(other_end, (24, 80))
    done = start(SAMPLECNN, "excitation", run, stderr=other_end)
    os.close(other_end)
    shown = read_to_end(terminal)
    assert done.returncode == 0, shown
    assert "excitations: 100%" in shown
    folder = run / "excitation"
    assert {path.name for path in folder.iterdir()} == DATA_FILES | FIGURES
    assert all(str(folder / name) in done.stdout for name in DATA_FILES | FIGURES)

    data = SegmentDataModule(mini_root / "mini", top=None)
    labels = data.parts["test"].labels.astype(int)
    counts = dict(zip(data.tags, labels.sum(axis=0).tolist(), strict=True))
    unused = [tag for tag in data.tags if not counts[tag]]
    assert f"left out, without clips: {', '.join(unused)}" in done.stdout
    assert unused

    with np.load(folder / "excitation.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert all(array.dtype.kind in "ifU" for array in arrays.values())
    used = [tag for tag in data.tags if counts[tag]]
    assert arrays["tags"].tolist() == used
    assert arrays["unused_tags"].tolist() == unused

    model = load_model(run).network.double()
    assert isinstance(model, SampleCNN)
    assert_same(Excitations.load(folder / "excitation.npz"), averages_by_hand(model, data), 1e-5)

    header, *rows = table(folder / "excitation.csv")
    assert header == ["block", "channel", "all segments", *used]
    assert len(rows) == 3 * (2 + 6 * 2 + 4)
    for block in range(1, 10):
        numbers = np.array([[float(cell) for cell in row[1:]] for row in rows if row[0] == str(block)])
        np.testing.assert_array_equal(numbers[:, 0], np.arange(len(numbers)))
        np.testing.assert_array_equal(numbers[:, 1], arrays[f"block{block}_overall"])
        np.testing.assert_array_equal(numbers[:, 2:].T, arrays[f"block{block}"])
    header, *rows = table(folder / "deviation.csv")
    assert header == ["block", "channels", "standard deviation"]
    for block, row in enumerate(rows, start=1):
        means = arrays[f"block{block}"]
        assert [int(row[0]), int(row[1]), float(row[2])] == [block, means.shape[1], means.std(axis=0).mean()]
        assert f"{float(row[2]):.4f}" in done.stdout

    header, *rows = table(folder / "cooccurrence.csv")
    tags = header[1:]
    assert len(tags) == len(rows) == 3
    columns = [data.tags.index(tag) for tag in tags]
    for tag, column, row in zip(tags, columns, rows, strict=True):
        assert row[0] == tag
        assert [int(cell) for cell in row[1:]] == [(labels[:, column] * labels[:, c]).sum() for c in columns]

    # Drawn again from its data, with other tags and blocks.
    asked = ["loud", "quiet"]
    again = start(
        SAMPLECNN, "excitation", folder / "excitation.npz", "--tags", ",".join(asked), "--blocks", "2,9",
        "--out", tmp_path / "again",
    )  # fmt: skip
    assert (again.returncode, again.stderr) == (0, "")
    assert (tmp_path / "again/excitation.npz").read_bytes() == (folder / "excitation.npz").read_bytes()
    assert table(tmp_path / "again/cooccurrence.csv")[0] == ["tag", *asked]
    svg = ElementTree.parse(tmp_path / "again/excitation.svg")
    texts = {text for element in svg.iter() if (text := (element.text or "").strip())}
    assert texts >= {*(f"{tag} ({counts[tag]} clips)" for tag in asked), "block 2", "block 9"}


def test_without_matplotlib_the_data_are_written(run: Path, tmp_path: Path) -> None:
    # Not to be imported any more, as if it were not there; torchmetrics looks for it too, but elsewhere.
    hide = (
        "import sys, torchmetrics; from samplecnn.cli import main; "
        "sys.modules.update({name: None for name in [*sys.modules, 'matplotlib'] if 'matplotlib' in name}); "
        "sys.exit(main(sys.argv[1:]))"
    )
    done = start(sys.executable, "-c", hide, "excitation", run, "--out", tmp_path / "new/out")
    assert done.returncode == 0
    assert {path.name for path in (tmp_path / "new/out").iterdir()} == DATA_FILES
    (line,) = done.stderr.splitlines()  # and no progress bar, for this is no terminal
    assert "pip install 'samplecnn[plots]'" in line
    assert str(tmp_path / "new/out/excitation.npz") in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tags", "louder,quiet"], ["no tag 'louder'", "loud"]),
        (["--blocks", "1,10"], ["no excitations of block 10: allowed are 1, 2, 3, 4, 5, 6, 7, 8, 9"]),
        (["--data-root", "nowhere"], ["no store at nowhere/mini"]),
    ],
)
def test_what_is_asked_in_vain(
    run: Path, arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert main(["excitation", str(run), "--out", str(out), *arguments]) == 1
    said = capsys.readouterr()
    assert all(word in said.err for word in words), said.err
    assert said.out == ""
    assert not out.exists()


def test_a_file_in_the_place_of_the_folder(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("mine")
    assert main(["excitation", str(run), "--out", str(tmp_path / "out")]) == 1
    assert "out is a file; name a folder" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


def test_runs_that_have_no_excitations(
    mini_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = write_run(tmp_path / "res2", mini_root, {"name": "res2"})
    assert main(["excitation", str(plain)]) == 1
    assert "Res2 has no squeeze-and-excitation" in capsys.readouterr().err
    assert main(["excitation", str(tmp_path)]) == 1
    assert "is not a run folder" in capsys.readouterr().err
    assert main(["excitation", str(plain / "checkpoints/best.ckpt")]) == 1
    assert "is not a file of excitations" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["excitation", str(plain), "--blocks", "1,x"])
    assert "'1,x' is not a list of block numbers such as 1,5,9" in capsys.readouterr().err


def test_a_run_with_a_block_of_one_s_own(
    mini_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sometimes_se.py").write_text(OWN_BLOCK)
    monkeypatch.syspath_prepend(tmp_path)
    block = importlib.import_module("sometimes_se").Sometimes
    own = write_run(tmp_path / "own", mini_root, {"name": "sometimes"}, {"sometimes": block})
    assert main(["excitation", str(own)]) == 1
    assert "unknown block 'sometimes'" in capsys.readouterr().err
    assert main(["excitation", str(own), "--block", "sometimes=sometimes_se.Sometimes"]) == 0
    assert Excitations.load(own / "excitation/excitation.npz").blocks == (3, 9)


def test_tag_names_with_commas() -> None:
    assert comma_separated("slow, male vocal,fast") == ["slow", "male vocal", "fast"]
    assert comma_separated('slow, "rock, hard"') == ["slow", "rock, hard"]
    assert comma_separated("") == []
