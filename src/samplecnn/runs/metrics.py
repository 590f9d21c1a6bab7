"""Clip-level scores: probabilities averaged over a clip's segments, then ROC-AUC and PR-AUC per tag."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samplecnn.runs.results import SplitScores, TagScores


class ClipAverage:
    """The mean of segment probabilities over the segments of each clip."""

    def __init__(self, clips: int, tags: int) -> None:
        self._sums = torch.zeros(clips, tags)
        self._counts = torch.zeros(clips)

    def update(self, probabilities: Tensor, clips: Tensor) -> None:
        """Add segments' probabilities ``(batch, tags)``, of the clips with indices ``(batch,)``."""
        self._sums.index_add_(0, clips, probabilities.float())
        self._counts.index_add_(0, clips, torch.ones_like(clips, dtype=self._counts.dtype))

    def compute(self) -> NDArray[np.float32]:
        """Return clip probabilities ``(clips, tags)``; NaN for a clip that had no segment."""
        return (self._sums / self._counts[:, None]).numpy()


def score(tags: tuple[str, ...], labels: NDArray[Any], probabilities: NDArray[Any]) -> SplitScores:
    """Score clip probabilities ``(clips, tags)`` against labels of 0 and 1 of the same shape.

    ROC-AUC and PR-AUC (average precision) are exact, ties included. A tag without positive or without
    negative clips has neither. Raises ValueError for shapes that differ and for probabilities that are not
    finite.
    """
    # Only now: it loads Matplotlib and SciPy.
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision

    if not labels.shape == probabilities.shape == (len(labels), len(tags)):
        raise ValueError(
            f"labels {labels.shape}, probabilities {probabilities.shape} and {len(tags)} tags do not fit"
        )
    if not np.isfinite(probabilities).all():
        clip, tag = np.argwhere(~np.isfinite(probabilities))[0]
        raise ValueError(f"the probability of {tags[tag]!r} for clip number {clip} is not finite")
    targets = torch.from_numpy(np.ascontiguousarray(labels)).long()
    preds = torch.from_numpy(np.ascontiguousarray(probabilities)).double()
    per_tag = {}
    for index, (tag, positives) in enumerate(
        zip(tags, labels.astype(np.int64).sum(axis=0).tolist(), strict=True)
    ):
        defined = 0 < positives < len(labels)
        of_tag = preds[:, index], targets[:, index]
        per_tag[tag] = TagScores(
            roc_auc=binary_auroc(*of_tag).item() if defined else None,
            pr_auc=binary_average_precision(*of_tag).item() if defined else None,
            positives=positives,
        )
    return SplitScores.of(per_tag)


def by_threshold(
    truth: NDArray[np.bool_], scores: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Return what each threshold would do to clips with labels and scores of one tag, ``(clips,)``.

    That is, for each different score from the highest on: the score, how many clips have at least that, and
    how many of these are positive.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of clips with the same score the last
    return ranked[ends], ends + 1, truth[order].cumsum()[ends]
