"""``samplecnn evaluate --under`` as a user has it."""

import json
from pathlib import Path

import pytest

from inference.models import checkpoint
from samplecnn.cli import main
from samplecnn.runs.robustness import read_robustness
from training.test_evaluate import TAGS, make_store


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    store = make_store(tmp_path_factory.mktemp("tiny"))
    model = checkpoint(tmp_path_factory.mktemp("model") / "model.ckpt", tags=TAGS)
    return ["evaluate", str(model), "--store", str(store)]


def test_results_are_kept_and_gone_on_with(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    out = tmp_path / "out"
    assert main([*command, "--under", "level=0:-6,lowpass=2000", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert all(
        words in said for words in ("Under disturbances", "level (level, dB)", "lowpass", "robustness.svg")
    )
    found = read_robustness(out / "robustness.json")
    assert found is not None
    assert found.undisturbed.roc_auc == pytest.approx(expected["roc_auc"], abs=1e-6)
    assert found.undisturbed.pr_auc == pytest.approx(expected["pr_auc"], abs=1e-6)
    assert found.found("level", 0) is not None
    assert found.found("level", 0).roc_auc == found.undisturbed.roc_auc  # type: ignore[union-attr]
    assert {path.name for path in out.iterdir()} >= {"robustness.csv", "robustness.svg"}

    # What is there is not measured again.
    plain = json.loads((out / "robustness.json").read_text())
    plain["under"]["level"][1]["roc_auc"] = 0.125
    (out / "robustness.json").write_text(json.dumps(plain))
    assert main([*command, "--under", "level=-6:6", "--out", str(out), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(point["strength"], point["roc_auc"] == 0.125) for point in shown["under"]["level"]] == [
        (-6, True),
        (6, False),
    ]
    kept = read_robustness(out / "robustness.json")
    assert kept is not None
    assert {name: len(points) for name, points in kept.under.items()} == {"level": 3, "lowpass": 1}


def test_other_weights_do_not_take_the_place_of_results(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--under", "level=0", "--out", str(tmp_path)]) == 0
    before = (tmp_path / "robustness.json").read_text()
    other = checkpoint(tmp_path / "other.ckpt", "basic", tags=TAGS)
    capsys.readouterr()
    assert main(["evaluate", str(other), *command[2:], "--under", "level=0", "--out", str(tmp_path)]) == 1
    assert "is of other weights or another test part" in capsys.readouterr().err
    assert (tmp_path / "robustness.json").read_text() == before
    plain = json.loads(before) | {"split_hash": "ab" * 32}
    (tmp_path / "robustness.json").write_text(json.dumps(plain))
    assert main([*command, "--under", "level=0", "--out", str(tmp_path)]) == 1
    assert "is of other weights or another test part" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("under", "words"),
    [
        ("hiss", "there is no disturbance 'hiss': allowed are noise, pitch, stretch, mp3, level, lowpass"),
        ("noise,", "there is no disturbance ''"),
        ("noise=loud", "noise=loud: write numbers, as in noise=-20:100"),
        ("noise=", "noise=: write numbers"),
        ("pitch=13", "pitch=13: allowed are -12 to 12 (shift, semitones)"),
        ("stretch=0", "stretch=0: allowed are 0.25 to 4"),
        ("level=nan", "level=nan: allowed are -60 to 40"),
    ],
)
def test_what_cannot_be_asked_for(under: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "somewhere", "--under", under])
    assert stopped.value.code == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_what_does_not_go_together(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--under", "noise"]) == 1
    assert "with --store, or of a bundle, say --out DIR" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path)]) == 1
    assert "--out is of --under" in capsys.readouterr().err
    assert main([*command, "--under", "noise=20,mp3=200", "--out", str(tmp_path / "new")]) == 1
    assert "mp3=200: at 22,050 Hz" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
