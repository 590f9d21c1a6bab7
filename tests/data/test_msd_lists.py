"""Pickled lists of track ids: read in every protocol, and never unpickled."""

import pickle
from pathlib import Path

import pytest

from data.shaped import python2_pickle, track_id
from samplecnn.data.catalog import CatalogError
from samplecnn.data.datasets import msd

IDS = [track_id(number) for number in range(300)]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_lists_are_read(tmp_path: Path, protocol: int) -> None:
    file = tmp_path / "list.cP"
    file.write_bytes(pickle.dumps(IDS, protocol))
    assert msd.read_pickled_list(file) == IDS
    if protocol >= 3:
        file.write_bytes(pickle.dumps([text.encode() for text in IDS], protocol))
        assert msd.read_pickled_list(file) == IDS


def test_the_published_form_is_read(tmp_path: Path) -> None:
    file = tmp_path / "list.cP"
    file.write_bytes(python2_pickle(IDS))
    assert pickle.loads(file.read_bytes()) == IDS
    assert msd.read_pickled_list(file) == IDS


class Hostile:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_code_runs(tmp_path: Path, protocol: int) -> None:
    touched, file = tmp_path / "touched", tmp_path / "list.cP"
    file.write_bytes(pickle.dumps([*IDS[:3], Hostile(touched)], protocol))
    with pytest.raises(CatalogError, match="it holds"):
        msd.read_pickled_list(file)
    assert not touched.exists()
    pickle.loads(file.read_bytes())
    assert touched.exists()  # so it would have


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"cannot be read \(pickle exhausted"),
        (b"TRAAAAW128F429D538\n", "allowed is one plain list of texts"),
        (pickle.dumps(IDS)[:-20], "cannot be read"),
        (python2_pickle(IDS)[:-1], "cannot be read"),
        (pickle.dumps("TRAAAAW128F429D538"), "it holds 0 lists"),
        (pickle.dumps([IDS, IDS[:1]]), "it holds"),
        (pickle.dumps([IDS[:1], IDS[1:2]]), "it holds 3 lists"),
        (pickle.dumps({"TRAAAAW128F429D538": 1}), "it holds EMPTY_DICT"),
        (pickle.dumps([1, 2]), "it holds BININT1"),
        (b"\x80\x04]\x8d" + (2**62).to_bytes(8, "little") + b"a.", "cannot be read"),
        (b"\x80\x04" * 12_000_000, "it has more than 20,000,000 bytes"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "list.cP"
    file.write_bytes(content)
    with pytest.raises(CatalogError, match=message):
        msd.read_pickled_list(file)
