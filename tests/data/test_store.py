"""Reading a store: what is selected and gathered, and damage of every kind."""

import hashlib
import json
import os
import pickle
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samplecnn.data import audio
from samplecnn.data.catalog import PARTS
from samplecnn.data.store import Store, StoreError


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store.open(store_path)


@pytest.fixture
def copy(store_path: Path, tmp_path: Path) -> Path:
    """A copy of the store to damage."""
    return Path(shutil.copytree(store_path, tmp_path / "nine"))


def edit_manifest(path: Path, **changes: Any) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def test_what_a_store_knows(store: Store, store_path: Path) -> None:
    assert (store.name, store.path, store.sample_rate) == ("nine", store_path, 22_050)
    assert store.tags == ("loud", "slow", "rare")
    assert store.tag_counts.tolist() == [9, 4, 1]
    assert store.clip_ids == tuple(str(number) for number in range(10, 19))
    assert store.clip_paths[:2] == ("0/a.mp3", "0/b.mp3")
    seconds = [3.0, 29, 1.0, 6.0, 3.5, 8.2, 5.5, 3.0, 2.8]  # the second is trimmed
    assert store.lengths.tolist() == [round(length * 22_050) for length in seconds]
    assert store.labels.tolist()[:3] == [[1, 0, 1], [1, 1, 0], [1, 0, 0]]
    assert store.skipped == ()


def test_files_are_as_described(store_path: Path) -> None:
    manifest = json.loads((store_path / "manifest.json").read_text())
    shards = {f"shard-0000{index}.{end}" for index in range(3) for end in ("npy", "json")}
    assert {file.name for file in store_path.iterdir()} == {"manifest.json", "labels.npy", *shards}
    for shard in manifest["shards"]:
        content = (store_path / shard["file"]).read_bytes()
        assert len(content) == shard["bytes"]
        assert hashlib.sha256(content).hexdigest() == shard["sha256"]
    assert str(store_path.parent) not in (store_path / "manifest.json").read_text()


def test_segments_are_those_that_decoding_gives(store: Store, raw: Path) -> None:
    """What is trained on is what the tagger will later hear: load, quantise, cut."""
    selection = store.select("clean", None)
    counts = []
    for name in PARTS:
        part = selection.parts[name]
        gathered = store.gather(part.segment_spans)
        assert gathered.dtype == np.int16
        for index, clip in enumerate(part.clips):
            waveform = audio.to_int16(audio.load(raw / "mp3" / store.clip_paths[clip]))
            expected = audio.segments(waveform)[:10]
            np.testing.assert_array_equal(gathered[part.segment_clip == index], expected)
            counts.append(len(expected))
    assert counts == [1, 10, 1, 2, 1, 3, 2, 1, 1]


def test_gathering_into_a_used_buffer_pads_with_zeros(store: Store) -> None:
    part = store.select("clean", None).parts["train"]
    short = part.segment_spans[part.segment_spans[:, 2] < audio.SEGMENT_SAMPLES]
    assert short[:, 2].tolist() == [22_050]
    buffer = np.full((1, audio.SEGMENT_SAMPLES), 7, dtype=np.int16)
    assert store.gather(short, buffer) is buffer
    assert buffer[0, :22_050].any()
    assert not buffer[0, 22_050:].any()
    with pytest.raises(ValueError, match="zip"):
        store.gather(part.segment_spans, buffer)


def test_clips_are_read_whole(store: Store, store_path: Path) -> None:
    for index, (shard, start, samples) in enumerate(store.clip_spans.tolist()):
        expected = np.load(store_path / f"shard-0000{shard}.npy")[start : start + samples]
        np.testing.assert_array_equal(store.clip(index), expected)


def test_shard_that_is_cut_while_open_raises_an_error(copy: Path) -> None:
    store = Store.open(copy)
    os.truncate(copy / "shard-00002.npy", 1000)
    with pytest.raises(
        OSError, match=r"shard-00002\.npy ends at 1000 bytes: it was longer when it was opened"
    ):
        store.clip(8)


def test_tags_are_ranked_by_the_whole_catalogue(store: Store) -> None:
    assert store.select("clean", 2).tags == ("loud", "slow")
    assert store.select("clean", None).tags == ("loud", "slow", "rare")
    assert store.select("clean", 50).tags == ("loud", "slow", "rare")


def test_tags_in_a_tie_keep_their_order(copy: Path) -> None:
    edit_manifest(copy, tag_counts=[1, 4, 4])
    assert Store.open(copy).select("pons", None).tags == ("slow", "rare", "loud")
    tags = [f"tag {number}" for number in range(60)]  # a sort that is not stable shows in many
    np.save(copy / "labels.npy", np.ones((9, 60), dtype=np.uint8))
    edit_manifest(copy, tags=tags, tag_counts=[3] * 30 + [4] * 30)
    assert Store.open(copy).select("pons", None).tags == (*tags[30:], *tags[:30])


