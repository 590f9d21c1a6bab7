"""Shards on disks that are full, fail or have no locks."""

import errno
import fcntl
import multiprocessing
import os
import resource
import threading
from contextlib import closing
from pathlib import Path
from shutil import copytree, disk_usage

import pytest
from tqdm import tqdm

from data.prepared import MakeRaw
from samplecnn.data import writer
from samplecnn.data.datasets import mtat
from samplecnn.data.prepare import prepare
from samplecnn.data.store import StoreError
from samplecnn.data.workers import Workers
from samplecnn.data.writer import require_space, shard_jobs
from samplecnn.errors import UserError
from samplecnn.files import NO_LOCKS, BusyError


def test_room_is_checked_beforehand(tmp_path: Path, raw: Path) -> None:
    catalog = mtat.catalog(raw, "nine")
    with closing(Workers(1, tqdm(disable=True))) as workers:
        need = workers.expected_bytes(shard_jobs(catalog, tmp_path, 4))
    assert need == pytest.approx(2 * 22_050 * (3 + 29 + 1 + 6 + 3.5 + 8.2 + 5.5 + 3 + 2.8), rel=0.01)
    require_space(tmp_path, need)
    with pytest.raises(StoreError, match=r"needs about \d+\.\d\d GB more and .* are free: make room"):
        require_space(tmp_path, disk_usage(tmp_path).total + 1)


@pytest.mark.parametrize("code", NO_LOCKS)
def test_file_system_without_locks(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match=r"the file system of .*nine has no locks: choose a folder"):
        prepare(mtat.catalog(raw, "nine"), tmp_path, progress=False)


def test_a_disk_that_becomes_full_leaves_no_thread_and_no_process(tmp_path: Path, make_raw: MakeRaw) -> None:
    raw = make_raw(tmp_path / "raw", {f"{part}/{n}.wav": 2.0 for part in "0cd" for n in range(5)})
    children = set(multiprocessing.active_children())  # of other tests
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # bytes of a file
    try:
        with pytest.raises(StoreError, match="no room to write") as caught:
            prepare(mtat.catalog(raw, "x"), tmp_path, workers=2, progress=False)
        left = [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not left
    assert set(multiprocessing.active_children()) <= children
    del caught


def test_what_is_removed_of_a_shard_is_not_its_lock(tmp_path: Path, raw: Path) -> None:
    (tmp_path / "x").mkdir()
    job = shard_jobs(mtat.catalog(raw, "x"), tmp_path / "x", 4)[0]
    with job.locked():
        job.file.touch()
        job.remove()
        assert not job.file.exists()
        with pytest.raises(BusyError), job.locked():
            pass


def test_a_disk_that_fails_is_no_full_disk(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=r"Input/output error: .*shard-0000\d\.npy") as caught:
        prepare(mtat.catalog(raw, "x"), tmp_path, progress=False)
    assert not isinstance(caught.value, StoreError)


def test_shards_of_other_clips_need_no_room(
    tmp_path: Path, raw: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(copytree(store_path, tmp_path / "nine"))
    (folder / "manifest.json").unlink()
    there: list[Path] = []

    def look(folder: Path) -> object:
        there.extend(folder.glob("shard-*.npy"))
        return disk_usage(folder)

    monkeypatch.setattr(writer, "disk_usage", look)
    prepare(mtat.catalog(raw, "nine"), tmp_path, progress=False, shard_clips=2)
    assert not there
