"""Every kind of data set from the command line: prepared, looked into, trained on."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.shaped import track_id, write_audio, write_database, write_jamendo_split
from e2e.conftest import TINY, World
from samplecnn.runs.folder import read_config

QUICK = [*TINY, "trainer.max_epochs=1", "logger=none", "batch_size=4"]


def results(run: Path) -> dict[str, object]:
    return json.loads((run / "results.json").read_text())


def test_million_song_dataset(world: World, tmp_path: Path) -> None:
    """Last.fm's database, lists and audio brought along; no regularisation, as in the paper."""
    raw = tmp_path / "msd"
    numbers = range(1, 25)
    values = {track_id(n): {"rock": 100.0 if n % 2 else 0.0, "jazz": 60.0 + n % 3} for n in numbers}
    for number in numbers:
        write_audio(raw / f"audio/{number % 3}/{track_id(number)}.flac", seed=number)
    write_database(raw / "lastfm_tags.db", values)
    for name, part in (("train", numbers[:16]), ("valid", numbers[16:20]), ("test", numbers[20:])):
        (raw / f"{name}.txt").write_text("".join(f"{track_id(n)}\n" for n in part))
    data = ["data=msd", f"data.root={tmp_path / 'stores'}"]
    done = world.run("prepare.py", *data, f"data.raw={raw}", fresh=True)
    assert "24 clips" in done.stdout
    run = tmp_path / "run"
    world.run("train.py", *data, "data.top=2", "block=rese2", *QUICK, f"hydra.run.dir={run}")
    assert (results(run)["data"], results(run)["split"]) == ("msd", "published")
    config = read_config(run).plain
    assert (config["dropout"], config["block"]["dropout"], config["weight_decay"]) == (0, 0, 0)


def test_jamendo_with_whole_tracks(world: World, tmp_path: Path) -> None:
    """Full-length tracks: two segments drawn of each per epoch, all averaged in the test."""
    raw = tmp_path / "jamendo"
    tags = {n: ["genre---rock" if n % 2 else "genre---jazz", "mood/theme---happy"] for n in range(1, 17)}
    parts = {"train": range(1, 9), "validation": range(9, 13), "test": range(13, 17)}
    write_jamendo_split(raw / "data/splits/split-0", parts, tags)
    for number in tags:
        write_audio(raw / f"audio/{number:02}/{number}.mp3", seconds=31 if number == 16 else 6, seed=number)
    data = ["data=jamendo", "data.excerpt_seconds=null", f"data.root={tmp_path / 'stores'}"]
    world.run("prepare.py", *data, f"data.raw={raw}")
    run = tmp_path / "run"
    world.run("train.py", *data, "data.train_segments=2", *QUICK, f"hydra.run.dir={run}")
    assert results(run)["split"] == "split-0"
    with np.load(run / "predictions.npz", allow_pickle=False) as stored:
        assert len(stored["clip_ids"]) == 4
    manifest = json.loads((tmp_path / "stores/jamendo/manifest.json").read_text())
    assert max(manifest["clips"]["length"]) == 31 * 22050


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per tag, with an album per group: 300 short files, more than one shard."""
    raw = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    for number in range(300):
        tag, album = ("calm", "wild")[number % 2], number % 30
        path = raw / tag / f"album {album}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        loud = 0.02 if tag == "calm" else 0.5
        soundfile.write(path, (loud * rng.standard_normal(2000)).astype(np.float32), 22050)
    return raw


def test_a_folder_of_one_s_own(world: World, music: Path, tmp_path: Path) -> None:
    """Prepared whole and in shards on "many machines": the same bytes; checked, described, drawn, trained."""
    data = ["data=folder", "data.name=mine", f"data.raw={music}"]
    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    world.run("prepare.py", *data, f"data.root={whole}")
    world.run("prepare.py", "-m", *data, f"data.root={sharded}", "shard=0,1")
    files = sorted(path.name for path in (whole / "mine").iterdir())
    assert files == sorted(path.name for path in (sharded / "mine").iterdir())
    assert "manifest.json" in files
    for name in files:
        assert (whole / "mine" / name).read_bytes() == (sharded / "mine" / name).read_bytes(), name
    refused = world.run("prepare.py", *data, f"data.root={tmp_path / 'third'}", "shard=2", status=1)
    assert "shard" in refused.stderr
    assert "2" in refused.stderr

    store = whole / "mine"
    assert "sound" in world.run("samplecnn", "data", "check", store, fresh=True).stdout
    told = world.run("samplecnn", "data", "info", store).stdout
    assert "calm" in told
    assert "wild" in told
    clip = json.loads((store / "manifest.json").read_text())["clips"]["id"][0]
    picture = tmp_path / "clip.png"
    world.run("samplecnn", "data", "plot", store, clip, "--out", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")

    run = tmp_path / "run"
    world.run("train.py", *data, f"data.root={whole}", *QUICK, f"hydra.run.dir={run}")
    assert results(run)["data"] == "mine"
    with (store / "shard-00001.npy").open("r+b") as shard:
        shard.seek(-2, 2)
        shard.write(b"\x7f\x7f")
    damaged = world.run("samplecnn", "data", "check", store, status=1)
    assert "shard-00001.npy" in damaged.stdout


def test_what_is_wrong_is_a_sentence(world: World, tmp_path: Path) -> None:
    """Of a table, as the catalogue says it, with the override that mends it; nothing is left behind."""
    for number in range(9):
        write_audio(tmp_path / f"raw/{number}.wav", seed=number)
    lines = [f'{number}.wav,"{("rock, pop", "jazz")[number % 2]}"\n' for number in range(9)]
    (tmp_path / "raw/tags.csv").write_text("path,tags\n" + "".join(lines))
    data = [
        "data=folder",
        "data.name=mine",
        f"data.raw={tmp_path / 'raw'}",
        f"data.root={tmp_path / 'stores'}",
    ]
    refused = world.run("prepare.py", *data, status=1)
    (line,) = refused.stderr.splitlines()
    assert "tags.csv, line 2: tags 'rock, pop' look like a list (4 more cells do)" in line
    (override,) = re.findall(r"If it is a list: (\S+)\. ", line)
    assert not list(tmp_path.glob("stores/*"))
    done = world.run("prepare.py", *data, override)
    assert "9 clips, 3 tags, 0 skipped" in done.stdout
    assert "split own, all 3 tags: clips" in done.stdout
    more = world.run("prepare.py", *data, override, "data.top=10000")
    assert "has 3 tags, and all are used (allowed are 1 to 3, or null for all)" in more.stdout
    asked = world.run("samplecnn", "data", "info", tmp_path / "stores/mine", "--top", "4", status=1)
    assert "top is 4: store" in asked.stderr