def test_parts_follow_the_split(store: Store) -> None:
    selection = store.select("clean", 50)
    assert selection.split == "clean"
    ids = {name: part.clip_ids for name, part in selection.parts.items()}
    assert ids == {"train": ("10", "11", "12", "13"), "valid": ("14", "15"), "test": ("16", "17", "18")}
    assert selection.parts["valid"].labels.tolist() == [[1, 0, 0], [1, 1, 0]]
    assert selection.parts["valid"].clips.tolist() == [4, 5]
    assert selection.parts["valid"].segment_clip.tolist() == [0, 1, 1, 1]


def test_untagged_clips_are_dropped_where_the_split_says_so(copy: Path) -> None:
    edit_manifest(copy, tag_counts=[0, 4, 1])  # "slow" comes first and only every other clip has it
    store = Store.open(copy)
    assert store.select("clean", 1).parts["train"].clip_ids == ("11", "13")
    assert store.select("pons", 1).parts["train"].clip_ids == ("10", "11", "12", "13")


def test_split_hash_is_of_clips_parts_and_tags(store: Store, copy: Path) -> None:
    clean = store.select("clean", 2)
    lines = [f"test\t{n}" for n in (16, 17, 18)] + [f"train\t{n}" for n in (10, 11, 12, 13)]
    named = "\n".join([*lines, "valid\t14", "valid\t15", "loud", "slow"])
    assert clean.split_hash == hashlib.sha256(named.encode()).hexdigest()
    assert clean.split_hash == Store.open(copy).select("clean", 2).split_hash
    assert clean.split_hash == store.select("pons", 2).split_hash  # here the same clips
    assert clean.split_hash != store.select("clean", 1).split_hash
    splits = json.loads((copy / "manifest.json").read_text())["splits"]
    splits["clean"]["parts"][0] = None
    edit_manifest(copy, splits=splits)
    assert clean.split_hash != Store.open(copy).select("clean", 2).split_hash


def test_wrong_selections_say_what_is_allowed(store: Store, copy: Path) -> None:
    with pytest.raises(StoreError, match=r"no split 'mine' in store .*: allowed are clean, pons"):
        store.select("mine", 50)
    for top in (0, -3):
        with pytest.raises(StoreError, match=f"top is {top}: allowed are 1, 2, .* all 3"):
            store.select("clean", top)
    edit_manifest(copy, tag_counts=[0, 0, 1])  # only a training clip has the tag that comes first
    with pytest.raises(StoreError, match="no clips in its part 'valid' with the top 1 tags"):
        Store.open(copy).select("clean", 1)


