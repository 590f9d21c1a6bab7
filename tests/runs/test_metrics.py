"""Clip averages against a plain loop, AUCs against scikit-learn."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from samplecnn.runs.metrics import ClipAverage, score

TAGS = ("guitar", "piano", "drums", "slow", "loud")


@pytest.mark.parametrize("clips", [2, 7, 100, 4332])
@pytest.mark.parametrize("levels", [None, 2, 10], ids=["distinct", "two-values", "ten-values"])
def test_equal_to_scikit_learn(clips: int, levels: int | None) -> None:
    rng = np.random.default_rng(clips)
    for _ in range(5):
        labels = (rng.random((clips, 5)) < [0.5, 0.1, 0.02, 0.9, 0.3]).astype(np.uint8)
        probabilities = rng.random((clips, 5)).astype(np.float32) * 0.7 + 0.3 * labels * rng.random(
            (clips, 5)
        )
        if levels:
            probabilities = np.round(probabilities * levels) / levels
        scores = score(TAGS, labels, probabilities.astype(np.float32))
        defined = []
        for i, positives in enumerate(labels.sum(axis=0)):
            of_tag = scores.per_tag[TAGS[i]]
            assert of_tag.positives == positives
            if positives in (0, clips):
                assert of_tag.roc_auc is None
                assert of_tag.pr_auc is None
                assert TAGS[i] in scores.undefined
                continue
            defined.append((of_tag.roc_auc, of_tag.pr_auc))
            truth, guess = labels[:, i], probabilities[:, i].astype(np.float32)
            assert of_tag.roc_auc == pytest.approx(roc_auc_score(truth, guess), abs=1e-6)
            assert of_tag.pr_auc == pytest.approx(average_precision_score(truth, guess), abs=1e-6)
        if defined:
            assert (scores.roc_auc, scores.pr_auc) == pytest.approx(
                tuple(np.array(defined, float).mean(axis=0))
            )


def test_undefined_tags_are_left_out_not_counted_as_zero() -> None:
    labels = np.array([[1, 0, 1], [0, 0, 1]])
    scores = score(("a", "none", "all"), labels, np.array([[0.9, 0.5, 0.1], [0.1, 0.5, 0.2]]))
    assert scores.roc_auc == 1.0
    assert scores.undefined == ("none", "all")
    told = json.loads(json.dumps(scores.as_dict(), allow_nan=False))
    assert told["per_tag"]["none"] == {"roc_auc": None, "pr_auc": None, "positives": 0}
    assert told["roc_auc"] == 1.0


def test_no_defined_tag_at_all() -> None:
    scores = score(("a",), np.zeros((3, 1)), np.ones((3, 1)))
    assert scores.roc_auc is None
    assert scores.as_dict()["roc_auc"] is None


def test_clip_average_is_the_mean_over_the_clip_s_segments() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(60, 4, generator=generator)
    clips = torch.randint(0, 9, (60,), generator=generator)
    average = ClipAverage(9, 4)
    for start in range(0, 60, 7):  # batches cut through clips
        average.update(probabilities[start : start + 7], clips[start : start + 7])
    expected = [probabilities[clips == clip].mean(dim=0).numpy() for clip in range(9)]
    np.testing.assert_allclose(average.compute(), expected, rtol=1e-6)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"do not fit"):
        score(("a", "b"), np.zeros((3, 2)), np.zeros((3, 1)))
    with pytest.raises(ValueError, match=r"'b' for clip number 2 is not finite"):
        score(("a", "b"), np.zeros((3, 2)), np.array([[0, 0], [0, 0], [0, np.nan]]))
