"""Preparing stores: bad files among good ones, excerpts and rates, always the same bytes."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from data.prepared import MakeRaw, content
from samplecnn.data import writer
from samplecnn.data.audio import SEGMENT_SAMPLES, decode, load, to_int16
from samplecnn.data.catalog import CatalogError
from samplecnn.data.datasets import mtat
from samplecnn.data.inspect import check
from samplecnn.data.prepare import prepare
from samplecnn.data.store import Store, StoreError

RATE = 16_000  # Hz


def test_bad_files_are_skipped_and_listed(
    tmp_path: Path, make_raw: MakeRaw, caplog: pytest.LogCaptureFixture
) -> None:
    good = make_raw(tmp_path / "good", {"0/good.mp3": 2.0})
    mp3 = (good / "mp3/0/good.mp3").read_bytes()
    nan = np.zeros(RATE)
    nan[RATE // 2] = np.nan
    soundfile.write(tmp_path / "nan.wav", nan, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "silence.wav", np.zeros(3 * RATE), RATE)
    raw = make_raw(
        tmp_path / "raw",
        {
            "0/good.mp3": mp3,
            "1/missing.mp3": None,
            "1/empty.mp3": b"",
            "2/text.mp3": b"not music\n" * 300,
            "3/cut.mp3": mp3[: len(mp3) // 2],
            "4/nan.wav": (tmp_path / "nan.wav").read_bytes(),
            "5/silence.wav": (tmp_path / "silence.wav").read_bytes(),
            "c/short.wav": 0.2,
            "d/good.flac": 3.0,
        },
    )
    (raw / "mp3/1/folder.mp3").mkdir()
    with (raw / "annotations_final.csv").open("a") as annotations:
        annotations.write("99\t0\t1\t0\t1/folder.mp3\n")
    with caplog.at_level(logging.INFO):
        store = Store.open(prepare(mtat.catalog(raw, "x"), tmp_path, progress=False, shard_clips=4))

    assert store.clip_paths == ("0/good.mp3", "5/silence.wav", "c/short.wav", "d/good.flac")
    assert store.tag_counts.tolist() == [9, 5, 1]  # of all ten
    assert store.labels[:, 1].tolist() == [0, 0, 1, 0]
    assert store.lengths.tolist() == [44_100, 66_150, 4_410, 66_150]
    assert {clip["path"]: clip["reason"].split(" (")[0].split(":")[0] for clip in store.skipped} == {
        "1/missing.mp3": "no such file",
        "1/empty.mp3": "empty file",
        "2/text.mp3": "cannot be decoded as audio",
        "3/cut.mp3": "incomplete",
        "4/nan.wav": "1 samples are NaN or infinite, the first at 0.500 s",
        "1/folder.mp3": "is a folder or no regular file",
    }
    assert store.skipped[0]["id"] == "11"
    parts = store.select("clean", 50).parts
    assert [part.clip_ids for part in parts.values()] == [("10", "16"), ("17",), ("18",)]
    assert not store.gather(parts["train"].segment_spans[1:]).any()
    assert "4 clips, 0.00 hours, 0.00 GB; 6 skipped" in caplog.text
    assert "skipped 6 of 10 clips (1/missing.mp3: no such file; 1/empty.mp3: " in caplog.text
    assert "and 1 more; all in" in caplog.text


def test_nothing_is_left_if_no_clip_can_be_used(tmp_path: Path, make_raw: MakeRaw) -> None:
    raw = make_raw(tmp_path / "raw", {"0/a.mp3": None, "c/b.mp3": b"text", "d/c.mp3": b""})
    with pytest.raises(StoreError, match=r"none of the 3 clips of x .*a\.mp3: no such file.*data\.raw"):
        prepare(mtat.catalog(raw, "x"), tmp_path / "stores", progress=False, shard_clips=2)
    assert [file.name for file in (tmp_path / "stores").iterdir()] == ["x.lock"]


def test_a_folder_with_a_file_of_somebody_else_s_says_that_no_clip_can_be_used(
    tmp_path: Path, make_raw: MakeRaw
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/notes.txt").touch()
    with pytest.raises(StoreError, match="none of the 1 clips of x"):
        prepare(mtat.catalog(make_raw(tmp_path / "raw", {"0/a.mp3": None}), "x"), tmp_path, progress=False)
    assert [file.name for file in (tmp_path / "x").iterdir()] == ["notes.txt"]


def test_bytes_do_not_depend_on_workers(
    tmp_path: Path, raw: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "ROWS", 2)  # nor on how many labels are written at a time
    for workers in (1, 3, 8):
        again = prepare(
            mtat.catalog(raw, "nine"), tmp_path / str(workers), workers=workers, progress=False, shard_clips=4
        )
        assert content(again) == content(store_path)


@pytest.mark.parametrize(
    ("seconds", "start"), [(None, "start"), (None, "middle"), (2, "start"), (2.5, "middle"), (29, "middle")]
)
def test_excerpts(tmp_path: Path, raw: Path, seconds: float | None, start: str) -> None:
    catalog = replace(mtat.catalog(raw, "nine"), excerpt_seconds=seconds, excerpt_start=start)
    store = Store.open(prepare(catalog, tmp_path, workers=1, progress=False))
    for index, path in enumerate(store.clip_paths):
        expected = to_int16(load(catalog.audio / path, max_seconds=seconds, start=start))
        np.testing.assert_array_equal(store.clip(index), expected)
    b = store.clip(1)  # 31 s
    assert len(b) == round((seconds or 31) * 22_050)
    part = store.select("pons", None).parts["train"]
    assert np.count_nonzero(part.segment_clip == 1) == max(1, len(b) // SEGMENT_SAMPLES)
    if seconds is not None:
        with pytest.raises(StoreError, match=r"another catalogue \(different: excerpt\)"):
            prepare(replace(catalog, excerpt_seconds=seconds + 1), tmp_path)


def test_a_store_at_another_rate(tmp_path: Path, raw: Path) -> None:
    """MTAT's files are at 16 kHz: nothing is resampled. Beside the store at 22,050 Hz, of the same clips."""
    catalog = mtat.catalog(raw, "nine")
    folder = prepare(catalog, tmp_path, rate=16_000, workers=1, progress=False)
    assert folder == tmp_path / "nine-16000"
    store = Store.open(folder)
    assert (store.name, store.sample_rate) == ("nine", 16_000)
    for index, path in enumerate(store.clip_paths):
        decoded, rate = decode(catalog.audio / path, max_seconds=29)
        assert rate == 16_000
        np.testing.assert_array_equal(store.clip(index), to_int16(decoded)[: 29 * 16_000])
    assert store.lengths.max() == 464_000
    usual = Store.open(prepare(catalog, tmp_path, workers=1, progress=False))
    assert (usual.path, usual.sample_rate) == (tmp_path / "nine", 22_050)
    assert usual.select("clean", None).split_hash == store.select("clean", None).split_hash
    assert store.lengths.sum() / 16_000 == pytest.approx(usual.lengths.sum() / 22_050)
    assert check(folder, progress=False) == []

    before = (folder / "manifest.json").stat().st_mtime_ns
    prepare(catalog, tmp_path, rate=16_000, progress=False)
    assert (folder / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(StoreError, match=r"nine-16000 is at 16000 Hz, not 22050: choose another data\.name"):
        prepare(mtat.catalog(raw, "nine-16000"), tmp_path, progress=False)


def test_impossible_excerpts(raw: Path) -> None:
    catalog = mtat.catalog(raw, "nine")
    for seconds in (0, -3.0, float("nan"), float("inf"), 1e-9):
        with pytest.raises(
            CatalogError, match=r"excerpt_seconds is .*: allowed are seconds above 0, or null"
        ):
            replace(catalog, excerpt_seconds=seconds)
    with pytest.raises(CatalogError, match="excerpt_start is 'end': allowed are start, middle"):
        replace(catalog, excerpt_start="end")


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"workers": -1}, {"shard_clips": 0}])
def test_counts_have_to_be_positive(tmp_path: Path, raw: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(StoreError, match="both have to be at least 1"):
        prepare(mtat.catalog(raw, "x"), tmp_path, progress=False, **wrong)


def test_root_that_is_a_file(tmp_path: Path, raw: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(StoreError, match=r"cannot write below .*choose another data\.root"):
            prepare(mtat.catalog(raw, "x"), root, progress=False)


def test_threads_of_torch_are_as_before(tmp_path: Path, raw: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        prepare(mtat.catalog(raw, "x"), tmp_path, workers=1, progress=False)
        with ThreadPoolExecutor(1) as pool:  # a thread has what was set last
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


def test_progress_is_shown(tmp_path: Path, raw: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prepare(mtat.catalog(raw, "x"), tmp_path, shard_clips=4, shard=1)
    assert "4/4" in capfd.readouterr().err
    prepare(mtat.catalog(raw, "x"), tmp_path, shard_clips=4)
    shown = capfd.readouterr().err
    assert "4/9" in shown  # from the beginning
    assert "9/9" in shown
