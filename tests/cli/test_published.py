"""``samplecnn models``, ``pull`` and ``import``."""

import json
from pathlib import Path

import pytest

from data.file_server import serving
from inference.known.files import at, file_of, weights
from samplecnn.cli import main
from samplecnn.inference.known.catalog import KNOWN
from samplecnn.runs.folder import load_model


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 1
    return capsys.readouterr().err


def test_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    for name, known in KNOWN.items():
        (line,) = (line for line in text.splitlines() if line.split()[:1] == [name])
        for word in (known.title, known.data, known.split, f"{known.roc_auc:.4f}"):
            assert f"  {word}" in line
    assert "none stated" in text
    assert "whose structure alone is checked: mtat-se, mtat-rese2, msd-fcn" in text
    assert main(["models", "--json"]) == 0
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert listed.keys() == KNOWN.keys()
    assert listed["mtat-fcn"]["license_id"] == "mit"
    assert listed["mtat-fcn"]["folder"] is None


def test_import_by_name_of_the_tags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("w.pth").write_bytes(file_of(weights("crnn")))
    assert "Say it with --tags: mtat, msd, jamendo" in failed(capsys, "import", "w.pth", "out")
    assert not Path("out").exists()
    assert main(["import", "w.pth", "out", "--tags", "msd", "--license", "cc0-1.0"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("CRNN of Won et al.: crnn, 50 tags, 16,000 Hz, 29.0 s at once\n")
    assert "license: cc0-1.0" in Path("out/README.md").read_text()
    assert load_model("out").tags[0] == "rock"
    assert "is there already: --force" in failed(capsys, "import", "w.pth", "out", "--tags", "msd")
    Path("tags.txt").write_text("\ufeff" + "\n".join(f"tag {number}" for number in range(50)))
    assert main(["import", "w.pth", "out", "--tags", "tags.txt", "--force"]) == 0
    assert load_model("out").tags[::49] == ("tag 0", "tag 49")
    for line in ("", " ", "tag 1", "\x1b[31m"):
        Path("odd.txt").write_text(f"tag 1\n{line}\n")
        said = failed(capsys, "import", "w.pth", "new", "--tags", "odd.txt")
        assert "odd.txt, line 2: " in said
        assert said.endswith(" is empty, repeated or not printable\n")
    said = failed(capsys, "import", "w.pth", "new", "--tags", "mtatt")
    assert "--tags mtatt: there is no such file, and known are mtat, msd, jamendo" in said


def test_pull_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as server:
        monkeypatch.setitem(
            KNOWN, "jamendo-fcn", at(server.add("/it", file_of(weights("fcn"))), "jamendo-fcn")
        )
        assert main(["pull", "jamendo-fcn"]) == 0
        folder = tmp_path / "cache/samplecnn/models/jamendo-fcn"
        out = capsys.readouterr().out
        assert out.startswith(f"{folder / 'config.json'}  ")
        assert out.endswith("samplecnn tag song.mp3 --model jamendo-fcn\n")
        assert main(["pull", "jamendo-fcn"]) == 0  # once is enough
        assert len(server.asked) == 1
    capsys.readouterr()
    assert main(["models"]) == 0
    here = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("  yes")]
    assert here == ["jamendo-fcn"]
    assert main(["export", "jamendo-fcn", "out"]) == 0
    assert load_model("out").tags == load_model(folder).tags
    assert "\nlicense: mit\n" in Path("out/README.md").read_text()


def test_what_is_not_pulled(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'mtat-fnc' is no published model" in failed(capsys, "pull", "mtat-fnc")
    assert "where should the bundle go? samplecnn pull me/it DIR" in failed(capsys, "pull", "me/it")
    Path("taken").mkdir()
    Path("taken/diary.txt").write_text("mine")
    assert "taken is there already" in failed(capsys, "pull", "mtat-fcn", "taken")
    assert Path("taken/diary.txt").read_text() == "mine"


def test_without_a_model_it_is_said_where_one_is(capsys: pytest.CaptureFixture[str]) -> None:
    said = failed(capsys, "tag", "song.mp3")
    assert "samplecnn pull mtat-musicnn  fetches published weights (samplecnn models lists them)" in said
    said = failed(capsys, "tag", "song.mp3", "--model", "mtat-musicnn")
    assert "mtat-musicnn is not on this machine yet: samplecnn pull mtat-musicnn fetches it" in said
    for command in (["export", "mtat-musicnn", "out"], ["evaluate", "mtat-musicnn"]):
        assert "samplecnn pull mtat-musicnn fetches it" in failed(capsys, *command)
