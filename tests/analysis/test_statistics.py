"""The bootstrap against scikit-learn, draw by draw, and its intervals against simulated truth."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from analysis.made_runs import labels, true_auc
from samplecnn.analysis import statistics
from samplecnn.analysis.comparison import difference_interval
from samplecnn.analysis.statistics import (
    CLIPS,
    PER_TAG,
    RARE,
    Estimate,
    bootstrap,
    resample,
    score_interval,
    weighted_auc,
)
from samplecnn.errors import UserError

Arrays = tuple[NDArray[np.uint8], NDArray[np.float32]]


def scored(clips: int = 80, tags: int = 6, seed: int = 0, *, ties: bool = False) -> Arrays:
    rng = np.random.default_rng(seed)
    truth = labels(clips, tags, seed)
    scores = rng.random(truth.shape) + 0.6 * truth
    return truth, (np.round(scores, 1) if ties else scores).astype(np.float32)


@pytest.mark.parametrize("ties", [False, True])
def test_scores_equal_scikit_learn(ties: bool) -> None:
    truth, said = scored(300, 8, ties=ties)
    sampled = bootstrap(truth, [said], draws=2)
    for tag in range(8):
        roc = roc_auc_score(truth[:, tag], said[:, tag])
        precision = average_precision_score(truth[:, tag], said[:, tag])
        assert sampled.roc_auc.values[0, tag] == pytest.approx(roc, abs=1e-14)
        assert sampled.pr_auc.values[0, tag] == pytest.approx(precision, abs=1e-14)
    assert sampled.roc_auc.macro([0]).value == pytest.approx(roc_auc_score(truth, said, average="macro"))
    np.testing.assert_array_equal(sampled.positives, truth.sum(axis=0))


@pytest.mark.parametrize("ties", [False, True])
def test_each_draw_equals_scikit_learn_on_the_clips_drawn(ties: bool) -> None:
    truth, said = scored(60, 3, ties=ties)
    counts = resample(np.random.default_rng(5), 60, 40)
    np.testing.assert_array_equal(counts.sum(axis=0), 60)
    for tag in range(3):
        ours = weighted_auc(truth[:, tag].astype(bool), said[:, tag], torch.from_numpy(counts))
        for index, taken in enumerate(counts.T):
            drawn = np.repeat(np.arange(60), taken.astype(int))
            sample = truth[drawn, tag], said[drawn, tag]
            if not 0 < sample[0].sum() < 60:
                assert np.isnan(ours[:, index]).all()
                continue
            assert ours[0, index] == pytest.approx(roc_auc_score(*sample), abs=1e-14)
            assert ours[1, index] == pytest.approx(average_precision_score(*sample), abs=1e-14)


def test_constant_scores_and_perfect_ones() -> None:
    truth = np.array([1, 1, 0, 0, 0, 1], bool)
    ones = torch.ones(6, 1)
    np.testing.assert_allclose(weighted_auc(truth, np.zeros(6), ones)[:, 0], [0.5, 0.5])
    np.testing.assert_allclose(weighted_auc(truth, truth.astype(float), ones)[:, 0], [1, 1])
    assert weighted_auc(truth, -truth.astype(float), ones)[0, 0] == 0


def test_a_draw_without_one_kind_of_clips_has_no_auc() -> None:
    truth, scores = np.array([True, True, False]), np.array([0.9, 0.2, 0.5])
    counts = torch.tensor([[1, 0, 2], [1, 0, 1], [1, 3, 0]], dtype=torch.float32)
    np.testing.assert_array_equal(weighted_auc(truth, scores, counts)[:, 1:], np.full((2, 2), np.nan))


def test_a_tag_that_a_draw_leaves_without_positives_keeps_its_score() -> None:
    truth, said = scored(40, 2)
    truth[:, 1] = 0
    truth[7:9, 1] = 1
    sampled = bootstrap(truth, [said], draws=400)
    without = (resample(np.random.default_rng(0), 40, 400)[7:9] == 0).all(axis=0)
    assert 0.08 < without.mean() < 0.2  # (1 - 2/40)^40
    draws = sampled.roc_auc.draws[0, 1]
    np.testing.assert_array_equal(draws[without], sampled.roc_auc.values[0, 1])
    assert (draws[~without] != sampled.roc_auc.values[0, 1]).any()
    assert not np.isnan(sampled.pr_auc.draws).any()


@pytest.mark.parametrize(
    ("positives", "tag", "macro"),
    [
        ([PER_TAG, 30, 30], True, True),
        ([PER_TAG - 1, 30, 30], False, True),
        ([90, 30, 30], True, True),  # ten negative
        ([91, 30, 30], False, True),
        ([30] + [RARE] * 3, True, True),
        ([30] * 9 + [RARE - 1], True, True),
        ([30] * 8 + [RARE - 1], True, False),
        ([30] * 9 + [97], True, True),
        ([30] * 8 + [97], True, False),
        ([30, 30, 0, 100], True, True),  # tags without an AUC do not count
    ],
)
def test_few_clips_make_no_interval(positives: list[int], tag: bool, macro: bool) -> None:
    rng = np.random.default_rng(0)
    truth = np.stack([rng.permutation(100) < number for number in positives], axis=1).astype(np.uint8)
    said = rng.random(truth.shape) + 0.5 * truth
    for kind in (sampled := bootstrap(truth, [said], draws=50)).roc_auc, sampled.pr_auc:
        assert (score_interval(kind.tag([0], 0)) is not None) == tag
        assert (score_interval(kind.macro([0])) is not None) == macro
        assert (difference_interval(kind.macro([0]) - kind.macro([0])) is not None) == macro


@pytest.mark.parametrize("clips", [6, CLIPS - 1, CLIPS])
def test_few_test_clips_make_no_interval_of_the_mean(clips: int) -> None:
    truth = np.zeros((clips, 2), np.uint8)
    truth[: clips // 2] = 1
    said = np.random.default_rng(0).random(truth.shape) + 0.5 * truth
    macro = bootstrap(truth, [said], draws=50).roc_auc.macro([0])
    assert (score_interval(macro) is not None) == (clips == CLIPS)


def test_tags_without_an_auc_are_left_out_of_the_mean() -> None:
    truth, said = scored(60, 4)
    truth[:, 1], truth[:, 2], truth[:2, 3] = 0, 1, (0, 1)
    sampled = bootstrap(truth, [said], draws=5)
    assert np.isnan(sampled.roc_auc.values[0]).tolist() == [False, True, True, False]
    expected = np.mean([roc_auc_score(truth[:, tag], said[:, tag]) for tag in (0, 3)])
    assert sampled.roc_auc.macro([0]).value == pytest.approx(expected)
    nothing = bootstrap(np.zeros_like(truth), [said], draws=5)
    assert math.isnan(nothing.roc_auc.macro([0]).value)
    assert score_interval(nothing.roc_auc.macro([0])) is None


def test_draws_are_a_function_of_the_seed_alone() -> None:
    truth, said = scored()
    one, again, other = (bootstrap(truth, [said], draws=20, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.roc_auc.draws, again.roc_auc.draws)
    assert (one.roc_auc.draws != other.roc_auc.draws).any()
    few, many = (bootstrap(truth, [said], draws=draws).roc_auc.draws for draws in (1000, 1003))
    np.testing.assert_array_equal(few, many[..., :1000])  # whatever a chunk of them holds


def test_a_model_differs_from_itself_by_nothing() -> None:
    truth, said = scored(ties=True)
    sampled = bootstrap(truth, [said, said.copy()], draws=50)
    for kind in (sampled.roc_auc, sampled.pr_auc):
        difference = kind.macro([0]) - kind.macro([1])
        assert difference.value == 0
        assert not difference.draws.any()
        assert difference_interval(difference) == (0, 0)


def test_scores_depend_on_the_order_of_probabilities_alone() -> None:
    truth, said = scored()
    sampled = bootstrap(truth, [said, np.exp(3 * said)], draws=30)
    np.testing.assert_array_equal(sampled.roc_auc.draws[0], sampled.roc_auc.draws[1])
    np.testing.assert_array_equal(sampled.pr_auc.draws[0], sampled.pr_auc.draws[1])


def test_pairing_makes_differences_more_certain() -> None:
    truth, said = scored(200, 5)
    rng = np.random.default_rng(1)
    close = (said + 0.05 * rng.normal(size=said.shape)).astype(np.float32)
    sampled = bootstrap(truth, [said, close], draws=300)
    one, other = (sampled.roc_auc.macro([model]) for model in (0, 1))
    apart = math.hypot(one.standard_error, other.standard_error)
    assert (one - other).standard_error < 0.5 * apart


def test_means_over_models_are_of_the_same_draws() -> None:
    truth, one = scored(seed=1)
    other = scored(seed=2)[1]
    sampled = bootstrap(truth, [one, other], draws=20)
    both = sampled.roc_auc.macro([0, 1])
    alone = [sampled.roc_auc.macro([model]) for model in (0, 1)]
    assert both.value == pytest.approx(np.mean([each.value for each in alone]))
    np.testing.assert_allclose(both.draws, np.mean([each.draws for each in alone], axis=0))


def test_the_interval_of_a_score() -> None:
    draws = 0.9 + 0.02 * np.random.default_rng(0).normal(size=4000)
    low, high = score_interval(Estimate(0.9, draws)) or (0, 0)
    assert 0.85 < low < 0.9 < high < 0.94
    assert 0.9 - low > high - 0.9  # longer away from 1
    near = score_interval(Estimate(0.999, np.clip(draws + 0.09, 0, 1)))  # its corrected value is above 1
    assert near is not None
    assert 0 < near[0] <= 0.999 < near[1] <= 1
    biased = score_interval(Estimate(0.9, draws + 0.08))
    assert biased is not None
    assert biased[1] == 0.9  # below it altogether: stretched to hold the score
    assert score_interval(Estimate(1.0, np.ones(10))) is None
    assert score_interval(Estimate(0.0, np.zeros(10))) is None


def test_impossible_input() -> None:
    truth, said = scored()
    with pytest.raises(ValueError, match=r"labels \(80, 6\) and probabilities \(79, 6\) do not fit"):
        bootstrap(truth, [said[:-1]])
    with pytest.raises(ValueError, match="do not fit"):
        bootstrap(truth[:, 0], [said[:, 0]])
    with pytest.raises(ValueError, match="1 draws: at least 2"):
        bootstrap(truth, [said], draws=1)
    most = "1,000,000,000,000 draws of 2 runs with 6 tags are 192,000 GB: at most 10,416,666 are taken"
    with pytest.raises(UserError, match=most):
        bootstrap(truth, [said, said], draws=10**12)
    with pytest.raises(ValueError, match="not finite"):
        bootstrap(truth, [np.where(truth, np.nan, said)])


def true_average_precision(separation: float, share: float) -> float:
    """Return the average precision of endless clips of which a share is positive: a sum over thresholds."""
    thresholds = np.linspace(-6, 8, 2001)
    hits, false_alarms = stats.norm.sf(thresholds - separation), stats.norm.sf(thresholds)
    precision = share * hits / (share * hits + (1 - share) * false_alarms)
    return float(((precision[1:] + precision[:-1]) / 2 * -np.diff(hits)).sum())


def covered(
    clips: int, tags: int, shares: tuple[float, float], separations: tuple[float, float], simulations: int
) -> dict[str, float]:
    """Simulate test splits and two models; return how often the intervals hold what is true.

    Scores of a clip share noise over tags, and over models. A tag without positive clips is not in the truth
    either. Splits that have too few clips for an interval are not counted; "reported" is the share of others.
    """
    rng = np.random.default_rng(clips)
    spread = np.linspace(-0.8, 0.8, tags)
    found: dict[str, list[bool]] = {key: [] for key in ("roc", "pr", "difference", "tag", "half", "reported")}

    def check(kind: str, interval: tuple[float, float] | None, true: float) -> None:
        if interval is not None:
            found[kind].append(interval[0] <= true <= interval[1])

    for simulation in range(simulations):
        truth = labels(clips, tags, simulation, shares)
        having = (truth.sum(axis=0) > 0) & (truth.sum(axis=0) < clips)
        shared = np.sqrt(0.2) * rng.normal(size=(clips, 1)) + np.sqrt(0.5) * rng.normal(size=truth.shape)
        said = [
            (separation + spread) * truth + shared + np.sqrt(0.3) * rng.normal(size=truth.shape)
            for separation in separations
        ]
        true = [[true_auc(s) for s in separation + spread] for separation in separations]
        sampled = bootstrap(truth, said, draws=500, seed=simulation)
        one, other = (sampled.roc_auc.macro([model]) for model in (0, 1))
        means = [float(np.array(of_model)[having].mean()) for of_model in true]
        found["reported"].append(one.enough)
        check("roc", score_interval(one), means[0])
        check("half", score_interval(Estimate(one.value, (one.value + one.draws) / 2, one.enough)), means[0])
        check("difference", difference_interval(one - other), means[0] - means[1])
        precisions = map(true_average_precision, separations[0] + spread, np.geomspace(*shares, tags))
        check("pr", score_interval(sampled.pr_auc.macro([0])), float(np.array([*precisions])[having].mean()))
        for tag in range(tags):
            check("tag", score_interval(sampled.roc_auc.tag([0], tag)), true[0][tag])
    return {kind: float(np.mean(held)) if held else math.nan for kind, held in found.items()}


# Clips, tags, shares of the clips that have the most and the least frequent tag, separations of two models.
# The first is like the built-in set; the last but one has tags just frequent enough.
SETS = [
    (57, 16, (0.4, 0.12), (2.4, 2.3)),
    (50, 10, (0.4, 0.2), (1.2, 1.0)),
    (100, 20, (0.3, 0.1), (2.0, 1.9)),
    (400, 20, (0.4, 0.02), (2.0, 1.9)),
    (1000, 50, (0.3, 0.02), (2.0, 1.9)),
]


def test_intervals_cover_what_is_true() -> None:
    """A glance at what the slow test looks at closely: 100 simulations have a standard error of 2.2 %."""
    shares = covered(57, 8, (0.4, 0.15), (2.4, 2.3), simulations=100)
    assert 0.88 <= shares["roc"] <= 0.99
    assert 0.88 <= shares["difference"] <= 0.99
    assert shares["half"] < 0.8  # intervals that are too short are seen


@pytest.mark.slow
@pytest.mark.parametrize(("clips", "tags", "shares", "separations"), SETS)
def test_95_percent_intervals_cover_about_95_percent(
    clips: int, tags: int, shares: tuple[float, float], separations: tuple[float, float]
) -> None:
    found = covered(clips, tags, shares, separations, simulations=400)
    assert found["reported"] > 0.5
    for kind in ("roc", "difference", "tag"):
        assert 0.91 <= found[kind] <= 0.97, kind
    assert 0.88 <= found["pr"] <= 0.97
    assert found["half"] < 0.8


@pytest.mark.slow
def test_where_no_interval_is_given_it_would_be_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why there are limits: with many tags of a few clips the same intervals miss the truth more often."""
    found = covered(57, 16, (0.3, 0.03), (0.7, 0.9), simulations=300)
    assert found["reported"] < 0.02
    monkeypatch.setattr(statistics, "RARE_SHARE", 1.0)
    found = covered(57, 16, (0.3, 0.03), (0.7, 0.9), simulations=300)
    assert found["roc"] < 0.92
    assert found["pr"] < 0.7
