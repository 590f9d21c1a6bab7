"""``samplecnn embed``: what it writes, what it names, and what it leaves as it is."""

from pathlib import Path

import numpy as np
import pytest

import samplecnn
from e2e.test_tag import noise
from inference.models import checkpoint
from samplecnn.cli import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, songs and what is none."""
    monkeypatch.chdir(tmp_path)
    checkpoint(Path("made.ckpt"))
    for number in range(3):
        noise(Path("music") / f"{number}.wav", 2 + number, seed=number)
    Path("music/broken.wav").write_text("no music")
    return tmp_path


def test_a_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["embed", "music", "--model", "made.ckpt", "--out", "music.npz", "--levels", "block9,block7"]
    assert main(command) == 3
    out, err = capsys.readouterr()
    assert "music.npz: 3 embeddings of 3 files, features: block9 12, block7 6" in out
    assert "music/broken.wav" in err
    assert "samplecnn embed: 1 of 4 files could not be read" in err
    tagger = samplecnn.load("made.ckpt", precision="32")
    with np.load("music.npz", allow_pickle=False) as file:
        for path, embedding in zip(file["paths"].tolist(), file["embeddings"], strict=True):
            np.testing.assert_allclose(embedding, tagger.embed_file(path, ["block9", "block7"]), atol=1e-6)
        assert (str(file["model"]), len(str(file["model_hash"]))) == ("made", 16)
    before = Path("music.npz").read_bytes()
    assert main(command) == 1
    assert "is there already, and is left as it is" in capsys.readouterr().err
    assert Path("music.npz").read_bytes() == before
    assert main([*command, "--force", "--over-time"]) == 3
    with np.load("music.npz", allow_pickle=False) as file:
        assert len(file["files"]) == len(file["starts"]) == len(file["embeddings"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "a.txt"], "allowed are .npz, .npy, .parquet"),
        (["--out", "a.npz", "--levels", "block10"], "SampleCNN has no level 'block10'; allowed are block1"),
        (["--out", "a.npz", "--overlap", "1"], "allowed is a share of a segment"),
    ],
)
def test_what_cannot_be_carried_out(
    here: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["embed", "music/0.wav", "--model", "made.ckpt", *arguments]) == 1
    assert words in capsys.readouterr().err
    assert not (here / "a.npz").exists()


def test_nothing_is_written_of_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["embed", "music/broken.wav", "--model", "made.ckpt", "--out", "a.npz"]) == 3
    assert "none of 1 files could be read: a.npz is not written" in capsys.readouterr().err
    assert not Path("a.npz").exists()
