"""Checking, describing and drawing stores; every kind of damage is found and named."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from samplecnn.cli import main
from samplecnn.data.datasets import mtat
from samplecnn.data.inspect import check, info, plot
from samplecnn.data.prepare import prepare
from samplecnn.data.store import Store, StoreError
from samplecnn.style import PlotsMissingError


@pytest.fixture
def copy(store_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store_path, tmp_path / "nine"))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def told(path: Path, split: str = "clean", top: int | None = None) -> str:
    """What a terminal shows of a store."""
    console = Console(width=120, record=True, file=StringIO())
    console.print(info(Store.open(path), split, top))
    return console.export_text()


def test_sound_store(store_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert check(store_path, progress=False) == []
    assert capfd.readouterr().err == ""
    assert check(store_path) == []
    assert "100%" in capfd.readouterr().err


def test_store_with_skipped_clips_is_sound(tmp_path: Path, make_raw: Callable[..., Path]) -> None:
    raw = make_raw(tmp_path / "raw", {"0/a.wav": 1.0, "1/b.mp3": b"text", "c/c.wav": 1.0, "d/d.wav": 1.0})
    path = prepare(mtat.catalog(raw, "x"), tmp_path, progress=False, workers=1)
    assert check(path, progress=False) == []
    assert re.search(r"skipped \(1\).*1/b\.mp3.*cannot be decoded as audio", told(path), re.DOTALL)


def test_changed_samples_are_found(copy: Path) -> None:
    file = copy / "shard-00001.npy"
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    (problem,) = check(copy, progress=False)
    assert problem.startswith("shard-00001.npy has SHA-256 ")


def test_damage_that_opening_notices_is_a_problem_too(copy: Path) -> None:
    (copy / "shard-00001.npy").unlink()
    (problem,) = check(copy, progress=False)
    assert "damaged" in problem
    (copy / "manifest.json").unlink()
    with pytest.raises(StoreError, match="not finished"):
        check(copy)
    with pytest.raises(StoreError, match="no store at"):
        check(copy / "nowhere")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda m: m["clips"]["length"].__setitem__(0, 100),
            "do not join, sample 100 is followed by sample 66150",
        ),
        (lambda m: m["clips"]["length"].__setitem__(-1, 100), "shard-00002.npy: its clips do not join"),
        (
            lambda m: m["tag_counts"].__setitem__(1, 3),
            "tag 'slow' has 4 clips, manifest.json counts 3 with 0",
        ),
        (lambda m: m["clips"]["id"].__setitem__(1, "10"), "clip id '10' appears twice"),
        (
            lambda m: m["splits"]["pons"]["parts"].__setitem__(0, "dev"),
            "is damaged (ValueError: manifest.json has no split, or one into other parts than train, valid",
        ),
        (lambda m: m["splits"]["pons"]["parts"].__setitem__(0, "test"), "its splits are not those"),
        (lambda m: m["tags"].__setitem__(0, "quiet"), "its tags are not those of the catalogue"),
        (lambda m: m["clips"]["path"].__setitem__(0, "0/x.mp3"), "its clips are not those"),
        (lambda m: m["shards"][0].pop("sha256"), "manifest.json says None"),
        (lambda m: m["shards"][0].update(sha256="\x1b[2J"), r"manifest.json says '\x1b[2J'"),
    ],
)
def test_manifest_that_was_changed(
    copy: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    edit(copy, change)
    assert any(words in problem for problem in check(copy, progress=False))


def test_a_file_that_only_the_manifest_names_is_not_read(copy: Path) -> None:
    edit(copy, lambda m: [shard.update(file="../../outside.npy") for shard in m["shards"]])
    assert check(copy, progress=False) == []


def test_labels_that_were_changed(copy: Path) -> None:
    labels = np.load(copy / "labels.npy")
    labels[2, 1], labels[3, 0] = 7, 0
    np.save(copy / "labels.npy", labels)
    problems = check(copy, progress=False)
    assert "1 labels are neither 0 nor 1, the first 7 (clip '12', tag 'slow')" in problems[0]
    assert any("tag 'loud' has 8 clips, manifest.json counts 9" in problem for problem in problems)


def test_info_counts(store_path: Path) -> None:
    text = told(store_path, "clean", 2)
    for row in (
        ("split clean", "train", "valid", "test", "whole store"),
        ("clips", "4", "2", "3", "9"),
        ("segments", "14", "4", "4"),
        ("hours", "0.01", "0.00", "0.00", "0.02"),
        ("on disk", "0.00 GB, 3 shards"),
        ("loud", "4", "2", "3"),
        ("slow", "2", "1", "1"),
    ):
        assert re.search(r"\W+".join(map(re.escape, row)), text), row
    assert "rare" not in text
    with pytest.raises(StoreError, match="allowed are clean, pons"):
        told(store_path, "mine")
    with pytest.raises(StoreError, match=r"top is 4: store .* has 3 tags"):
        told(store_path, "clean", 4)


def test_names_are_neither_markup_nor_terminal_codes(copy: Path) -> None:
    skipped = [{"id": "1", "path": "[red]a.wav", "reason": "[/]"}]
    names = {"tags": ["[/rock]", "\x1b[2Jjazz", "rare"], "skipped": skipped}
    edit(copy, lambda m: m.update(names, splits={"[/own]": m["splits"]["clean"]}))
    text = told(copy, "[/own]")
    for name in ("split [/own]", "[/rock]", r"\x1b[2Jjazz", "[red]a.wav", "[/]"):
        assert name in text


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_plot(store_path: Path, tmp_path: Path, name: str, start: bytes) -> None:
    pytest.importorskip("matplotlib")
    plot(store_path, "11", tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_the_plot_of_a_clip_whose_id_is_a_path_lies_here(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    edit(copy, lambda m: m["clips"]["id"].__setitem__(0, "jazz/so what.flac"))
    monkeypatch.chdir(tmp_path)
    assert main(["data", "plot", str(copy), "jazz/so what.flac"]) == 0
    assert capsys.readouterr().out == "so what.flac.png\n"
    assert (tmp_path / "so what.flac.png").is_file()


def test_plots_that_cannot_be_drawn(
    store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match=r"a\.gif: allowed are files that end in \.png or \.svg"):
        plot(store_path, "11", tmp_path / "a.gif")
    with pytest.raises(StoreError, match=r"no clip '1O' in store .*: the nearest of 9 are 1"):
        plot(store_path, "1O", tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "matplotlib.style", None)
    with pytest.raises(
        PlotsMissingError, match=r"pictures need matplotlib: pip install 'samplecnn\[plots\]'"
    ):
        plot(store_path, "11", tmp_path / "a.png")
