"""How far a score can be trusted: bootstrap over test clips, paired differences, spread over seeds.

A draw takes as many clips as the test split has, with replacement. It is the same draw for all tags and all
models, so that a clip's tags stay together and differences between models are paired: whatever makes a draw
hard is hard for both, and a model differs from itself by exactly 0.

The interval of a score is made of the standard error over draws, corrected for small sets (`bootstrap`), on
the logit scale and around the value less its bootstrap bias (Efron and Tibshirani 1993, chapter 10; Pepe 2003
for the logit): percentiles are too short near 1. How many of these errors it reaches is Student's t, because
rare tags tell little of them (`_freedom`). Differences do not end anywhere near, and percentiles serve
(`comparisons`). Both cover 93 to 97 % of true values from 30 clips on (tests/analysis/test_statistics.py);
in simulations where many tags have one or two positive clips, 91 to 98 %.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

LEVEL = 0.95
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)
# Upper quantile of a two-sided 95 % interval: Student's t with 1 to 30 degrees of freedom.
T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
CHUNK = 1000  # draws at a time: bounds the memory
FEW_POSITIVES = 5  # below, a tag's own AUC says next to nothing

Floats = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A score of the test split, or a difference of two, and the same of every draw."""

    value: float
    draws: Floats  # (draws,)
    freedom: float = math.inf  # degrees of freedom behind the standard deviation of the draws

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Return the paired difference: draw by draw."""
        return Estimate(self.value - other.value, self.draws - other.draws)

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

    def tag(self, models: Sequence[int], tag: int) -> Estimate:
        """Return the mean over ``models`` of a tag's AUC."""
        index = list(models)
        return Estimate(float(self.values[index, tag].mean()), self.draws[index, tag].mean(axis=0))

    def macro(self, models: Sequence[int]) -> Estimate:
        """Return the mean over ``models``, and over the tags that have an AUC; NaN if none has."""
        index, defined = list(models), ~np.isnan(self.values).any(axis=0)
        if not defined.any():
            return Estimate(math.nan, np.full(self.draws.shape[2], math.nan))
        value = float(self.values[index][:, defined].mean())
        draws = self.draws[index][:, defined].mean(axis=0)  # (tags, draws)
        return Estimate(value, draws.mean(axis=0), _freedom(draws, self.scarcer[defined]))


def _freedom(draws: Floats, scarcer: NDArray[np.int64]) -> float:
    """Return the degrees of freedom of the mean over tags of ``draws`` (tags, draws).

    The variance of a tag with m positive clips is known from these m alone. Welch and Satterthwaite: the
    variance of the mean squared, over the sum of the tags' shares squared, each by its m - 1. With tags that
    vary together, the whole is more than the sum of the shares, and better known. A variance that a tag has
    from others (`_lend`) is known from all of these, and counts as certain.
    """
    shares = draws.var(axis=1, ddof=1) / len(draws) ** 2
    unknown = float((shares**2 / np.where(scarcer > 1, scarcer - 1, np.inf)).sum())
    whole = float(draws.mean(axis=0).var(ddof=1))
    return max(whole**2 / unknown, 1.0) if unknown > 0 else math.inf


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
    progress: Callable[[], None] = lambda: None,
) -> Bootstrap:
    """Resample the clips and score all models under each draw.

    ``labels`` is (clips, tags) of 0 and 1, ``probabilities`` one such array per model; ``progress`` is called
    after each model and thousand draws. A tag without positive or without negative clips has no AUC; where
    this happens in a draw only, the tag keeps its AUC of the whole split there. Deviations of the draws are
    made as large as those of another sample with as many positive clips (`_stretch`); with one of them, they
    are those of other tags (`_lend`). Raises ValueError for fewer than two draws, shapes that do not fit, and
    probabilities that are not finite.
    """
    _check(labels, probabilities, draws)
    clips, tags = labels.shape
    truth = labels.astype(bool)
    positives = truth.sum(axis=0)
    scarcer = np.minimum(positives, clips - positives)
    shape = (2, len(probabilities), tags)
    values, drawn = np.full(shape, np.nan), np.full((*shape, draws), np.nan)
    rng = np.random.default_rng(seed)
    for start in range(0, draws, CHUNK):
        part = slice(start, min(start + CHUNK, draws))
        once = np.ones((clips, 1), np.float32)  # the test split itself, in front of its draws
        counts = torch.from_numpy(np.hstack([once, resample(rng, clips, part.stop - part.start)]))
        for model, scores in enumerate(probabilities):
            for tag in np.flatnonzero((positives > 0) & (positives < clips)):
                found = weighted_auc(truth[:, tag], scores[:, tag], counts)
                values[:, model, tag] = found[:, 0]
                drawn[:, model, tag, part] = np.where(np.isnan(found), found[:, :1], found)[:, 1:]
            progress()
    deviations = drawn - values[..., None]
    deviations *= np.array([_stretch(number, clips) for number in scarcer.tolist()])[:, None]
    _lend(deviations, positives, clips, rng)
    drawn = values[..., None] + deviations
    roc, pr = (Resampled(values[kind], drawn[kind], scarcer) for kind in range(2))
    return Bootstrap(positives, roc, pr)