def test_missing_and_unfinished_stores(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(StoreError, match=r"no store at .*: make it with `samplecnn prepare`"):
        Store.open(tmp_path / "mtat")
    (copy / "manifest.json").unlink()
    with pytest.raises(StoreError, match=r"not finished.*goes on where it stopped"):
        Store.open(copy)


def test_stores_of_another_format_are_refused(copy: Path) -> None:
    edit_manifest(copy, format=2)
    with pytest.raises(StoreError, match="has format 2, this version reads 1: delete the folder"):
        Store.open(copy)


def test_a_store_that_may_not_be_read_is_not_called_damaged(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(file: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(np, "load", load)  # root may read everything
    with pytest.raises(
        StoreError, match=r"nine cannot be read: .*Permission denied: .*labels\.npy"
    ) as caught:
        Store.open(store_path)
    assert "delete" not in str(caught.value)


@pytest.mark.parametrize("rate", [0, -16_000, 10**12, "16000", None, 16e3])
def test_a_rate_that_no_audio_has_is_damage(copy: Path, rate: object) -> None:
    edit_manifest(copy, sample_rate=rate)
    with pytest.raises(StoreError, match=r"is damaged .*sample rate of"):
        Store.open(copy)


@pytest.mark.parametrize("samples", [1_000, 48_000, 66_150])
def test_segments_of_any_length(store: Store, samples: int) -> None:
    for part in store.select("clean", None, samples).parts.values():
        assert part.segment_samples == samples
        for clip, index in enumerate(part.clips):
            spans = part.segment_spans[part.segment_clip == clip]
            expected = audio.segments(store.clip(int(index)), samples)
            np.testing.assert_array_equal(store.gather(spans, samples=samples), expected)


def rewrite(path: Path, array: np.ndarray) -> None:
    """Replace a shard, keeping the size that the manifest expects."""
    size = path.stat().st_size
    np.save(path, array)
    os.truncate(path, size)


def header_of(clips: int) -> bytes:
    """A file of labels that ends after its header."""
    out = BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (clips, 3)}
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue()


class Evil:
    """Unpickling it would leave a trace."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("pickle-was-run"),)


def test_damage_is_noticed(store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clips = json.loads((store_path / "manifest.json").read_text())["clips"]
    shard = Path("shard-00001.npy")
    samples = np.load(store_path / shard)
    damages = {
        "shard missing": (lambda path: (path / shard).unlink(), shard.name),
        "shard truncated": (
            lambda path: os.truncate(path / shard, 1000),
            "has 1000 bytes, manifest.json says",
        ),
        "shard of other type": (lambda path: rewrite(path / shard, samples.view(np.uint16)), "not int16"),
        "shard is a pickle": (lambda path: rewrite(path / shard, np.array([Evil()])), "Python objects"),
        "labels missing": (lambda path: (path / "labels.npy").unlink(), "labels.npy"),
        "labels empty": (lambda path: os.truncate(path / "labels.npy", 0), "damaged"),
        "labels of other shape": (
            lambda path: np.save(path / "labels.npy", np.zeros((9, 2), np.uint8)),
            r"uint8 \(9, 2\), not uint8 \(clips, tags\) \(9, 3\)",
        ),
        "labels hold a pickle": (
            lambda path: np.save(path / "labels.npy", np.array([[Evil()] * 3] * 9)),
            "Python objects",
        ),
        "labels are a pickle": (
            lambda path: (path / "labels.npy").write_bytes(pickle.dumps(Evil())),
            "pickled",
        ),
        "labels promise more": (
            lambda path: (path / "labels.npy").write_bytes(header_of(10**12)),
            "greater than file ?size",
        ),
        "manifest is deep": (
            lambda path: (path / "manifest.json").write_text("[" * 10**5),
            "RecursionError",
        ),
        "manifest cut": (lambda path: os.truncate(path / "manifest.json", 500), "JSONDecodeError"),
        "manifest is a list": (lambda path: (path / "manifest.json").write_text("[]"), "TypeError"),
        "manifest without shards": (lambda path: edit_manifest(path, shards=[]), "damaged"),
        "clips elsewhere": (
            lambda path: edit_manifest(path, clips={**clips, "offset": [10**9, *clips["offset"][1:]]}),
            "outside of their shards",
        ),
        "clips in a shard before the first": (
            lambda path: edit_manifest(path, clips={**clips, "shard": [-1] * 9}),
            "outside of their shards",
        ),
        "clips beyond any number": (
            lambda path: edit_manifest(path, clips={**clips, "length": [10**30] * 9}),
            "OverflowError",
        ),
        "files that are no list": (lambda path: edit_manifest(path, files=7), "no list of files"),
        "tags that are no text": (
            lambda path: edit_manifest(path, tags=["loud", 7, None]),
            "no text",
        ),
        "a clip without samples": (
            lambda path: edit_manifest(path, clips={**clips, "length": [0, *clips["length"][1:]]}),
            "outside of their shards",
        ),
        "a place beyond any file": (
            lambda path: edit_manifest(path, clips={**clips, "offset": [2**63 - 1, *clips["offset"][1:]]}),
            "outside of their shards",
        ),
        "a name that is no text": (lambda path: edit_manifest(path, name=7), "no text"),
        "a reason that is no text": (
            lambda path: edit_manifest(path, skipped=[{"id": "1", "path": "a", "reason": 5}]),
            "no text",
        ),
        "skipped without a reason": (
            lambda path: edit_manifest(path, skipped=[{"id": "1", "path": "a"}]),
            "KeyError: 'reason'",
        ),
        "fingerprints in a list": (lambda path: edit_manifest(path, catalog=["tags"]), "AttributeError"),
        "counts in a table": (
            lambda path: edit_manifest(path, tag_counts=[[1], [2], [3]]),
            "columns of different lengths",
        ),
        "no splits": (lambda path: edit_manifest(path, splits={}), "has no split"),
        "parts in a list": (
            lambda path: edit_manifest(
                path, splits={"own": {"parts": [["test"]] * 9, "drop_untagged": True}}
            ),
            "unhashable",
        ),
        "too few ids": (
            lambda path: edit_manifest(path, clips={**clips, "id": clips["id"][1:]}),
            "columns of different lengths",
        ),
    }
    for name, (damage, message) in damages.items():
        path = Path(shutil.copytree(store_path, tmp_path / name / "nine"))
        damage(path)
        with pytest.raises(StoreError, match=message) as caught:
            Store.open(path)
        assert "delete the folder and prepare it again, by the same `samplecnn prepare`" in str(caught.value)
    assert not Path("pickle-was-run").exists()
