"""Preparing what is there already: finished, begun, made shard by shard, of other clips or changed audio."""

import json
import os
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from data.prepared import MakeRaw, content
from samplecnn.data.datasets import mtat
from samplecnn.data.prepare import _finish, prepare, shard_count
from samplecnn.data.store import Store, StoreError
from samplecnn.data.writer import shard_jobs


def test_finished_store_is_left_alone(raw: Path, store_path: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in store_path.iterdir()}
    assert prepare(mtat.catalog(raw, "nine"), store_path.parent, shard_clips=2) == store_path
    assert {file: file.stat().st_mtime_ns for file in store_path.iterdir()} == before


def test_store_of_another_catalogue_is_not_touched(
    tmp_path: Path, store_path: Path, make_raw: MakeRaw
) -> None:
    other = mtat.catalog(make_raw(tmp_path, {"0/a.mp3": None}), "nine")
    before = content(store_path)
    with pytest.raises(
        StoreError, match=r"another catalogue \(different: clips, splits, source\): choose another data\.name"
    ):
        prepare(other, store_path.parent)
    assert content(store_path) == before


def test_a_store_that_does_not_say_what_it_was_made_from(tmp_path: Path, raw: Path, store_path: Path) -> None:
    folder = Path(copytree(store_path, tmp_path / "nine"))
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["catalog"]["excerpt"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=r"another catalogue \(different: excerpt\)"):
        prepare(mtat.catalog(raw, "nine"), tmp_path)


def test_damaged_store_is_reported(tmp_path: Path, raw: Path, store_path: Path) -> None:
    copytree(store_path, tmp_path / "nine")
    (tmp_path / "nine/shard-00001.npy").unlink()
    with pytest.raises(StoreError, match="damaged"):
        prepare(mtat.catalog(raw, "nine"), tmp_path)


def test_interrupted_store_keeps_what_is_finished(tmp_path: Path, raw: Path, store_path: Path) -> None:
    folder = Path(copytree(store_path, tmp_path / "nine"))
    (folder / "manifest.json").unlink()
    (folder / "labels.npy").unlink()
    (folder / "shard-00001.json").unlink()  # that shard was written but not marked
    os.truncate(folder / "shard-00002.npy", 100)
    (folder / "shard-00000.npy.7.tmp").write_bytes(b"half")
    (folder / "labels.npy.7.tmp").write_bytes(b"half")
    (folder / "shard-00000.lock").touch()  # of a process that was killed
    (folder / "shard-00007.npy").write_bytes(b"of an earlier shard_clips")
    kept = (folder / "shard-00000.npy").stat().st_mtime_ns
    prepare(mtat.catalog(raw, "nine"), tmp_path, progress=False, shard_clips=4)
    assert content(folder) == content(store_path)
    assert (folder / "shard-00000.npy").stat().st_mtime_ns == kept


def test_shards_of_other_clips_are_made_again(tmp_path: Path, raw: Path, store_path: Path) -> None:
    folder = Path(copytree(store_path, tmp_path / "nine"))
    (folder / "manifest.json").unlink()
    prepare(mtat.catalog(raw, "nine"), tmp_path, progress=False, shard_clips=5)
    assert len(list(folder.glob("shard-*"))) == 4
    ours, theirs = Store.open(folder), Store.open(store_path)
    for name, one in ours.select("clean", 3).parts.items():
        other = theirs.select("clean", 3).parts[name]
        np.testing.assert_array_equal(ours.gather(one.segment_spans), theirs.gather(other.segment_spans))


def test_resuming_tries_skipped_clips_again(tmp_path: Path, make_raw: MakeRaw) -> None:
    raw = make_raw(tmp_path / "raw", {"0/a.wav": 1.0, "0/b.wav": None, "0/c.wav": b"", "d/d.wav": 1.0})
    catalog = mtat.catalog(raw, "x")
    folder = prepare(catalog, tmp_path, progress=False, shard_clips=2)
    (folder / "manifest.json").unlink()
    (raw / "mp3/0/b.wav").write_bytes((raw / "mp3/0/a.wav").read_bytes())
    unchanged = (folder / "shard-00001.npy").stat().st_mtime_ns
    prepare(catalog, tmp_path, progress=False, shard_clips=2)
    assert Store.open(folder).clip_paths == ("0/a.wav", "0/b.wav", "d/d.wav")
    assert (folder / "shard-00001.npy").stat().st_mtime_ns == unchanged


def test_shards_made_one_by_one_are_the_same_store(tmp_path: Path, raw: Path, store_path: Path) -> None:
    catalog = mtat.catalog(raw, "nine")
    assert shard_count(catalog, 4) == 3
    for shard in (2, 0, 0):
        folder = prepare(catalog, tmp_path, progress=False, shard_clips=4, shard=shard)
        with pytest.raises(StoreError, match="not finished"):
            Store.open(folder)
    assert sorted(file.suffix for file in folder.iterdir()) == [".json", ".json", ".npy", ".npy"]
    prepare(catalog, tmp_path, progress=False, shard_clips=4, shard=1)
    assert content(folder) == content(store_path)
    assert prepare(catalog, tmp_path, shard_clips=4, shard=1) == folder