def _stretch(number: int, clips: int) -> float:
    """Return how much more another sample varies than draws do, of a tag with so many positive clips.

    (Or negative ones, if they are fewer.) With s the standard deviation of where a positive clip ranks, and m
    of them, the AUC varies by s^2 / m. A draw has K of the m, binomially distributed, varies around them by
    s^2 (m - 1) / m / K, and not at all where K is 0 and the tag keeps its AUC.
    """
    if number < 2:
        return 1.0
    share, k = number / clips, np.arange(1, clips + 1)
    ways = np.cumsum(np.log((clips - k + 1) / k))
    chance = np.exp(ways + k * math.log(share) + (clips - k) * math.log1p(-share))
    return 1 / math.sqrt((number - 1) * float((chance / k).sum()))


def _lend(deviations: Floats, positives: NDArray[np.int64], clips: int, rng: np.random.Generator) -> None:
    """Give tags with a single positive (or negative) clip the deviations of other tags, in place.

    ``deviations`` are (kinds, models, tags, draws). Draws of one clip are all the same clip, and show nothing
    of where another would rank. Each draw of such a tag takes the deviation of a tag chosen at random, in a
    draw chosen at random, and enlarges it: with m positive and n negative clips an AUC's variance is about
    proportional to 1/m + 1/n. The choice is the same for all models, so that they stay paired.
    """
    scarcer = np.minimum(positives, clips - positives)
    information = positives * (clips - positives) / clips
    lenders = np.flatnonzero(scarcer > 1)
    draws = deviations.shape[-1]
    for tag in np.flatnonzero(scarcer == 1) if lenders.size else ():
        lender, draw = rng.choice(lenders, draws), rng.integers(0, draws, draws)
        larger = np.sqrt(information[lender] / information[tag])
        deviations[..., tag, :] = larger * deviations[..., lender, draw]


def _check(labels: NDArray[Any], probabilities: Sequence[NDArray[Any]], draws: int) -> None:
    if draws < 2:
        raise ValueError(f"{draws} draws: at least 2 are needed, 1000 are usual")
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


def student(freedom: float) -> float:
    """Return how many standard errors a 95 % interval reaches with so many (1 or more) degrees of freedom."""
    return T[int(freedom) - 1] if freedom < len(T) + 1 else Z + 2.42 / freedom


def score_interval(estimate: Estimate) -> Interval | None:
    """Return the 95 % interval of an AUC: always inside 0 and 1, and with the AUC in it, however biased.

    None where no interval can be told: an AUC of exactly 0 or 1, from which no draw departs.
    """
    value = estimate.value
    if not 0 < value < 1:
        return None
    slope = 1 / (value * (1 - value))  # of the logit
    centre = math.log(value / (1 - value)) - slope * (float(estimate.draws.mean()) - value)
    reach = slope * student(estimate.freedom) * estimate.standard_error
    low, high = (0.5 + 0.5 * math.tanh(end / 2) for end in (centre - reach, centre + reach))
    return min(low, value), max(high, value)
