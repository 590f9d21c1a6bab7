"""MTG-Jamendo in small: five splits of one store, both audio releases, bad input."""

from pathlib import Path

import numpy as np
import pytest

from data.shaped import configured, configured_catalog, write_audio, write_jamendo_split
from samplecnn.data.catalog import CatalogError
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.data.datasets import jamendo
from samplecnn.data.prepare import prepare
from samplecnn.data.store import Store

ROCK, PIANO, HAPPY = "genre---rock", "instrument---piano", "mood/theme---happy"
TAGS_OF = {
    number: [ROCK, *[PIANO] * (number % 2), *[HAPPY] * (number % 3 == 0)]
    for number in (1, 214, 215, 7400, 1302)
}
NAME = "autotagging_top50tags-train.tsv"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Five tracks in two splits, of which the second leaves one out."""
    splits = tmp_path / "data/splits"
    write_jamendo_split(
        splits / "split-0", {"train": [7400, 215, 1], "validation": [214], "test": [1302]}, TAGS_OF
    )
    write_jamendo_split(splits / "split-3", {"train": [1302, 1], "validation": [215], "test": [214]}, TAGS_OF)
    return tmp_path


def test_from_raw_to_batches(raw: Path) -> None:
    for number in TAGS_OF:
        low = ".low" if number in (215, 1) else ""
        write_audio(raw / f"audio/{number % 100:02}/{number}{low}.mp3", seed=number)
    write_audio(raw / "audio/14/214.low.mp3")  # the better one is there too
    catalog = jamendo.catalog(raw)
    assert catalog.tags == (ROCK, PIANO, HAPPY)
    assert [(clip.id, clip.path) for clip in catalog.clips] == [
        ("track_0000001", "01/1.low.mp3"),
        ("track_0000214", "14/214.mp3"),
        ("track_0000215", "15/215.low.mp3"),
        ("track_0001302", "02/1302.mp3"),
        ("track_0007400", "00/7400.mp3"),
    ]
    store = Store.open(prepare(catalog, raw / "stores", workers=1, progress=False))
    assert not store.skipped
    assert list(store.splits) == ["split-0", "split-3"]

    data = SegmentDataModule(store.path, split="split-0", top=3, batch_size=3)
    assert data.tags == (ROCK, PIANO, HAPPY)
    assert data.parts["train"].clip_ids == ("track_0000001", "track_0000215", "track_0007400")
    np.testing.assert_array_equal(data.parts["train"].labels, [[1, 1, 0], [1, 1, 0], [1, 0, 0]])
    (batch,) = data.train_dataloader()
    assert batch.waveforms.shape == (3, 59_049)
    other = store.select("split-3", 1)
    assert {name: part.clip_ids for name, part in other.parts.items()} == {
        "train": ("track_0000001", "track_0001302"),
        "valid": ("track_0000215",),
        "test": ("track_0000214",),
    }


def test_through_the_configuration(raw: Path) -> None:
    overrides = ("data=jamendo", f"data.raw={raw}")
    catalog = configured_catalog(*overrides)
    assert (catalog.name, catalog.excerpt_seconds, catalog.excerpt_start) == ("jamendo", 29, "middle")
    assert configured("prepare", *overrides).data.split in catalog.splits


def test_splits_and_audio_may_lie_in_the_folder_itself(raw: Path) -> None:
    before = jamendo.catalog(raw)
    (raw / "data/splits").rename(raw / "splits")
    assert jamendo.catalog(raw).fingerprints() == before.fingerprints()
    assert before.audio == raw
    (raw / "audio").mkdir()
    assert jamendo.catalog(raw).audio == raw / "audio"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("TRACK_ID\t", "", r"train\.tsv, line 1: no column 'TRACK_ID'.*needed are TRACK_ID, ARTIST_ID"),
        ("\tgenre---rock\tinstrument---piano\n", "\n", "line 3: 5 columns, the header has 6"),
        ("\tgenre---rock\tinstrument---piano\n", "\t\n", r"line 3: tags \[''\]: each needs a name"),
        ("rock\tinstrument---piano\n", "rock\tgenre---rock\n", "line 3: tags .*appears once"),
        ("15/215.mp3", "../215.mp3", r"line 3: path '\.\./215\.mp3', expected one like 00/7400\.mp3"),
        ("15/215.mp3", "/15/215.mp3", "line 3: path '/15"),
        ("track_0000215", "track_0000001", r"line 4: 'track_0000001' is in split-0 before \(train\)"),
        ("track_0000215", "track_0000214", r"validation\.tsv, line 2: 'track_0000214' is in split-0 before"),
        ("instrument---piano\n", "instrument---organ\n", r"'track_0000215' has 15/215\.mp3 .*organ"),
    ],
)
def test_bad_tables_are_refused(raw: Path, old: str, new: str, message: str) -> None:
    file = raw / "data/splits/split-0" / NAME
    content = file.read_text()
    assert old in content
    if "organ" in message:  # told by the second split, which has it as before
        message = (
            r"split-3.*'track_0000215' has 15/215\.mp3 .*piano.*in another split .*organ.*from one release"
        )
    file.write_text(content.replace(old, new, 1))
    with pytest.raises(CatalogError, match=message):
        jamendo.catalog(raw)


def test_what_is_missing_is_named(raw: Path) -> None:
    with pytest.raises(CatalogError, match=r"no such data folder: .*nowhere"):
        jamendo.catalog(raw / "nowhere")
    with pytest.raises(CatalogError, match="has neither data/splits/split-0 nor splits/split-0"):
        jamendo.catalog(raw / "data/splits")
    file = raw / "data/splits/split-0" / NAME
    file.write_bytes(b"\xff\xfa")
    with pytest.raises(CatalogError, match=r"train\.tsv, line 1: not UTF-8"):
        jamendo.catalog(raw)
    file.write_bytes(b"")
    with pytest.raises(CatalogError, match="line 1: no column 'TRACK_ID' in the header, which has nothing"):
        jamendo.catalog(raw)
    file.unlink()
    with pytest.raises(CatalogError, match=r"train\.tsv is not there: a split is three files"):
        jamendo.catalog(raw)
