"""Your own music: tables, folders per tag, and splits that keep tags together and groups whole."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data.music import parts_of, table
from data.shaped import configured_catalog, write_audio
from samplecnn.data.catalog import PARTS, CatalogError
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.data.datasets import folder
from samplecnn.data.prepare import prepare


def test_from_a_folder_per_tag_to_batches(tmp_path: Path) -> None:
    suffixes = ["flac", "WAV", "mp3", "ogg", "aiff", "wav"]
    for number, suffix in enumerate(suffixes):
        write_audio(tmp_path / f"jazz/{number}.{suffix}", seed=number)
        write_audio(tmp_path / f"Zürich noise/album/{number}.{suffix}", seed=number + 9)
    (tmp_path / "jazz/cover.jpg").write_bytes(b"no audio")
    (tmp_path / "jazz/._0.flac").write_bytes(b"of a file manager")
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash/1.wav").write_bytes(b"hidden")
    catalog = folder.catalog(tmp_path, name="mine")
    assert catalog.tags == ("Zürich noise", "jazz")
    assert len(catalog.clips) == 12
    parts = parts_of(catalog)
    assert len({part for path, part in parts.items() if "album" in path}) == 1
    assert {part for path, part in parts.items() if "jazz" in path} == set(PARTS)

    data = SegmentDataModule(prepare(catalog, tmp_path / "stores", workers=1, progress=False), split="own")
    assert not data.store.skipped
    assert sum(len(part.clips) for part in data.parts.values()) == 12
    assert data.tags == ("Zürich noise", "jazz")
    assert all(len(batch.waveforms) == 23 for batch in data.train_dataloader())
    assert [batch.waveforms.shape[1] for batch in data.test_dataloader()] == [59_049]


def test_from_a_table_to_batches(tmp_path: Path) -> None:
    for number in range(4):
        write_audio(tmp_path / f"any/where/{number}.wav", seconds=2.0 + number, seed=number)
    table(
        tmp_path,
        "\ufefftags,path,split,note",
        '"slow; jazz ;;slow",any/where/0.wav,train,',
        "jazz,any/where/1.wav,train,x",
        ',any/where/2.wav,valid,"a, b"',
        "",
        "slow,any/where/3.wav,test,",
        "slow,any/where/gone.wav,test,",
    )
    catalog = folder.catalog(tmp_path)
    assert catalog.tags == ("jazz", "slow")
    assert [clip.tags for clip in catalog.clips] == [(1, 0), (0,), (), (1,), (1,)]
    data = SegmentDataModule(
        prepare(catalog, tmp_path / "stores", workers=1, progress=False), split="own", batch_size=2
    )
    assert [clip["path"] for clip in data.store.skipped] == ["any/where/gone.wav"]
    assert data.parts["train"].clip_ids == ("any/where/0.wav", "any/where/1.wav")
    np.testing.assert_array_equal(data.parts["train"].labels, [[0, 1], [1, 1]][::-1])
    assert data.parts["valid"].clip_ids == ("any/where/2.wav",)  # without tags, and kept
    (batch,) = data.train_dataloader()
    assert batch.labels.shape == (2, 2)


def test_through_the_configuration(tmp_path: Path) -> None:
    table(tmp_path, "path,tags", *(f"{number}.wav,{'xy'[number % 2]}" for number in range(40)))
    catalog = configured_catalog("data=folder", f"data.raw={tmp_path}", "data.shares=[2,1,1]")
    assert Counter(parts_of(catalog).values()) == {"train": 20, "valid": 10, "test": 10}
    assert (catalog.name, catalog.excerpt_seconds, catalog.excerpt_start) == ("folder", 29, "middle")


def test_tab_separated_tables(tmp_path: Path) -> None:
    table(tmp_path, "path\ttags", "a, b.wav\tx;y", "c.wav\tx", "d.wav\tx", name="tags.tsv")
    assert folder.catalog(tmp_path).clips[0].id == "a, b.wav"
    table(tmp_path, "path,tags", "a.wav,x")
    with pytest.raises(CatalogError, match=r"has tags\.csv and tags\.tsv: remove"):
        folder.catalog(tmp_path)


GOOD = "0/a.wav,jazz"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,tags", GOOD], r"line 1: no column 'path' in the header, which has 'file', 'tags'"),
        (["path tags", "a.wav jazz"], "no column 'path' in the header, which has 'path tags'"),
        (
            ["path;tags", "a.wav;jazz;slow"],
            "line 2: 3 columns, .* has 2.*by semicolons: a cell that holds one has",
        ),
        (["path,label", GOOD], "no column 'tags' in the header, which has 'path', 'label'"),
        (["path,tags,path", f"{GOOD},x"], "columns that appear twice: 'path'"),
        ([""], "the header, which has nothing"),
        (["path,tags"], "no rows, only the header"),
        (["path,tags", "0/a.wav,"], r"tags\.csv: no file has a tag"),
        (
            ["path,tags", "0/a.wav,jazz,slow"],
            "line 2: 3 columns, the header has 2, separated by commas: a cell that holds one",
        ),
        (["path,tags", GOOD, "", '"0/b.wav,x'], "line 4: not a comma-separated table"),
        (["path,tags", GOOD, GOOD], r"line 3: path '0/a\.wav' is also on line 2"),
        (
            ["path,tags", "0/a.wav,jazz|slow"],
            r"line 2: tags 'jazz\|slow' look like a list.*separator=pipe.*=semicolon",
        ),
        *(
            (
                ["path,tags", GOOD, f"{path},jazz"],
                r"line 3: path .*: allowed are paths below .*without '\.\.'",
            )
            for path in ("../a.wav", "0/../../a.wav", "/etc/a.wav", "", "./a.wav", "0//a.wav", "0\\a.wav")
        ),
        (["path,tags,split", f"{GOOD},dev"], "line 2: split 'dev': allowed are train, valid, test"),
        (["path,tags,split", f"{GOOD},", "b.wav,x,train"], "line 2: split '': allowed"),
        (["path,tags,split", f"{GOOD},train", "b.wav,x,test"], "no file in 'valid': needed are train, valid"),
        (
            ["path,tags,split,group", f"{GOOD},train,Miles", "b.wav,x,valid,", "c.wav,x,test,Miles"],
            r"group 'Miles' is in 'train' and, with 'c\.wav', in 'test'",
        ),
        (["path,tags", GOOD, "b.wav,x"], "2 groups of files cannot be divided into train, valid, test"),
        (
            ["path,tags,group", f"{GOOD},a", "b.wav,x,a", "c.wav,x,b"],
            "2 groups of files cannot be divided",
        ),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        folder.catalog(table(tmp_path, *lines))


def test_bad_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"no such data folder: .*nowhere"):
        folder.catalog(tmp_path / "nowhere")
    with pytest.raises(
        CatalogError, match=r"has neither a table \(tags.csv or tags.tsv\) nor audio in folders"
    ):
        folder.catalog(tmp_path)
    write_audio(tmp_path / "not in a folder.wav", 0.1)
    with pytest.raises(CatalogError, match="neither a table"):
        folder.catalog(tmp_path)
    (tmp_path / "tags.csv").write_bytes("path,tags\nä.wav,x\n".encode("latin-1"))
    with pytest.raises(CatalogError, match=r"tags\.csv, line 2: not UTF-8 .*: save it as UTF-8"):
        folder.catalog(tmp_path)
    (tmp_path / "tags.csv").unlink()
    (tmp_path / "jazz").mkdir()
    for name in (b"a\nb.wav", b"\xe4.wav"):
        file = Path(os.fsdecode(os.fsencode(tmp_path / "jazz") + b"/" + name))
        file.touch()
        with pytest.raises(CatalogError, match=r"file name 'jazz/.*\.wav' is not readable text: rename it"):
            folder.catalog(tmp_path)
        file.unlink()
    (tmp_path / "jazz/a\u3000\xa0b.wav").touch()  # spaces of other scripts
    write_audio(tmp_path / "rock/a.wav", 0.1)
    with pytest.raises(CatalogError, match="2 groups of files cannot be divided"):
        folder.catalog(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": [1, 2]}, r"shares are \[1, 2\]: three numbers above 0"),
        ({"shares": [1, 0, 1]}, "shares are"),
        ({"shares": [1, 1, float("nan")]}, "shares are"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_impossible_options(tmp_path: Path, options: dict[str, object], message: str) -> None:
    table(tmp_path, "path,tags", "a.wav,x", "b.wav,x", "c.wav,y")
    with pytest.raises(CatalogError, match=message):
        folder.catalog(tmp_path, **options)  # type: ignore[arg-type]


def test_rare_tags_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [f"{number}.wav,common{';rare' * (number < 2)}" for number in range(20)]
    catalog = folder.catalog(table(tmp_path, "path,tags", *lines))
    assert "1 of 2 tags are not in all parts" in caplog.text
    assert "'rare' (not in valid)" in caplog.text
    assert Counter(parts_of(catalog).values())["valid"] in (1, 2)


def test_the_same_seed_gives_the_same_split(tmp_path: Path) -> None:
    lines = [f"{n}.wav,{'abc'[n % 3]};{'de'[n % 2]},artist {n // 3}" for n in range(120)]
    table(tmp_path, "path,tags,group", *lines)
    first = folder.catalog(tmp_path, seed=1)
    assert folder.catalog(tmp_path, seed=1).fingerprints() == first.fingerprints()
    assert parts_of(folder.catalog(tmp_path, seed=2)) != parts_of(first)
    parts = parts_of(first)
    for artist in range(40):
        assert len({parts[f"{number}.wav"] for number in range(3 * artist, 3 * artist + 3)}) == 1
    counted = Counter(parts.values())
    assert [counted[part] / 120 for part in PARTS] == pytest.approx([0.75, 0.08, 0.17], abs=0.03)
    even = Counter(parts_of(folder.catalog(tmp_path, shares=(1, 1, 1))).values())
    assert [even[part] for part in PARTS] == pytest.approx([40, 40, 40], abs=3)


def test_folders_that_are_no_tags(tmp_path: Path) -> None:
    """A level too high, the parts of a split, a table of another name: refused with the mend."""
    for path in (
        "high/my genres/jazz",
        "high/my genres/rock",
        "parts/train/jazz",
        "parts/val/jazz",
        "other/jazz",
    ):
        for number in range(2):
            write_audio(tmp_path / path / f"{number}.wav", 0.1)
    with pytest.raises(
        CatalogError, match=r"the same tags, 'my genres'.*\(jazz, rock.*'data\.raw=\".*/high/my genres\"'"
    ):
        folder.catalog(tmp_path / "high")
    with pytest.raises(CatalogError, match=r"the tags 'train', 'val' are parts of a split"):
        folder.catalog(tmp_path / "parts")
    (tmp_path / "other/metadata.csv").write_text("path,tags\njazz/0.wav,slow\n")
    with pytest.raises(CatalogError, match=r"metadata\.csv is not read: a table is called tags\.csv or"):
        folder.catalog(tmp_path / "other")
    (tmp_path / "other/metadata.csv").rename(tmp_path / "other/Tags.CSV")
    with pytest.raises(CatalogError, match=r"Tags\.CSV: every file has the same tags, 'slow'"):
        folder.catalog(tmp_path / "other")


def test_an_empty_column_split_is_none(tmp_path: Path) -> None:
    table(tmp_path, "path,tags,split", *(f"{n}.wav,{'xy'[n % 2]}," for n in range(9)))
    assert set(parts_of(folder.catalog(tmp_path)).values()) == set(PARTS)
