"""``samplecnn train`` and ``prepare`` as typed in any folder; what they do is in tests/e2e."""

import subprocess
import sys
from pathlib import Path

import pytest

from samplecnn.cli import main, parser


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
