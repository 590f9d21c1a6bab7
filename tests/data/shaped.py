"""Small data sets in the schemas of the Million Song Dataset and MTG-Jamendo, written as real files."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import soundfile
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from samplecnn.data.catalog import Catalog
from samplecnn.training import config as configuration
from samplecnn.training.stores import make_catalog

RATE = 22_050  # Hz
SECONDS = 2.8  # one segment and a little


def configured(name: str, *overrides: str) -> DictConfig:
    """Return what `conf/` makes of the command line of "prepare" or "train"."""
    configuration.register()
    with initialize_config_dir(str(configuration.CONF), version_base="1.3"):
        return compose(name, overrides=list(overrides))


def configured_catalog(*overrides: str) -> Catalog:
    """Return the catalogue that these overrides prepare."""
    return make_catalog(configuration.validate(configured("prepare", *overrides))["data"]["catalog"])


def write_audio(file: Path, seconds: float = SECONDS, seed: int = 0) -> Path:
    """Write noise in the format of the file's suffix, the same for the same seed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(scale=0.1, size=round(seconds * RATE))
    soundfile.write(file, samples.astype(np.float32), RATE)
    return file


def track_id(number: int) -> str:
    """Return an id in the form of the Million Song Dataset's."""
    return f"TRAAAAA128F{number:07X}"


def python2_pickle(texts: Iterable[str]) -> bytes:
    """Return a list of byte strings as Python 2 pickled it: the published .cP files."""
    items = [f"S'{text}'\np{number}\na" for number, text in enumerate(texts, 2)]
    return ("(lp1\n" + "".join(items) + ".").encode()


def write_database(file: Path, values: Mapping[str, Mapping[str, float]]) -> Path:
    """Write `{track: {tag: value}}` in the schema of lastfm_tags.db."""
    tags = sorted({tag for of_track in values.values() for tag in of_track})
    row_of = {tag: row for row, tag in enumerate(tags, 1)}
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE tags (tag TEXT)")
        database.execute("CREATE TABLE tids (tid TEXT)")
        database.execute("CREATE TABLE tid_tag (tid INT, tag INT, val FLOAT)")
        database.executemany("INSERT INTO tags VALUES (?)", [(tag,) for tag in tags])
        database.executemany("INSERT INTO tids VALUES (?)", [(track,) for track in values])
        for row, of_track in enumerate(values.values(), 1):
            triples = [(row, row_of[tag], value) for tag, value in of_track.items()]
            database.executemany("INSERT INTO tid_tag VALUES (?, ?, ?)", triples)
        database.execute("CREATE INDEX idx_tid_tag_tid ON tid_tag ('tid')")
        database.execute("CREATE INDEX idx_tid_tag_tag ON tid_tag ('tag')")
    return file


def write_lists(raw: Path, train: Sequence[int], test: Sequence[int]) -> None:
    """Write split lists of tracks with these numbers as the published ones are; `train` holds both parts."""
    for name, numbers in (("train", train), ("test", test)):
        file = raw / f"filtered_list_{name}.cP"
        file.write_bytes(python2_pickle(track_id(number) for number in numbers))


def write_jamendo_split(
    folder: Path, parts: Mapping[str, Iterable[int]], tags_of: Mapping[int, Sequence[str]]
) -> None:
    """Write the three files of a split: numbers of tracks for "train", "validation" and "test"."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, numbers in parts.items():
        lines = ["TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"]
        for number in numbers:
            place = f"{number % 100:02}/{number}.mp3"
            cells = [f"track_{number:07}", "artist_000014", "album_000031", place, "151.4", *tags_of[number]]
            lines.append("\t".join(cells))
        file = folder / f"autotagging_top50tags-{part}.tsv"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
