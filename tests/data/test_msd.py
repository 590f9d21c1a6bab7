"""The Million Song Dataset in small: Last.fm's schema, split lists of both kinds, found audio, bad input."""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from data.shaped import (
    configured,
    configured_catalog,
    python2_pickle,
    track_id,
    write_audio,
    write_database,
    write_lists,
)
from samplecnn.data.catalog import CatalogError
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.data.datasets import msd
from samplecnn.data.lastfm import PUBLISHED_TAGS
from samplecnn.data.prepare import prepare
from samplecnn.data.store import Store

TRAIN = 4  # tracks of the pickled training list; the two after them are for validation


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Eight listed tracks and one that is in no list, with two published tags and others."""
    values: dict[str, dict[str, float]] = {
        track_id(number): {"rock": 100 if number % 2 else 50, "jazz": 100 - 7 * number, "seen live": 90}
        for number in range(1, 9)
    }
    values[track_id(1)]["Hip-Hop"] = 51
    values[track_id(99)] = {"rock": 100, "polka": 100}
    write_database(tmp_path / "lastfm_tags.db", values)
    write_lists(tmp_path, range(1, 7), range(7, 9))
    for number in range(1, 9):
        write_audio(tmp_path / f"audio/{number}/x-{track_id(number)}.clip.flac", seed=number)
    return tmp_path


def test_from_raw_to_batches(raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    (raw / f"audio/6/x-{track_id(6)}.clip.flac").unlink()
    write_audio(raw / f"audio/a/{track_id(5)} (again).WAV")
    (raw / f"audio/1/._x-{track_id(1)}.clip.flac").write_bytes(b"of a file manager")
    with caplog.at_level(logging.INFO):
        catalog = msd.catalog(raw, train_tracks=TRAIN)
    assert "7 of 8 tracks of the split lists have audio" in caplog.text
    assert f"1 tracks' files are second ones and not used, such as a/{track_id(5)} (again).WAV" in caplog.text
    assert "47 of the published tags have no track here: 00s, 60s" in caplog.text
    assert [clip.path for clip in catalog.clips][3:6] == [
        f"4/x-{track_id(4)}.clip.flac",
        f"5/x-{track_id(5)}.clip.flac",
        f"{track_id(6)}.mp3",
    ]
    store = Store.open(prepare(catalog, raw / "stores", workers=1, progress=False))
    assert [(clip["id"], clip["reason"]) for clip in store.skipped] == [(track_id(6), "no such file")]

    data = SegmentDataModule(store.path, split="published", top=2, batch_size=2)
    assert data.tags == ("jazz", "rock")
    parts = {name: part.clip_ids for name, part in data.parts.items()}
    assert parts["train"] == tuple(track_id(number) for number in (1, 2, 3, 4))
    assert parts["valid"] == (track_id(5),)
    assert parts["test"] == (track_id(7),)  # the other one has neither of the two tags
    np.testing.assert_array_equal(data.parts["train"].labels, [[1, 1], [1, 0], [1, 1], [1, 0]])
    assert [batch.waveforms.shape for batch in data.train_dataloader()] == [(2, 59_049)] * 2


def test_published_tags_count_above_50(raw: Path) -> None:
    catalog = msd.catalog(raw, train_tracks=TRAIN)
    assert catalog.tags == PUBLISHED_TAGS
    assert len(catalog.tags) == 50
    counts = dict(zip(catalog.tags, catalog.labels().sum(axis=0).tolist(), strict=True))
    assert {tag: count for tag, count in counts.items() if count} == {"jazz": 7, "rock": 4, "Hip-Hop": 1}
    assert catalog.splits["published"].parts == ("train",) * 4 + ("valid",) * 2 + ("test",) * 2


def test_most_frequent_tags_are_counted_over_the_listed_tracks(raw: Path) -> None:
    assert msd.catalog(raw, train_tracks=TRAIN, vocabulary=2).tags == ("seen live", "jazz")
    everything = msd.catalog(raw, train_tracks=TRAIN, vocabulary=1000, threshold=0)
    assert everything.tags == ("jazz", "rock", "seen live", "Hip-Hop")


def test_the_database_is_only_read(raw: Path) -> None:
    database = raw / "lastfm_tags.db"
    before = database.read_bytes()
    database.chmod(0o444)
    raw.chmod(0o555)
    try:
        catalog = msd.catalog(raw, train_tracks=TRAIN)
    finally:
        raw.chmod(0o755)
    assert catalog.fingerprints() == msd.catalog(raw, train_tracks=TRAIN).fingerprints()
    assert database.read_bytes() == before
    assert not list(raw.glob("*-journal")) + list(raw.glob("*-wal"))

    with closing(sqlite3.connect(database)) as opened, opened:
        opened.execute("INSERT INTO tid_tag SELECT * FROM tid_tag")  # all twice
    again = msd.catalog(raw, train_tracks=TRAIN)
    assert [clip.tags for clip in again.clips] == [clip.tags for clip in catalog.clips]


def test_own_lists_and_own_tags(raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    (raw / "lastfm_tags.db").unlink()
    for part, number in (("train", 1), ("valid", 2), ("test", 3)):
        (raw / f"{part}.txt").write_text(f"{track_id(number)}\n\n")
    rows = [
        f"{track_id(1)}\tslow; loud;;slow",
        f"{track_id(2)}\tloud",
        f"{track_id(3)}\t",
        f"{track_id(4)}\tx",
    ]
    (raw / "tags.tsv").write_text("track_id\ttags\n" + "\n".join(rows) + "\n")
    catalog = msd.catalog(raw, vocabulary=10)
    assert catalog.tags == ("loud", "slow")
    assert [clip.tags for clip in catalog.clips] == [(0, 1), (0,), ()]
    assert catalog.splits["published"].parts == ("train", "valid", "test")
    with pytest.raises(CatalogError, match=r"no listed track .*\(2 others occur; .*vocabulary=50"):
        msd.catalog(raw)
    (raw / "tags.tsv").write_text("\n".join(["track_id\ttags", rows[0], rows[0]]) + "\n")
    with pytest.raises(CatalogError, match=r"tags\.tsv, line 3: track_id 'TR.*' is also on line 2"):
        msd.catalog(raw, vocabulary=10)


def test_bad_lists(raw: Path) -> None:
    with pytest.raises(CatalogError, match=r"filtered_list_train\.cP: 6 tracks, of which the first 201680"):
        msd.catalog(raw)
    for number in (0, 6):
        with pytest.raises(
            CatalogError, match=f"6 tracks, of which the first {number} are the training part"
        ):
            msd.catalog(raw, train_tracks=number)
    write_lists(raw, [1, 2, 3, 4, 5, 1], [7])
    with pytest.raises(
        CatalogError, match=r"track TRAAAAA128F0000001 is listed twice, in 'train' and in 'valid'"
    ):
        msd.catalog(raw, train_tracks=TRAIN)
    (raw / "filtered_list_test.cP").write_bytes(python2_pickle(["8947470"]))
    with pytest.raises(CatalogError, match=r"filtered_list_test\.cP, entry 1: '8947470' is no track id"):
        msd.catalog(raw, train_tracks=TRAIN)
    (raw / "filtered_list_test.cP").unlink()
    with pytest.raises(CatalogError, match=r"no split lists in .*: looked for filtered_list_train\.cP and"):
        msd.catalog(raw, train_tracks=TRAIN)
    for part in ("train", "valid", "test"):
        (raw / f"{part}.txt").write_bytes(b"\xff\xfa")
    with pytest.raises(CatalogError, match=r"train\.txt, line 1: not UTF-8"):
        msd.catalog(raw, train_tracks=TRAIN)


def test_bad_databases(raw: Path) -> None:
    database = raw / "lastfm_tags.db"
    whole = database.read_bytes()
    for content in (
        b"",
        b"no database at all" * 100,
        whole[:4096],
        whole[:9000] + b"\xff" * (len(whole) - 9000),
    ):
        database.write_bytes(content)
        with pytest.raises(CatalogError, match=r"lastfm_tags\.db: (no table|cannot be read as Last\.fm's)"):
            msd.catalog(raw, train_tracks=TRAIN)
    database.write_bytes(whole)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DROP TABLE tid_tag")
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, 1, 100.0 FROM n"
        connection.execute(f"CREATE VIEW tid_tag (tid, tag, val) AS {endless}")
    with pytest.raises(CatalogError, match=r"lastfm_tags\.db: no table 'tid_tag'"):
        msd.catalog(raw, train_tracks=TRAIN)


def test_tags_that_are_no_text_are_refused_only_where_they_are_used(raw: Path) -> None:
    with closing(sqlite3.connect(raw / "lastfm_tags.db")) as connection, connection:
        connection.execute("UPDATE tags SET tag = x'ff00' WHERE tag = 'seen live'")
    assert msd.catalog(raw, train_tracks=TRAIN).tags == PUBLISHED_TAGS
    with pytest.raises(CatalogError, match=r"tag .*: has to be one line of text"):
        msd.catalog(raw, train_tracks=TRAIN, vocabulary=5)


def test_what_is_missing_is_named(raw: Path) -> None:
    with pytest.raises(CatalogError, match=r"no such data folder: .*nowhere"):
        msd.catalog(raw / "nowhere")
    (raw / "tags.csv").write_text("track_id,tags\n")
    with pytest.raises(CatalogError, match=r"needs one of .*, there is lastfm_tags\.db and tags\.csv"):
        msd.catalog(raw, train_tracks=TRAIN)
    (raw / "lastfm_tags.db").unlink()
    with pytest.raises(CatalogError, match=r"tags\.csv: no rows, only the header"):
        msd.catalog(raw, train_tracks=TRAIN)
    (raw / "tags.csv").unlink()
    with pytest.raises(CatalogError, match=r"needs one of lastfm_tags\.db, .*, there is none of them"):
        msd.catalog(raw, train_tracks=TRAIN)


def test_no_audio_of_the_lists(raw: Path) -> None:
    (raw / "audio").rename(raw / "elsewhere")
    (raw / "audio").mkdir()
    write_audio(raw / "audio/8947470.clip.wav")
    with pytest.raises(CatalogError, match=r"no audio of the split lists below .*audio: a track's id"):
        msd.catalog(raw, train_tracks=TRAIN)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary": 0}, "vocabulary is 0: allowed are 'published' and 1, 2"),
        ({"vocabulary": "all"}, "vocabulary is 'all'"),
        ({"threshold": 100}, "threshold is 100: allowed are 0 up to"),
        ({"threshold": -1}, "threshold is -1"),
    ],
)
def test_impossible_options(raw: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        msd.catalog(raw, train_tracks=TRAIN, **options)  # type: ignore[arg-type]


def test_through_the_configuration(raw: Path) -> None:
    for part, number in (("train", 1), ("valid", 2), ("test", 3)):
        (raw / f"{part}.txt").write_text(track_id(number))
    overrides = ("data=msd", f"data.raw={raw}", "data.vocabulary=3")
    catalog = configured_catalog(*overrides)
    assert (catalog.name, len(catalog.tags)) == ("msd", 3)
    assert (catalog.excerpt_seconds, catalog.excerpt_start) == (29, "start")
    assert configured("prepare", *overrides).data.split in catalog.splits


def test_the_paper_s_networks_have_no_dropout_here() -> None:
    assert configured("train", "data=msd", "block=rese2").block.dropout == 0
    assert configured("train", "data=msd", "block=res2", "block.dropout=0.1").block.dropout == 0.1
    assert configured("train", "block=res2").block.dropout == 0.2
