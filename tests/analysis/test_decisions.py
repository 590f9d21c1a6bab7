"""Calibration by hand, curves against scikit-learn's, and what the report shows of decisions."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_curve, precision_score, recall_score, roc_curve

from analysis.made_report import make
from analysis.made_runs import make_run
from samplecnn.analysis.decisions import calibration_error, curves, curves_chart, decided_scores, reliability
from samplecnn.runs.predictions import read_predictions
from samplecnn.runs.results import read_results
from samplecnn.runs.run import read_run
from samplecnn.runs.thresholds import Thresholds, write_thresholds
from samplecnn.training.thresholds import best_threshold


def test_calibration_by_hand() -> None:
    """Four predictions around 0.15, of which one is true; one of 1, which is; one of 0.9, which is not."""
    said = np.array([[0.1, 0.12, 0.18], [0.19, 1.0, 0.9]])
    truth = np.array([[0, 0, 1], [0, 1, 0]])
    counts, probability, share = reliability(truth, said)
    assert (counts.tolist(), share.tolist()) == ([4, 2], [0.25, 0.5])
    assert probability == pytest.approx([0.1475, 0.95])
    assert calibration_error(truth, said) == pytest.approx((4 * 0.1025 + 2 * 0.45) / 6)
    assert calibration_error(np.array([0, 1]), np.array([0.0, 1.0])) == 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [1, 6])
def test_curves_are_scikit_learn_s(seed: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(80) < 0.3
    scores = (0.4 * truth + rng.random(80)).round(digits).astype(np.float32)
    drawn = curves(truth, scores)
    assert drawn is not None
    wrong, recall, _ = roc_curve(truth, scores, drop_intermediate=False)
    roc, pr = drawn
    np.testing.assert_allclose(roc, np.stack([wrong, recall], axis=1))
    precision, recall, _ = precision_recall_curve(truth, scores)
    np.testing.assert_allclose(pr, np.stack([recall, precision], axis=1)[-2::-1])


def test_curves_need_both_kinds_of_clips() -> None:
    assert curves(np.zeros(3, bool), np.arange(3)) is None
    assert curves(np.ones(3, bool), np.arange(3)) is None


def test_scores_of_decisions() -> None:
    truth, scores = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.4, 0.1])
    given = scores >= 0.8
    expected = (precision_score(truth, given), recall_score(truth, given), f1_score(truth, given))
    assert decided_scores(truth, scores, 0.8) == pytest.approx(expected)
    assert decided_scores(truth, scores, 0.95) == (None, 0, 0)
    assert decided_scores(truth, scores, None) == (None, None, None)
    assert decided_scores(np.zeros(4, bool), scores, 0.95) == (None, None, None)


def test_a_curve_with_many_points_ends_where_it_ends() -> None:
    truth = np.arange(4000) % 2 == 0
    drawn = str(curves_chart("rock", truth, np.random.default_rng(0).random(4000), None))
    paths = re.findall(r' d="M([^"]*)"', drawn)
    assert [path.rpartition("L")[2].split()[0] for path in paths] == ["100.00", "100.00"]
    assert all(path.count("L") < 300 for path in paths)


def test_marks_stand_at_the_threshold() -> None:
    truth, scores = np.array([True, True, True, False, False]), np.array([0.9, 0.5, 0.3, 0.6, 0.1])
    drawn = curves_chart("rock", truth, scores, 0.5)
    assert "true over false positive rate: 0.667 over 0.500 at the threshold" in str(drawn)
    assert "precision over recall: 0.667 over 0.667 at the threshold" in str(drawn)
    assert "at the threshold" not in str(curves_chart("rock", truth, scores, None))


def with_thresholds(run: Path, precision: float | None = None) -> Thresholds:
    """Give a made run thresholds: the best of its own test clips, for want of others."""
    said, results = read_predictions(run), read_results(run)
    assert said is not None
    chosen = Thresholds(
        wanted_precision=precision,
        split=results.split,
        split_hash=results.split_hash,
        clips=60,
        checkpoint="ab" * 32,
        per_tag={
            tag: best_threshold(said.labels[:, i].astype(bool), said.probabilities[:, i], precision)
            for i, tag in enumerate(said.tags)
        },
    )
    write_thresholds(run, chosen)
    return chosen


def test_in_the_report(tmp_path: Path) -> None:
    best = make_run(tmp_path / "runs/best", "block=se", separation=3)
    make_run(tmp_path / "runs/other", "block=basic", separation=0.5)
    chosen = with_thresholds(best)
    made = make(tmp_path / "runs", tmp_path / "report")
    rows = {row["tag"]: row for row in made.table("decisions")}
    said = read_predictions(best)
    assert said is not None
    assert rows.keys() == set(said.tags)
    for index, (tag, of_tag) in enumerate(chosen.per_tag.items()):
        truth, scores = said.labels[:, index], said.probabilities[:, index]
        assert of_tag.threshold is not None
        assert float(rows[tag]["threshold"]) == pytest.approx(of_tag.threshold, rel=1e-5)
        assert float(rows[tag]["f1"]) == pytest.approx(f1_score(truth, scores >= of_tag.threshold), rel=1e-5)
        assert float(rows[tag]["f1"]) == pytest.approx(float(rows[tag]["f1_validation"]))
        assert float(rows[tag]["calibration_error"]) == pytest.approx(
            calibration_error(truth, scores), rel=1e-5
        )
    assert "Thresholds were chosen on 60 validation clips, for the highest F1 of each tag" in made.text
    error = calibration_error(said.labels, said.probabilities)
    assert f"Expected calibration error {error:.4f}" in made.text
    # A panel per tag, with a mark on each of the two curves.
    (figure,) = re.findall(r'<div class="panels small">(.*?)</figure>', made.page, re.DOTALL)
    panels = figure.split('<svg class="chart"')[1:]
    assert len(panels) == len(said.tags)
    for panel in panels:
        assert panel.count('class="line"') == 2
        assert panel.count('class="mark"') == 2


def test_without_thresholds_it_says_how(tmp_path: Path) -> None:
    make_run(tmp_path / "runs/one", "block=se")
    made = make(tmp_path / "runs", tmp_path / "report")
    assert "It has no thresholds: samplecnn thresholds RUN chooses them" in made.text
    assert "threshold" not in [column.header for _, t in made.report.tables for column in t.columns]
    assert {row["threshold"] for row in made.table("decisions")} == {""}


def test_thresholds_that_are_not_of_the_run_are_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "one", "block=se")
    chosen = with_thresholds(run)
    assert read_run(run).thresholds == chosen
    others = {tag: of_tag for tag, of_tag in chosen.per_tag.items() if tag != "tag 0"}
    for change in ({"split_hash": "ff"}, {"per_tag": others}):
        write_thresholds(run, replace(chosen, **change))
        read = read_run(run)
        assert read.thresholds is None
        assert read.notes == ("thresholds.json is of other tags or of another split: it is not shown",)
    (run / "thresholds.json").write_text("{")
    (note,) = read_run(run).notes
    assert "is not JSON, or damaged" in note
