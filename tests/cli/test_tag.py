"""``samplecnn tag``: what is refused, and what is left as it is."""

import json
import re
from pathlib import Path

import pytest

import samplecnn
from e2e.test_tag import noise
from inference.models import checkpoint
from samplecnn.cli import listening, main
from samplecnn.inference import file_tags
from samplecnn.runs.thresholds import TagThreshold, Thresholds, write_thresholds
from samplecnn.runs.weights import file_sha256


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and a song."""
    monkeypatch.chdir(tmp_path)
    checkpoint(Path("made.ckpt"))
    noise(Path("song.wav"), 1)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "tags.txt"], "allowed are .csv, .jsonl, .sqlite, .parquet"),
        (["--out", "no/tags.csv"], "there is no folder no for tags.csv"),
        (["--out", "tags.csv", "--over-time"], "--over-time goes with --csv and --json"),
        (["--again"], "--again is for --out FILE"),
        (["--dry-run"], "--dry-run is for --write-tags"),
        (["--write-tags", "a/b"], "'a/b' is no name of a field"),
        (["--write-tags", "--journal", "song.wav"], "song.wav, line 1, is no change of a journal"),
        (["--write-tags", "--journal", "no/undo.jsonl"], "there is no folder no for the journal undo.jsonl"),
        (["--playlists", "song.wav"], "--playlists song.wav: it is not a folder"),
        (["--threshold", "0.3"], "--threshold is for --write-tags and --playlists"),
        (["--undo", "no.jsonl"], "--undo takes no PATH"),
    ],
)
def test_what_cannot_be_carried_out(
    here: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tag", "song.wav", "--model", "made.ckpt", *arguments]) == 1
    assert words in capsys.readouterr().err
    assert not (here / "tags.csv").exists()


def test_another_model_or_way_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(here / "other.ckpt", "basic")
    command = ["tag", "song.wav", "--out", "tags.csv", "--model"]
    assert main([*command, "made.ckpt"]) == 0
    before = (here / "tags.csv").read_bytes()
    capsys.readouterr()
    for more in (["other.ckpt"], ["made.ckpt", "--average", "max"]):
        assert main([*command, *more]) == 1
        said = capsys.readouterr().err
        assert "tags.csv has rows of another source: made, " in said
        assert "It was left as it is: name another file" in said
    assert (here / "tags.csv").read_bytes() == before


def players(here: Path) -> list[Path]:
    songs = [noise(here / "music" / f"{number}.mp3", 3, 22_050, seed=number) for number in range(3)]
    (here / "music" / "broken.mp3").write_text("no music")
    return songs


def test_tags_for_players(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tried, written, in playlists, and taken back; a table's rows are of the files as they are then."""
    pytest.importorskip("mutagen")
    songs = players(here)
    before = [song.read_bytes() for song in songs]
    command = ["tag", "music", "--model", "made.ckpt", "--out", "tags.jsonl", "--threshold", "0.4"]
    write = [*command, "--write-tags", "--playlists", "lists"]
    assert main([*write, "--dry-run"]) == 3
    out, err = capsys.readouterr()
    assert [line.split(": ")[:2] for line in out.splitlines()] == [
        [f"music/{number}.mp3", "SAMPLECNN_TAGS"] for number in range(3)
    ]
    assert "3 files would be changed" in err
    assert [song.read_bytes() for song in songs] == before
    assert main([*write, "--top", "2"]) == 3  # the rows are there; the broken file has not changed
    err = capsys.readouterr().err
    assert "4 of 4 files are in tags.jsonl and have not changed" in err
    assert "3 files were changed; samplecnn tag --undo samplecnn-undo.jsonl takes that back" in err
    rows = [json.loads(line) for line in (here / "tags.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    for row in rows:
        if row["error"]:
            continue
        best = sorted(row["tags"], key=lambda tag: -row["tags"][tag])[:2]
        decided = [tag for tag in best if row["tags"][tag] >= 0.4]
        assert file_tags.read(here / row["path"], file_tags.FIELD) == decided
        assert row["size"] == (here / row["path"]).stat().st_size
        for tag in row["tags"]:
            file = here / "lists" / f"{tag.replace('|', '_')}.m3u8"
            listed = file.is_file() and f"../{row['path']}\n" in file.read_text()
            assert listed == (tag in decided)
    assert main(write[:-2]) == 3
    assert "4 of 4 files are in tags.jsonl and have not changed" in capsys.readouterr().err
    assert main(["tag", "--undo", "samplecnn-undo.jsonl"]) == 0
    assert "3 files are as they were before, 0 were left as they are" in capsys.readouterr().out
    assert [song.read_bytes() for song in songs] == before


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".sqlite"])
def test_a_file_that_was_cut_is_read_again_if_only_whole_ones_will_do(
    here: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = noise(here / "cut.wav", 6)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    command = ["tag", "--model", "made.ckpt", "--out", f"tags{ending}", "song.wav", "cut.wav"]
    assert main(command) == 0
    assert "cut.wav: incomplete" in capsys.readouterr().err
    assert main(command) == 0
    assert "2 of 2 files are in" in capsys.readouterr().err
    for known in (1, 2):  # its row has an error from then on
        assert main([*command, "--strict"]) == 3
        err = capsys.readouterr().err
        assert f"{known} of 2 files are in" in err
        assert err.count("cut.wav: incomplete") == 1


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".sqlite"])
def test_what_could_not_be_read_is_said_by_every_call(
    here: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until it can be, also where the table knows it; but not of files of other calls."""
    broken = here / "broken.mp3"
    broken.write_text("no music")
    command = ["tag", "--model", "made.ckpt", "--out", f"tags{ending}", "song.wav"]
    for _ in range(2):
        assert main([*command, "broken.mp3", "broken.mp3"]) == 3
        err = capsys.readouterr().err
        assert err.count("broken.mp3: cannot be decoded") == 1
        assert "1 of 2 files could not be read or drawn" in err
    assert "2 of 2 files are in" in err
    assert main(command) == 0
    assert "could not be read" not in capsys.readouterr().err
    noise(broken, 1, 22_050)
    assert main([*command, "broken.mp3"]) == 0


def test_tags_are_written_as_files_are_tagged(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row is of the file as it is then, and a file that is named twice is heard once."""
    pytest.importorskip("mutagen")
    song, *_ = players(here)
    command = ["tag", str(song), str(song), "--model", "made.ckpt", "--out", "tags.jsonl", "--threshold", "0"]
    assert main([*command, "--write-tags"]) == 0
    assert "1 file was changed" in capsys.readouterr().err
    [row] = map(json.loads, (here / "tags.jsonl").read_text().splitlines())
    assert row["size"] == song.stat().st_size
    assert main([*command, "--write-tags"]) == 0
    assert "1 of 1 files are in tags.jsonl and have not changed" in capsys.readouterr().err


def test_tags_for_players_without_a_table(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mutagen")
    song, *_ = players(here)
    (here / "music" / "a.w64").write_bytes(noise(here / "a.w64", 1).read_bytes())
    command = [
        "tag",
        "music",
        "--model",
        "made.ckpt",
        "--threshold",
        "0",
        "--top",
        "1",
        "--write-tags",
        "genre",
    ]
    assert main([*command, "--journal", "my back.jsonl", "--quiet"]) == 3
    err = capsys.readouterr().err
    assert "a.w64: tags are written as ID3, Vorbis comments and in MP4" in err
    assert "3 files were changed; samplecnn tag --undo 'my back.jsonl' takes that back" in err
    assert len(file_tags.read(song, "genre")) == 1
    genre = file_tags.read(song, "genre")
    assert main([*command, "--journal", "none.jsonl", "--quiet", "--threshold", "1"]) == 3
    assert "0 files were changed" in capsys.readouterr().err
    assert file_tags.read(song, "genre") == genre
    assert main(["tag", "music", "--undo", "my back.jsonl"]) == 1
    assert "--undo takes no PATH" in capsys.readouterr().err


def test_progress_where_there_is_no_terminal(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "LINE_SECONDS", 0.0)
    noise(here / "other.wav", 3)
    command = ["tag", "song.wav", "other.wav", "--model", "made.ckpt"]
    assert main([*command, "--out", "tags.csv"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"samplecnn tag: 1 of 2 files, \d+ hours/hour, about \d+ min left", lines[0])
    assert re.fullmatch(r"samplecnn tag: 2 files, 0\.00 hours of audio in \d+ s", lines[2])
    assert main(command) == 0
    assert capsys.readouterr().err == ""


def test_the_best_tags_in_a_picture(here: Path) -> None:
    """With --top, the others are left out; without it, all are drawn."""
    command = ["tag", "song.wav", "--model", "made.ckpt", "--quiet", "--plot"]
    assert main([*command, "all"]) == 0
    assert main([*command, "one", "--top", "1"]) == 0
    heights = [int.from_bytes((here / name / "song.wav.png").read_bytes()[20:24]) for name in ("all", "one")]
    assert heights[1] < heights[0]


@pytest.fixture
def decided(here: Path) -> dict[str, float]:
    """A run with thresholds, one of which no probability reaches; the probabilities of the song by tag."""
    best = checkpoint(here / "run" / "checkpoints" / "best.ckpt")
    tagger = samplecnn.load(best, precision="32")
    said = dict(zip(tagger.tags, tagger.predict_file("song.wav").tolist(), strict=True))
    ranked = sorted(said, key=lambda tag: said[tag])
    lowest = {ranked[0]: said[ranked[0]] - 0.01, ranked[1]: said[ranked[1]] + 0.01, ranked[2]: None}
    write_thresholds(
        here / "run",
        Thresholds(
            wanted_precision=None,
            split="clean",
            split_hash="ab",
            clips=9,
            checkpoint=file_sha256(best),
            per_tag={
                tag: TagThreshold(threshold=least, precision=None, recall=None, f1=None, positives=1)
                for tag, least in lowest.items()
            },
        ),
    )
    return {tag: said[tag] for tag in ranked}


def test_decide(here: Path, decided: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    """The least likely tag reaches its threshold; the second misses it, and the likeliest has none."""
    tag = next(iter(decided))
    command = ["tag", "song.wav", "--model", "run", "--decide"]
    assert main(command) == 0
    _, file, *lines = capsys.readouterr().out.splitlines()
    assert file == "song.wav"
    assert [line.split(None, 1)[1] for line in lines] == [tag]
    assert main([*command, "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["decided"] == [tag]
    assert len(line["tags"]) == 3
    assert main([*command, "--quiet", "--playlists", "lists"]) == 0
    assert [path.stem for path in Path("lists").iterdir()] == [re.sub(r"[|]", "_", tag)]
    # From the rows of a table too.
    assert main(["tag", "song.wav", "--model", "run", "--out", "tags.jsonl"]) == 0
    assert main([*command, "--out", "tags.jsonl", "--playlists", "more"]) == 0
    assert [path.name for path in Path("more").iterdir()] == [path.name for path in Path("lists").iterdir()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--threshold", "0.3"], "--decide has a threshold for each tag, --threshold one for all"),
        (["--average", "max"], "of the mean over a file's segments, and of no other average"),
        (["--over-time"], "of the mean over a file's segments, and of no other average"),
        (["--csv"], "--csv and --out have all probabilities"),
        (["--out", "a.csv"], "--csv and --out have all probabilities"),
        ([], "made.ckpt has no thresholds: `samplecnn thresholds "),
    ],
)
def test_what_cannot_be_decided(
    here: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tag", "song.wav", "--model", "made.ckpt", "--decide", *arguments]) == 1
    assert words in capsys.readouterr().err
