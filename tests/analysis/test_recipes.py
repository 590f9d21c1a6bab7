"""Recipes beside each other in the report, with their differences from the base."""

from pathlib import Path

import pytest

from analysis.made_report import Made, make
from analysis.made_runs import make_run
from samplecnn.analysis.grid import draw, groups
from samplecnn.analysis.searches import recipe_table
from samplecnn.cli import main
from samplecnn.runs.run import read_run

QUALITY = {"base": 1.8, "paper": 1.4, "adamw": 1.7, "cosine": 1.85, "ema": 2.6, "smoothing": 1.8}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two seeds of each recipe."""
    folder = tmp_path_factory.mktemp("recipes")
    for recipe, separation in QUALITY.items():
        for seed in (0, 1):
            make_run(
                folder / "runs" / f"recipe={recipe},seed={seed}",
                *("experiment=recipes", f"recipe={recipe}"),
                seed=seed,
                separation=separation,
                recipe=recipe,
            )
    return make(folder / "runs", folder / "out")


def test_recipes_are_one_group_with_a_row_each(made: Made) -> None:
    (group,) = made.report.groups
    rows = {row["cell"]: row for row in made.table("table1")}
    assert rows.keys() == {f"SE, multi, {recipe}" for recipe in QUALITY}
    assert {row["seeds"] for row in rows.values()} == {"2"}
    assert "schedule=by recipe (the paper: PaperSchedule)" in group.departures
    assert "trainer.max_epochs=20 (the paper: null)" in group.departures
    assert group.findings[0].startswith("SE, multi, ema is the best of 6 recipes")


def test_differences_are_from_the_base(made: Made) -> None:
    rows = {row["recipe"]: row for row in made.table("recipes")}
    assert list(rows) == ["base", *sorted(QUALITY.keys() - {"base"})]
    for recipe, row in rows.items():
        if recipe == "base":
            assert (row["difference"], row["clips_low"], row["distinguishable"]) == ("", "", "")
            continue
        expected = float(row["roc_auc"]) - float(rows["base"]["roc_auc"])
        assert float(row["difference"]) == pytest.approx(expected, abs=2e-6)
        low, high = (float(row[f"clips_and_seeds_{end}"]) for end in ("low", "high"))
        assert low < float(row["clips_low"]) < float(row["difference"]) < float(row["clips_high"]) < high
        assert row["distinguishable"] == ("no" if low <= 0 <= high else "yes")
    assert rows["ema"]["distinguishable"] == "yes"


def test_without_the_base_recipes_are_not_compared(tmp_path: Path) -> None:
    for recipe in ("adamw", "ema"):
        make_run(tmp_path / recipe, "experiment=recipes", f"recipe={recipe}", recipe=recipe)
    runs = [read_run(tmp_path / recipe) for recipe in ("adamw", "ema")]
    (group,) = groups(runs, draw(runs, draws=5, seed=0))
    table = recipe_table(group)
    assert table is not None
    assert [(record["changes"], record["difference"]) for record in table.records] == [("", None)] * 2


def test_what_a_recipe_changes_is_said(made: Made) -> None:
    said = {row["recipe"]: row["changes"] for row in made.table("recipes")}
    assert said == {
        "base": "",
        "paper": "schedule=PaperSchedule",
        "adamw": "optimizer=adamw, schedule.learning_rate=0.001",
        "cosine": "schedule=Cosine",
        "ema": "average=ema",
        "smoothing": "label_smoothing=0.1",
    }
    assert "optimizer=adamw" in made.text


def test_beside_runs_of_no_recipe(tmp_path: Path) -> None:
    """A run like the base, and the paper's own, are kept apart, and nothing is left out."""
    overrides = ("experiment=recipes", "recipe=base")
    make_run(tmp_path / "runs" / "base", *overrides, recipe="base")
    make_run(tmp_path / "runs" / "ema", "experiment=recipes", "recipe=ema", recipe="ema")
    make_run(tmp_path / "runs" / "alike", "experiment=recipes")
    make_run(tmp_path / "runs" / "plain", "block=se")
    made = make(tmp_path / "runs", tmp_path / "out")
    assert not made.report.problems
    names = [group.name for group in made.report.groups]
    assert [name.partition(",")[0] for name in names] == [
        "schedule=by recipe",
        "schedule=OneCycle",
        "schedule=PaperSchedule",
    ]
    assert {row["group"] for row in made.table("recipes")} == {names[0]}


def test_recipes_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/one"), "recipe=ema", recipe="ema")
    make_run(Path("runs/two"), "recipe=smoothing")
    Path("runs/two/results.json").unlink()
    make_run(Path("runs/three"))
    assert main(["runs"]) == 0
    out = capsys.readouterr().out
    rows = {words[1]: words for line in out.splitlines() if len(words := line.split()) > 5}
    assert "recipe" in out
    assert "ema" in rows["one"]
    assert "smoothing" in rows["two"]
    assert main(["runs", "--only", "recipe=ema"]) == 0
    assert "smoothing" not in capsys.readouterr().out
    assert main(["runs", "--only", "run=three"]) == 0
    assert "recipe" not in capsys.readouterr().out
