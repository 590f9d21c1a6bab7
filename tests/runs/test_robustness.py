"""Scores under disturbances: what is written is what is read, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samplecnn.runs.errors import RunError
from samplecnn.runs.robustness import DISTURBANCES, Point, Robustness, read_robustness, write_robustness


def point(strength: float | None, auc: float | None = 0.8) -> Point:
    return Point(strength=strength, roc_auc=auc, pr_auc=auc)


def made(**under: list[float]) -> Robustness:
    return Robustness(
        model="ab" * 32,
        data="mini",
        split="clean",
        split_hash="cd" * 32,
        undisturbed=point(None, 0.9),
        under={name: tuple(map(point, strengths)) for name, strengths in under.items()},
    )


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "robustness.json"
    assert read_robustness(path) is None
    written = made(noise=[10, 40], pitch=[-1, 2], mp3=[])
    write_robustness(path, written)
    assert read_robustness(path) == written


def test_curves_go_from_the_weakest_on_or_by_their_value() -> None:
    found = made(noise=[10, 40, 0], pitch=[2, -1, 0, -4], stretch=[1.4, 0.7], lowpass=[750, 6000])
    strengths = {name: [one.strength for one in found.curve(name)] for name in found.under}
    assert strengths == {
        "noise": [None, 40, 10, 0],
        "pitch": [-4, -1, None, 2],  # no shift is what the undisturbed has
        "stretch": [0.7, None, 1.4],
        "lowpass": [None, 6000, 750],
    }
    assert found.found("noise", 0) == point(0)
    assert found.found("noise", 5) is found.found("level", 0) is None


def test_defaults_are_allowed_and_change_something() -> None:
    for disturbance in DISTURBANCES.values():
        low, high = disturbance.allowed
        assert all(low <= strength <= high for strength in disturbance.strengths)
        assert disturbance.neutral not in disturbance.strengths


def without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda plain: plain.pop(key)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("model"), "has no model"),
        (without("undisturbed"), "has no undisturbed"),
        (lambda plain: plain.update(split="\x1b[2J"), r"split='\\x1b\[2J' must be a printable text"),
        (lambda plain: plain.update(under=[]), r"under=\[\] must be an object"),
        (lambda plain: plain.update(under={"\x1bhiss": []}), r"the name '\\x1bhiss', which is not printable"),
        (lambda plain: plain.update(under={"hiss": []}), "no disturbance 'hiss'; there are noise, pitch"),
        (lambda plain: plain["under"].update(noise={}), r"under\.noise is not a list"),
        (lambda plain: plain["under"].update(noise=[3]), r"under\.noise is a int, not an object"),
        (lambda plain: plain["under"]["noise"][0].update(strength=True), r"under\.noise\.strength=True must"),
        (lambda plain: plain["under"]["noise"][0].update(roc_auc=10**400), r"under\.noise\.roc_auc=1000"),
        (lambda plain: plain["under"]["noise"][0].update(roc_auc=1.5), r"under\.noise\.roc_auc=1\.5 must be"),
        (lambda plain: plain["under"]["noise"][0].update(strength=None), r"under\.noise has no strength"),
        (lambda plain: plain["under"]["noise"].append(plain["under"]["noise"][0]), r"noise has .* one twice"),
    ],
)
def test_files_that_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    path = tmp_path / "robustness.json"
    write_robustness(path, made(noise=[10, 40]))
    plain = json.loads(path.read_text())
    change(plain)
    path.write_text(json.dumps(plain))
    with pytest.raises(RunError, match=reason) as refused:
        read_robustness(path)
    assert str(path) in str(refused.value)
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("content", ["[]", "{", '{"undisturbed": NaN}', ""])
def test_what_is_no_such_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "robustness.json"
    path.write_text(content)
    with pytest.raises(RunError, match=r"robustness\.json"):
        read_robustness(path)
