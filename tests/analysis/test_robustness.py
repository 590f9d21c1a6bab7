"""Scores under disturbances, in the report and alone."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from analysis.made_report import make
from analysis.made_runs import labels, make_run, probabilities
from samplecnn.analysis.robustness import robustness_figure, robustness_table, score_point, write_files
from samplecnn.analysis.statistics import bootstrap, score_interval
from samplecnn.analysis.tabular import NONE
from samplecnn.runs.metrics import score
from samplecnn.runs.results import read_results
from samplecnn.runs.robustness import Point, Robustness, write_robustness


def points(*pairs: tuple[float, float]) -> tuple[Point, ...]:
    return tuple(
        Point(strength=strength, roc_auc=auc, pr_auc=auc / 2, roc_auc_interval=(auc - 0.05, auc + 0.05))
        for strength, auc in pairs
    )


def found(noise: Sequence[float], split_hash: str = "a" * 64) -> Robustness:
    """Scores at 30 and 0 dB, and of a pitch shift."""
    return Robustness(
        model="ab" * 32,
        data="mini",
        split="clean",
        split_hash=split_hash,
        undisturbed=Point(roc_auc=0.9, pr_auc=0.5),
        under={
            "noise": points((0, noise[1]), (30, noise[0])),
            "pitch": points((-1, 0.85), (0, 0.9), (1, 0.8)),
        },
    )


def test_scores_with_the_bootstrap_s_intervals() -> None:
    truth = labels(80, 4, shares=(0.5, 0.3))
    said = probabilities(truth, 1.5, seed=1)
    tags = tuple("abcd")
    point = score_point(tags, truth, said, 20.0)
    expected = score(tags, truth, said)
    assert (point.roc_auc, point.pr_auc) == pytest.approx((expected.roc_auc, expected.pr_auc), abs=1e-6)
    assert point.roc_auc_interval == score_interval(bootstrap(truth, [said]).roc_auc.macro([0]))
    assert point.strength == 20
    few = score_point(tags, truth[:20], said[:20], None)
    assert few.roc_auc_interval is None


def test_the_table_shows_what_costs_most_and_keeps_all() -> None:
    models = {"one": found([0.8, 0.7]), "other": found([0.7, 0.75])}
    table = robustness_table(models)
    rows = [(row[0], row[1].partition(" ")[0], row[2], row[3]) for row in table.rows]
    assert rows == [
        *(("one", "none", NONE, "0.9000"), ("one", "noise", "0", "0.7000"), ("one", "pitch", "1", "0.8000")),
        *(
            ("other", "none", NONE, "0.9000"),
            ("other", "noise", "30", "0.7000"),
            ("other", "pitch", "1", "0.8000"),
        ),
    ]
    assert len(table.records) + len(table.unseen) == 2 * 6
    assert [record["change"] for record in table.records[:2]] == pytest.approx([0, -0.2])
    whole = robustness_table(models, whole=True)
    assert [row[2] for row in whole.rows[:6]] == [NONE, "30", "0", "-1", "0", "1"]
    assert not whole.unseen


def test_the_figure_has_a_panel_for_each_and_a_line_for_each_model() -> None:
    models = {f"model {index}": found([0.8, 0.7]) for index in range(8)}
    figure = robustness_figure(models)
    assert [caption for caption, _ in figure.panels] == ["noise", "pitch"]
    assert figure.legend == [(f"series{index}", f"model {index}") for index in range(6)]
    assert "first 6 of 8" in figure.note
    noise, pitch = (ElementTree.fromstring(svg) for _, svg in figure.panels)
    assert len([path for path in noise.findall("svg/path") if "line" in path.get("class", "")]) == 6
    titles = [title.text for title in noise.findall("g/title")]
    assert titles[:3] == [
        "model 0, noise none: 0.9000",
        "model 0, noise 30: 0.8000, 95 % interval 0.7500 to 0.8500",
        "model 0, noise 0: 0.7000, 95 % interval 0.6500 to 0.7500",
    ]
    assert {"-1", "0", "1", "shift, semitones"} <= {text.text for text in pitch.findall("text")}
    assert robustness_figure({"alone": found([0.8, 0.7])}).legend == []


def test_tags_without_scores_draw_nothing() -> None:
    nothing = Point(roc_auc=None, pr_auc=None)
    model = found([0.8, 0.7])
    undefined = Robustness(
        **{
            **vars(model),
            "undisturbed": nothing,
            "under": {"noise": (Point(strength=3, roc_auc=None, pr_auc=None),)},
        }
    )
    assert robustness_table({"x": undefined}).rows[1][3:6] == [NONE, NONE, NONE]
    assert len(robustness_figure({"x": undefined}).panels) == 1


def test_files_of_one_model(tmp_path: Path) -> None:
    write_files(found([0.8, 0.7]), tmp_path)
    rows = list(csv.DictReader((tmp_path / "robustness.csv").read_text().splitlines()))
    assert [row["strength"] for row in rows] == ["", "30", "0", "-1", "0", "1"]
    assert (rows[1]["roc_auc"], rows[1]["roc_auc_low"]) == ("0.8", "0.75")
    root = ElementTree.fromstring((tmp_path / "robustness.svg").read_text())
    name = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{name}svg"
    assert [chart.tag for chart in root.findall(f"{name}svg")] == [f"{name}svg"] * 2
    assert [text.text for text in root.findall(f"{name}text")] == ["noise", "pitch"]
    assert "--multi" in (root.findtext(f"{name}style") or "")


def test_the_report_shows_models_beside_each_other(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name, block, seed in (("a", "se", 0), ("b", "se", 1), ("c", "basic", 0), ("d", "res1", 0)):
        make_run(runs / name, f"block={block}", "multi=true", seed=seed)
    split_hash = read_results(runs / "a").split_hash
    first = found([0.8, 0.7], split_hash)
    more = (*first.under["noise"], *points((40, 0.9)))  # what only one of two seeds has
    write_robustness(runs / "a" / "robustness.json", replace(first, under={**first.under, "noise": more}))
    write_robustness(runs / "b" / "robustness.json", found([0.6, 0.5], split_hash))
    write_robustness(runs / "c" / "robustness.json", found([0.75, 0.7], split_hash))
    made = make(runs, tmp_path / "out", draws=50)
    assert "Robustness" in made.text
    scores = {
        (row["cell"], row["disturbance"].partition(" ")[0], row["strength"]): row
        for row in made.table("robustness")
    }
    assert float(scores["SE, multi", "noise", "30"]["roc_auc"]) == pytest.approx(np.mean([0.8, 0.6]))
    assert scores["SE, multi", "noise", "30"]["roc_auc_low"] == ""  # of two seeds
    assert ("SE, multi", "noise", "40") not in scores
    assert float(scores["Basic, multi", "noise", "0"]["roc_auc_low"]) == pytest.approx(0.65)
    assert {cell for cell, *_ in scores} == {"SE, multi", "Basic, multi"}


def test_a_test_that_was_stopped_before_its_first_strength_shows_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "a", "block=se")
    begun = replace(found([0.8, 0.7], read_results(run).split_hash), under={})
    write_robustness(run / "robustness.json", begun)
    made = make(tmp_path / "runs", tmp_path / "out", draws=20)
    assert "Under disturbances" not in made.text
    assert not (made.out / "robustness.csv").exists()


def test_what_does_not_belong_to_the_run_is_named(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    make_run(runs / "a", "block=se")
    make_run(runs / "b", "block=basic")
    write_robustness(runs / "a" / "robustness.json", found([0.8, 0.7], "f" * 64))
    (runs / "b" / "robustness.json").write_text("{")
    made = make(runs, tmp_path / "out", draws=20)
    assert "robustness.json is of another test split: it is not shown" in made.text
    assert "robustness.json is not JSON, or damaged" in made.text
    assert not (tmp_path / "out" / "robustness.csv").exists()


def test_runs_with_augmentation_stand_apart_by_its_name(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for augment in ("none", "waveform"):
        for block in ("se", "basic"):
            make_run(runs / f"{augment}-{block}", f"block={block}", f"augment={augment}")
        split_hash = read_results(runs / f"{augment}-se").split_hash
        write_robustness(runs / f"{augment}-se" / "robustness.json", found([0.8, 0.7], split_hash))
    made = make(runs, tmp_path / "out", draws=20)
    report = made.report
    # Trained otherwise, they stand beside each other here alone.
    assert {row["cell"] for row in made.table("robustness")} == {
        "SE, multi; augment=none",
        "SE, multi; augment=waveform",
    }
    assert sorted(group.name for group in report.groups) == ["augment=none", "augment=waveform"]
    departures = [sentence for group in report.groups for sentence in group.departures]
    assert "augment=waveform (the paper: none)" in departures
    make_run(runs / "less", "block=se", "augment=waveform", "augment.pitch=0.1")
    report = make(runs, tmp_path / "again", draws=20).report
    assert "augment=waveform, augment.pitch=0.1" in [group.name for group in report.groups]
