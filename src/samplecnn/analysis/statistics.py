"""How far a score can be trusted: the bootstrap over test clips.

A draw takes as many clips as the test split has, with replacement. It is the same draw for all tags and all
models, so that a clip's tags stay together and differences between models are paired: whatever makes a draw
hard is hard for both, and a model differs from itself by exactly 0.

The interval of a score is the bootstrap's normal interval on the logit scale, less the bootstrap's bias
(Davison and Hinkley 1997, section 5.2; Pepe 2003 for the logit). That of a difference is made of percentiles
of the draws (`comparison`). Draws of a handful of clips hardly vary, and intervals would be too short: with
fewer clips than `CLIPS` and `PER_TAG` there are none. tests/analysis/test_statistics.py measures how often
intervals hold the true value.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag
from tqdm import tqdm

from samplecnn.errors import UserError
from samplecnn.runs.errors import RunError
from samplecnn.runs.predictions import belong_to, read_predictions
from samplecnn.runs.results import Interval, Results, SplitScores, TagScores, read_results
from samplecnn.text import counted

LEVEL = 0.95
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)
CHUNK = 1000  # draws at a time: bounds the memory that scoring them takes
MEMORY = 2 * 10**9  # bytes that the scores of all draws may take; their means take as much again
# What an interval needs. A single tag: so many positive, and so many negative, test clips.
PER_TAG = 10
# A mean over tags: so many test clips, and at most a tenth of the tags with fewer than RARE of either.
CLIPS, RARE, RARE_SHARE = 50, 5, 0.1

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A score of the test split, or a difference of two, and the same of every draw."""

    value: float
    draws: Floats  # (draws,)
    enough: bool = True  # clips for an interval

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Return the paired difference: draw by draw."""
        return Estimate(self.value - other.value, self.draws - other.draws, self.enough and other.enough)

    @property
    def standard_error(self) -> float:
        """Standard deviation over draws."""
        return float(self.draws.std(ddof=1))


@dataclass(frozen=True)
class Resampled:
    """One kind of AUC of several models; NaN for a tag that has none."""

    values: Floats  # (models, tags)
    draws: Floats  # (models, tags, draws)
    scarcer: NDArray[np.int64]  # (tags,): the lesser of positive and negative clips
    clips: int

    def tag(self, models: Sequence[int], tag: int) -> Estimate:
        """Return the mean over ``models`` of a tag's AUC."""
        index = list(models)
        draws = self.draws[index, tag].mean(axis=0)
        return Estimate(float(self.values[index, tag].mean()), draws, bool(self.scarcer[tag] >= PER_TAG))

    def macro(self, models: Sequence[int]) -> Estimate:
        """Return the mean over ``models``, and over the tags that have an AUC; NaN if none has."""
        index, defined = list(models), self.scarcer > 0
        if not defined.any():
            return Estimate(math.nan, np.full(self.draws.shape[2], math.nan), enough=False)
        value = float(self.values[index][:, defined].mean())
        return Estimate(value, self.draws[index][:, defined].mean(axis=(0, 1)), self.enough)

    @property
    def enough(self) -> bool:
        """Whether there are enough clips, and few enough rare tags, for an interval of the mean over tags."""
        counts = self.scarcer[self.scarcer > 0]
        return self.clips >= CLIPS and bool((counts < RARE).mean() <= RARE_SHARE)


@dataclass(frozen=True)
class Bootstrap:
    """ROC-AUC and PR-AUC (average precision) of several models under the same draws."""

    positives: NDArray[np.int64]  # (tags,), clips
    roc_auc: Resampled
    pr_auc: Resampled


