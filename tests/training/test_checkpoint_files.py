"""Which checkpoint a run goes on from."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import LAST
from samplecnn.training.checkpoint_files import NEXT, PREVIOUS, WholeFiles, last_checkpoint


def write(path: Path) -> bytes:
    WholeFiles().save_checkpoint({"samplecnn": {}, "weights": torch.arange(5000.0)}, path)
    return path.read_bytes()


def changed(data: bytes, place: int, byte: int) -> bytes:
    return data[:place] + bytes([byte]) + data[place + 1 :]


# Of an archive whose parts have all their checksums: a name that is no UTF-8, a part that is said to be
# compressed, and the mark in front of a part.
DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda data: changed(changed(data, data.rindex(b"PK\1\2") + 46, 255), data.rindex(b"PK\1\2") + 9, 8),
    lambda data: changed(data, data.index(b"PK\1\2") + 10, 8),
    lambda data: changed(data, data.index(b"PK\1\2") + 24, 255),
    lambda data: changed(data, data.index(b"PK\3\4", 100), 0),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_that_cannot_be_read(
    tmp_path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """The one before it is taken, whatever is damaged in the archive."""
    write(tmp_path / PREVIOUS)
    (tmp_path / LAST).write_bytes(damage(write(tmp_path / LAST)))
    assert last_checkpoint(tmp_path) == tmp_path / PREVIOUS
    assert "last.ckpt is damaged" in caplog.text
    assert "going on from the one before, previous.ckpt" in caplog.text
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.raises(RunError, match=r"last\.ckpt is damaged .*; .*previous\.ckpt is damaged .*: train"):
        last_checkpoint(tmp_path)


def test_the_newest_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Killed between two renamings, a run has its newest checkpoint under the name of the next."""
    caplog.set_level(logging.INFO)
    assert last_checkpoint(tmp_path) is None
    for name in (PREVIOUS, LAST, NEXT):
        write(tmp_path / name)
        assert last_checkpoint(tmp_path) == tmp_path / name
    assert not caplog.records
