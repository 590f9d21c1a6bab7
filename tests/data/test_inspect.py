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

from samplecnn.data.datasets import mtat
from samplecnn.data.inspect import check, info, plot, render
from samplecnn.data.prepare import prepare
from samplecnn.data.store import StoreError
from samplecnn.style import PlotsMissingError


@pytest.fixture
def copy(store_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store_path, tmp_path / "nine"))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_sound_store(store_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert check(store_path, progress=False) == []
    assert capfd.readouterr().err == ""
    assert check(store_path) == []
    assert "100%" in capfd.readouterr().err


def test_store_with_skipped_clips_is_sound(tmp_path: Path, make_raw: Callable[..., Path]) -> None:
    raw = make_raw(tmp_path / "raw", {"0/a.wav": 1.0, "1/b.mp3": b"text", "c/c.wav": 1.0, "d/d.wav": 1.0})
    path = prepare(mtat.catalog(raw, "x"), tmp_path, progress=False, workers=1)
    assert check(path, progress=False) == []
    told = info(path, "clean", None)
    assert [clip["path"] for clip in told["skipped"]] == ["1/b.mp3"]
    console = Console(width=120, record=True, file=StringIO())
    console.print(render(told))
    assert "cannot be decoded as audio" in console.export_text()


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
        (lambda m: m["clips"]["id"].__setitem__(1, "10"), "clip id '10' appears 2 times"),
        (
            lambda m: m["splits"]["pons"]["parts"].__setitem__(0, "dev"),
            "split 'pons' has parts ['dev']: allowed",
        ),
        (lambda m: m["splits"]["pons"]["parts"].__setitem__(0, "test"), "its splits are not those"),
        (lambda m: m["tags"].__setitem__(0, "quiet"), "its tags are not those of the catalogue"),
        (lambda m: m["clips"]["path"].__setitem__(0, "0/x.mp3"), "its clips are not those"),
    ],
)
def test_manifest_that_was_changed(
    copy: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    edit(copy, change)
    assert any(words in problem for problem in check(copy, progress=False))


def test_labels_that_were_changed(copy: Path) -> None:
    labels = np.load(copy / "labels.npy")
    labels[2, 1], labels[3, 0] = 7, 0
    np.save(copy / "labels.npy", labels)
    problems = check(copy, progress=False)
    assert "1 labels are neither 0 nor 1, the first 7 (clip '12', tag 'slow')" in problems[0]
    assert any("tag 'loud' has 8 clips, manifest.json counts 9" in problem for problem in problems)


def test_info_counts(store_path: Path) -> None:
    told = info(store_path, "clean", 2)
    assert json.loads(json.dumps(told)) == told
    assert told["clips"] == 9
    assert told["hours"] == pytest.approx(62 / 3600)
    train = told["parts"]["train"]
    assert (train["clips"], train["segments"], train["tags"]) == (4, 14, {"loud": 4, "slow": 2})
    console = Console(width=120, record=True, file=StringIO())
    console.print(render(told))
    text = console.export_text()
    for word in ("split clean", "segments", "loud", "3 shards"):
        assert word in text
    console.print(render(told | {"shards": 1}))
    assert re.search(r"\b1 shard\b", console.export_text())
    with pytest.raises(StoreError, match="allowed are clean, pons"):
        info(store_path, "mine", 2)


def test_names_are_neither_markup_nor_terminal_codes(store_path: Path) -> None:
    content = info(store_path, "clean", 2)
    for part in content["parts"].values():
        part["tags"] = {"[/rock]": 1, "\x1b[2Jjazz": 2}
    content |= {"split": "[/own]", "skipped": [{"path": "[red]a.wav", "reason": "[/]"}]}
    console = Console(width=120, record=True, file=StringIO())
    console.print(render(content))
    text = console.export_text()
    for name in ("split [/own]", "[/rock]", r"\x1b[2Jjazz", "[red]a.wav", "[/]"):
        assert name in text


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_plot(store_path: Path, tmp_path: Path, name: str, start: bytes) -> None:
    pytest.importorskip("matplotlib")
    plot(store_path, "11", tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


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