def bootstrap(
    labels: NDArray[Any],
    probabilities: Sequence[NDArray[Any]],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Bootstrap:
    """Resample the clips and score all models under each draw; on a terminal, a bar shows how far that is.

    ``labels`` is (clips, tags) of 0 and 1, ``probabilities`` one such array per model. A tag without positive
    or without negative clips has no AUC; where this happens in a draw only, the tag keeps its AUC of the
    whole split there. Raises UserError for fewer than two draws, and for more than `MEMORY` has room for,
    ValueError for shapes that do not fit and probabilities that are not finite.
    """
    _check(labels, probabilities, draws)
    clips, tags = labels.shape
    truth = labels.astype(bool)
    positives = truth.sum(axis=0)
    scarcer = np.minimum(positives, clips - positives)
    shape = (2, len(probabilities), tags)
    values, drawn = np.full(shape, np.nan), np.full((*shape, draws), np.nan)
    rng = np.random.default_rng(seed)
    steps = len(probabilities) * -(-draws // CHUNK)
    with tqdm(total=steps, desc="bootstrap", leave=False, delay=1, disable=None) as bar:
        for start in range(0, draws, CHUNK):
            part = slice(start, min(start + CHUNK, draws))
            once = np.ones((clips, 1), np.float32)  # the test split itself, in front of its draws
            counts = torch.from_numpy(np.hstack([once, resample(rng, clips, part.stop - part.start)]))
            for model, scores in enumerate(probabilities):
                for tag in np.flatnonzero(scarcer > 0):
                    found = weighted_auc(truth[:, tag], scores[:, tag], counts)
                    values[:, model, tag] = found[:, 0]
                    drawn[:, model, tag, part] = np.where(np.isnan(found), found[:, :1], found)[:, 1:]
                bar.update()
    roc, pr = (Resampled(values[kind], drawn[kind], scarcer, clips) for kind in range(2))
    return Bootstrap(positives, roc, pr)


def _check(labels: NDArray[Any], probabilities: Sequence[NDArray[Any]], draws: int) -> None:
    if draws < 2:
        raise UserError(f"{draws} draws: at least 2 are needed; the report takes 1000")
    models, tags = len(probabilities), labels.shape[-1]
    of_one = 2 * 8 * models * tags  # both kinds of AUC, in double precision
    if draws * of_one > MEMORY:
        raise UserError(
            f"{draws:,} draws of {counted(models, 'run')} with {counted(tags, 'tag')} are "
            f"{draws * of_one / 1e9:,.0f} GB: at most {MEMORY // of_one:,} are taken; the report takes 1000"
        )
    for scores in probabilities:
        if labels.ndim != 2 or scores.shape != labels.shape:
            raise ValueError(f"labels {labels.shape} and probabilities {scores.shape} do not fit")
        if not np.isfinite(scores).all():
            raise ValueError("a probability is not finite")


def resample(rng: np.random.Generator, clips: int, draws: int) -> NDArray[np.float32]:
    """Return how often each draw takes each clip, ``(clips, draws)``: whole numbers, exact in float32."""
    taken = [np.bincount(rng.integers(0, clips, clips), minlength=clips) for _ in range(draws)]
    return np.stack(taken, axis=1).astype(np.float32)


def weighted_auc(truth: NDArray[np.bool_], scores: NDArray[Any], counts: Tensor) -> Floats:
    """Return ROC-AUC and average precision of one tag under each draw, ``(2, draws)``.

    ``truth`` and ``scores`` are (clips,), ``counts`` (clips, draws) as of `resample`. Exact, ties included;
    NaN where a draw has no positive or no negative clip. Clips are sorted once. Only scores that a positive
    clip has matter: the counts of clips between them are added up for all draws at once.
    """
    if truth.all() or not truth.any():
        return np.full((2, counts.shape[1]), np.nan)
    order = np.argsort(-scores, kind="stable")
    positive, negative = order[truth[order]], order[~truth[order]]
    steps, first = np.unique(-scores[positive], return_index=True)
    above = np.searchsorted(-scores[negative], steps, "left")  # negatives with a higher score
    tied = np.searchsorted(-scores[negative], steps, "right")  # and those with the same
    bins = np.concatenate([[0], np.stack([above, tied], axis=1).ravel()])
    hits = _sums(positive, first, counts)  # (steps, draws)
    misses = _sums(negative, bins, counts).cumsum(dim=0)  # (2 steps + 1, draws)
    higher, until, negatives = misses[0:-1:2], misses[1::2], misses[-1]
    found = hits.cumsum(dim=0)
    hits, positives = hits.double(), found[-1].double()
    # No positive among the first steps of a draw: 0 of 0 is no precision, and weighs nothing.
    precision = found.double().div_((found + until).clamp_(min=1))
    beaten = (negatives - (higher + until) / 2).double()  # a tie is half a success
    roc = (hits * beaten).sum(dim=0) / (positives * negatives)
    average_precision = (hits * precision).sum(dim=0) / positives
    average_precision[negatives == 0] = math.nan
    return torch.stack([roc, average_precision]).numpy()


def _sums(clips: NDArray[np.int64], starts: NDArray[np.int64], counts: Tensor) -> Tensor:
    """Add up the counts of ``clips`` from each start to the next, ``(starts, draws)``.

    Whole numbers, and halves of them, are exact in float32 up to eight million clips.
    """
    return embedding_bag(torch.from_numpy(clips), counts, torch.from_numpy(starts), mode="sum")


def score_interval(estimate: Estimate) -> Interval | None:
    """Return the 95 % interval of an AUC, inside 0 and 1 and with the AUC in it.

    None where there are too few clips, and for an AUC of exactly 0 or 1, from which no draw departs.
    """
    value = estimate.value
    if not estimate.enough or not 0 < value < 1:
        return None
    slope = 1 / (value * (1 - value))  # of the logit
    centre = math.log(value / (1 - value)) - slope * (float(estimate.draws.mean()) - value)
    half = slope * Z * estimate.standard_error
    low, high = (0.5 + 0.5 * math.tanh(end / 2) for end in (centre - half, centre + half))
    return min(low, value), max(high, value)


def split_scores(drawn: Bootstrap, tags: Sequence[str], models: Sequence[int]) -> SplitScores:
    """Return the mean scores of some models, with their intervals where there are clips enough."""
    per_tag = {}
    for index, (tag, positives) in enumerate(zip(tags, drawn.positives.tolist(), strict=True)):
        roc, pr = drawn.roc_auc.tag(models, index), drawn.pr_auc.tag(models, index)
        per_tag[tag] = TagScores(
            roc_auc=None if math.isnan(roc.value) else roc.value,
            pr_auc=None if math.isnan(pr.value) else pr.value,
            positives=positives,
            roc_auc_interval=score_interval(roc),
            pr_auc_interval=score_interval(pr),
        )
    return SplitScores.of(
        per_tag,
        roc_auc_interval=score_interval(drawn.roc_auc.macro(models)),
        pr_auc_interval=score_interval(drawn.pr_auc.macro(models)),
    )


def results_with_intervals(run: Path, *, draws: int) -> Results:
    """Return the results of a finished run, with 95 % intervals where its predictions are there.

    Raises RunError for a run that has not finished, and for results and predictions of different runs.
    """
    results, predictions = read_results(run), read_predictions(run)
    if predictions is None:
        return results
    if not belong_to(predictions, results.test):
        raise RunError(f"{run}: predictions.npz and results.json are of different runs: tags or AUC differ")
    drawn = bootstrap(predictions.labels, [predictions.probabilities], draws=draws)
    test = replace(split_scores(drawn, predictions.tags, [0]), loss=results.test.loss)
    made = f"95 % intervals, from {draws:,} draws of the test clips (bootstrap)"
    return replace(results, test=test, interval=made)