def test_plain_call_finishes_what_shards_began(tmp_path: Path, raw: Path, store_path: Path) -> None:
    catalog = mtat.catalog(raw, "nine")
    folder = prepare(catalog, tmp_path, progress=False, shard_clips=4, shard=1)
    kept = (folder / "shard-00001.npy").stat().st_mtime_ns
    prepare(catalog, tmp_path, progress=False, shard_clips=4)
    assert content(folder) == content(store_path)
    assert (folder / "shard-00001.npy").stat().st_mtime_ns == kept


@pytest.mark.parametrize("shard", [-1, 3, 99])
def test_shard_out_of_range(tmp_path: Path, raw: Path, shard: int) -> None:
    with pytest.raises(
        StoreError, match=f"shard is {shard}: nine has 3 shards of 4 clips, allowed are 0 to 2"
    ):
        prepare(mtat.catalog(raw, "nine"), tmp_path, shard_clips=4, shard=shard)


def test_changed_audio_is_noticed(
    tmp_path: Path, make_raw: MakeRaw, caplog: pytest.LogCaptureFixture
) -> None:
    raw = make_raw(tmp_path / "raw", {"0/a.wav": 1.0, "0/b.wav": 1.0, "c/c.wav": 1.0, "d/d.wav": None})
    catalog = mtat.catalog(raw, "x")
    folder = prepare(catalog, tmp_path, progress=False, shard_clips=2)
    before = content(folder)
    caplog.clear()
    (raw / "mp3/c/c.wav").unlink()  # raw audio may be deleted
    prepare(catalog, tmp_path)
    assert not caplog.records
    os.utime(raw / "mp3/0/a.wav", (10**9, 10**9))
    (raw / "mp3/d/d.wav").write_bytes((raw / "mp3/0/b.wav").read_bytes())
    prepare(catalog, tmp_path)
    (warning,) = caplog.messages
    assert f"2 of 4 audio files in {raw / 'mp3'} have changed since the store {folder} was made" in warning
    assert "(0/a.wav, d/d.wav)" in warning
    assert "delete the folder and prepare it again, by the same `samplecnn prepare`" in warning
    assert content(folder) == before


@pytest.mark.parametrize("kept", [{}, {"files": []}])
def test_stores_without_the_state_of_files_open(
    tmp_path: Path, raw: Path, store_path: Path, caplog: pytest.LogCaptureFixture, kept: dict[str, list[int]]
) -> None:
    folder = Path(copytree(store_path, tmp_path / "nine"))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert len(manifest.pop("files")) == 9
    (folder / "manifest.json").write_text(json.dumps(manifest | kept))
    caplog.clear()
    assert prepare(mtat.catalog(raw, "nine"), tmp_path) == folder
    assert not [record for record in caplog.records if record.name == "samplecnn.data.prepare"]


def test_resuming_makes_shards_of_changed_audio_again(tmp_path: Path, make_raw: MakeRaw) -> None:
    raw = make_raw(tmp_path / "raw", {"0/a.wav": 1.0, "0/b.wav": 2.0, "c/c.wav": 1.0, "d/d.wav": 1.0})
    catalog = mtat.catalog(raw, "x")
    folder = prepare(catalog, tmp_path, progress=False, shard_clips=2)
    (folder / "manifest.json").unlink()
    (raw / "mp3/0/b.wav").write_bytes((raw / "mp3/0/a.wav").read_bytes())
    (raw / "mp3/c/c.wav").unlink()
    unchanged = (folder / "shard-00001.npy").stat().st_mtime_ns
    store = Store.open(prepare(catalog, tmp_path, progress=False, shard_clips=2))
    np.testing.assert_array_equal(store.clip(0), store.clip(1))
    assert (folder / "shard-00001.npy").stat().st_mtime_ns == unchanged
    assert not store.skipped


def test_a_store_is_not_finished_without_a_shard(tmp_path: Path, raw: Path) -> None:
    """Which another process has removed, for another data set of that name."""
    catalog = mtat.catalog(raw, "x")
    jobs = shard_jobs(catalog, tmp_path / "x", 4)
    for shard in (0, 2):
        prepare(catalog, tmp_path, progress=False, shard_clips=4, shard=shard)
    with pytest.raises(StoreError, match=r"of .*x, 1 shard was removed meanwhile: another process prepares"):
        _finish(tmp_path / "x", catalog, jobs, 22_050)
    assert not (tmp_path / "x/manifest.json").exists()
