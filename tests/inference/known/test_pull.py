"""Published weights from a real server: fetched once, checked, converted into the cache, found by name."""

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import samplecnn
from data.file_server import FileServer, serving
from inference.keras_files import KERAS
from inference.known.files import at, file_of, weights
from samplecnn.data.download import ATTEMPTS, DownloadError
from samplecnn.errors import UserError
from samplecnn.files import cache_folder
from samplecnn.inference.known.catalog import KNOWN, Known
from samplecnn.inference.known.pull import pull, pulled
from samplecnn.inference.known.tags import TAGS
from samplecnn.inference.locate import local
from samplecnn.runs.bundle import CARD, CONFIG
from samplecnn.runs.errors import RunError

FCN = file_of(weights("fcn"))


def blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


def get(known: Known, folder: Path | None = None, *, force: bool = False) -> Path:
    return pull(known, folder, force=force, pause=0)


def left() -> list[str]:
    """What is left of downloads, but for locks."""
    return sorted(path.name for path in (cache_folder() / "downloads").iterdir() if path.suffix != ".lock")


def test_once_into_the_cache_and_found_by_name(server: FileServer, tmp_path: Path) -> None:
    known = at(server.add("/fcn", FCN), git_blob=blob(FCN), bytes=len(FCN))
    with pytest.raises(UserError, match="mtat-fcn is not on this machine yet: samplecnn pull mtat-fcn"):
        samplecnn.load("mtat-fcn")
    assert pulled(known) is None
    folder = get(known)
    assert folder == tmp_path / "cache/samplecnn/models/mtat-fcn" == pulled(known)
    assert left() == []
    assert get(known) == folder
    assert len(server.asked) == 1

    tagger = samplecnn.load("mtat-fcn")
    assert tagger.tags == TAGS["mtat"]
    assert np.isfinite(tagger.predict(np.zeros(16_000, np.float32), 16_000)).all()
    config = json.loads((folder / CONFIG).read_text())
    assert known.url in config["source"]
    assert f"git blob {known.git_blob}" in config["source"]
    assert "license: mit" in (folder / CARD).read_text()

    get(known, force=True)
    assert len(server.asked) == 2
    elsewhere = tmp_path / "elsewhere"
    assert get(known, elsewhere) == elsewhere
    assert (elsewhere / CONFIG).read_bytes() == (folder / CONFIG).read_bytes()
    with pytest.raises(RunError, match="is there already"):
        get(known, elsewhere)
    assert len(server.asked) == 3


def test_what_breaks_off_goes_on(server: FileServer) -> None:
    url = server.add("/fcn", FCN, cuts=[600_000, *[0] * (ATTEMPTS - 1)])
    known = at(url, git_blob=blob(FCN))
    with pytest.raises(DownloadError, match="broke off"):
        get(known)
    assert left() == ["mtat-fcn.pth.part", "mtat-fcn.pth.part.json"]
    server.asked.clear()
    assert pulled(known) is None
    assert samplecnn.load(get(known)).tags == TAGS["mtat"]
    assert server.ranges() == ["bytes=600000-"]
    assert left() == []


def test_other_bytes_than_published(server: FileServer) -> None:
    known = at(server.add("/fcn", FCN[:-1] + b"x"), git_blob=blob(FCN))
    with pytest.raises(DownloadError, match=f"git blob id .*, {blob(FCN)} is published"):
        get(known)
    assert pulled(known) is None
    assert left() == []


def test_a_file_of_another_network_or_of_none(server: FileServer, tmp_path: Path) -> None:
    for content, words in (
        (file_of(weights("crnn")), "is CRNN of Won et al. now, not FCN of Won et al.: it was removed"),
        (file_of(weights("fcn", tags=3)), "is not FCN .* has 3 outputs, but 50 tags were named"),
        (b"<html>sorry</html>", "is not FCN of Won et al. any more .* not an HDF5 file"),
        (FCN[:-1000], "is not FCN of Won et al. any more .* cannot be read as weights of PyTorch"),
    ):
        with pytest.raises(UserError, match=words):
            get(at(server.add("/fcn", content)))
        assert left() == []
    assert not list((cache_folder() / "models").glob("*"))
    assert samplecnn.load(get(at(server.add("/fcn", FCN)))).tags == TAGS["mtat"]  # the right one, unchecked


def test_offline() -> None:
    with serving() as gone:
        known = at(gone.url("/fcn"))
    with pytest.raises(DownloadError, match=r"cannot fetch mtat-fcn\.pth") as caught:
        get(known)
    assert f"put it at {cache_folder() / 'downloads' / 'mtat-fcn.pth'}" in str(caught.value)
    (cache_folder() / "downloads" / "mtat-fcn.pth").write_bytes(FCN)
    assert get(known) == pulled(known)


def test_the_authors_file(server: FileServer) -> None:
    content = (KERAS / "se-multi-narrow.hdf5").read_bytes()
    known = at(server.add("/se.hdf5?dl=1", content), "mtat-se")
    folder = get(known)
    assert "no checksum is published" in json.loads((folder / CONFIG).read_text())["source"]
    assert "No licence of the weights is stated." in (folder / CARD).read_text()
    wrong = at(known.url, "mtat-rese2")
    with pytest.raises(UserError, match=r"is SE, multi-level, of Kim et al\. now, not ReSE-2"):
        get(wrong)


def test_at_the_same_time(server: FileServer) -> None:
    known = at(server.add("/fcn", FCN), git_blob=blob(FCN))
    threads = [threading.Thread(target=get, args=[known]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.asked) == 1
    assert samplecnn.load("mtat-fcn").tags == TAGS["mtat"]


def test_paths_come_before_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mtat-fcn").mkdir()
    assert local("mtat-fcn") == Path("mtat-fcn")
    with pytest.raises(UserError, match="there is no model mtat-cnn: did you mean mtat-crnn"):
        local("mtat-cnn")
    assert local("runs/of/mine") == Path("runs/of/mine")


def test_the_cache_of_a_user_without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "not/absolute"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == Path.home() / ".cache/samplecnn"
    assert KNOWN["mtat-fcn"].bytes
