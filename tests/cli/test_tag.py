"""``samplecnn tag``: what is refused, and what is left as it is."""

from pathlib import Path

import pytest

from e2e.test_tag import noise
from inference.models import checkpoint
from samplecnn.cli import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and a song."""
    monkeypatch.chdir(tmp_path)
    checkpoint(Path("made.ckpt"))
    noise(Path("song.wav"), 1)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "tags.txt"], "allowed are .csv, .jsonl, .sqlite, .parquet"),
        (["--out", "no/tags.csv"], "there is no folder no for tags.csv"),
        (["--out", "tags.csv", "--over-time"], "--over-time goes with --csv and --json"),
        (["--again"], "--again is for --out FILE"),
    ],
)
def test_what_cannot_be_carried_out(
    here: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tag", "song.wav", "--model", "made.ckpt", *arguments]) == 1
    assert words in capsys.readouterr().err
    assert not (here / "tags.csv").exists()


def test_another_model_or_way_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(here / "other.ckpt", "basic")
    command = ["tag", "song.wav", "--out", "tags.csv", "--model"]
    assert main([*command, "made.ckpt"]) == 0
    before = (here / "tags.csv").read_bytes()
    capsys.readouterr()
    for more in (["other.ckpt"], ["made.ckpt", "--average", "max"]):
        assert main([*command, *more]) == 1
        said = capsys.readouterr().err
        assert "tags.csv has rows of another source: made, " in said
        assert "It was left as it is: name another file" in said
    assert (here / "tags.csv").read_bytes() == before
