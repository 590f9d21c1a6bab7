"""``samplecnn use``: a model that is chosen on purpose."""

import json
from pathlib import Path

import pytest

from e2e.test_tag import noise
from inference.models import checkpoint
from samplecnn.cli import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    noise(Path("song.wav"), 1)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(list(arguments)) == status
    out, err = capsys.readouterr()
    return err if status else out


def test_without_any_model(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["tag", "song.wav"], ["use"], ["serve"]):
        message = said(capsys, *command, status=1)
        for way in ("samplecnn train", "samplecnn models", "samplecnn import", "samplecnn use"):
            assert way in message


def test_a_model_that_is_chosen(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Is what is used until it is forgotten, from wherever."""
    model = checkpoint(here / "chosen.ckpt")
    for _ in range(2):
        assert said(capsys, "use", "chosen.ckpt").startswith(f"{model} (chosen in ")
    assert said(capsys, "use").startswith(f"{model} (chosen in ")
    assert f"model: {model}" in said(capsys, "tag", "song.wav")
    assert json.loads(said(capsys, "tag", "song.wav", "--json"))["model"] == "chosen"
    head, row = said(capsys, "tag", "song.wav", "--csv").splitlines()
    assert head.endswith(",model")
    assert row.endswith(",chosen")
    model.unlink()
    message = said(capsys, "tag", "song.wav", status=1)
    assert f"{model}, which `samplecnn use` has chosen, is not there any more" in message
    assert "there is no model" in said(capsys, "use", "--forget", status=1)
    assert not list((here / "settings").rglob("*.json"))


@pytest.mark.parametrize(
    ("model", "words"),
    [("nowhere", "there is no run folder"), ("song.wav", "is not a checkpoint"), ("hf:x", "is no model")],
)
def test_what_is_no_model_is_not_chosen(
    here: Path, model: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in said(capsys, "use", model, status=1)
    assert not (here / "settings").exists()


def test_to_forget_takes_no_model(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(here / "chosen.ckpt")
    said(capsys, "use", "chosen.ckpt")
    assert "--forget takes no model" in said(capsys, "use", "--forget", "chosen.ckpt", status=1)
    assert "(chosen in " in said(capsys, "use")


def test_a_damaged_choice(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(here / "chosen.ckpt")
    said(capsys, "use", "chosen.ckpt")
    (here / "settings" / "samplecnn" / "model.json").write_text("{}")
    assert "`samplecnn use MODEL` chooses another" in said(capsys, "tag", "song.wav", status=1)
    said(capsys, "use", "chosen.ckpt")
