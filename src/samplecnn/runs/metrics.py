"""Clip-level scores: probabilities averaged over a clip's segments, then ROC-AUC and PR-AUC per tag."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_average_precision


class ClipAverage:
    """The mean of segment probabilities over the segments of each clip."""

    def __init__(self, clips: int, tags: int, device: torch.device | str = "cpu") -> None:
        self._sums = torch.zeros(clips, tags, device=device)
        self._counts = torch.zeros(clips, device=device)

    def update(self, probabilities: Tensor, clips: Tensor) -> None:
        """Add segments' probabilities ``(batch, tags)``, of the clips with indices ``(batch,)``."""
        self._sums.index_add_(0, clips, probabilities.float())
        self._counts.index_add_(0, clips, torch.ones_like(clips, dtype=self._counts.dtype))

    def compute(self) -> NDArray[np.float32]:
        """Return clip probabilities ``(clips, tags)``; NaN for a clip that had no segment."""
        return (self._sums / self._counts[:, None]).cpu().numpy()


@dataclass(frozen=True)
class Scores:
    """ROC-AUC and PR-AUC of every tag, NaN where undefined, with the number of positive clips."""

    tags: tuple[str, ...]
    roc_auc: NDArray[np.float64]  # (tags,)
    pr_auc: NDArray[np.float64]  # (tags,), average precision
    positives: NDArray[np.int64]  # (tags,)

    @property
    def macro_roc_auc(self) -> float:
        """The mean over the tags for which it is defined; NaN if there is none."""
        return _mean(self.roc_auc)

    @property
    def macro_pr_auc(self) -> float:
        """The mean over the tags for which it is defined; NaN if there is none."""
        return _mean(self.pr_auc)

    @property
    def undefined(self) -> tuple[str, ...]:
        """Tags without positive or without negative clips, which the means leave out."""
        return tuple(tag for tag, auc in zip(self.tags, self.roc_auc, strict=True) if math.isnan(auc))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; undefined scores are None."""
        return {
            "roc_auc": _plain(self.macro_roc_auc),
            "pr_auc": _plain(self.macro_pr_auc),
            "undefined": list(self.undefined),
            "per_tag": {
                tag: {
                    "roc_auc": _plain(self.roc_auc[i]),
                    "pr_auc": _plain(self.pr_auc[i]),
                    "positives": int(self.positives[i]),
                }
                for i, tag in enumerate(self.tags)
            },
        }


def score(tags: tuple[str, ...], labels: NDArray[Any], probabilities: NDArray[Any]) -> Scores:
    """Score clip probabilities ``(clips, tags)`` against labels of 0 and 1 of the same shape.

    ROC-AUC and PR-AUC (average precision) are exact, ties included. A tag without positive or without
    negative clips has neither. Raises ValueError for shapes that differ and for probabilities that are not
    finite.
    """
    if not labels.shape == probabilities.shape == (len(labels), len(tags)):
        raise ValueError(
            f"labels {labels.shape}, probabilities {probabilities.shape} and {len(tags)} tags do not fit"
        )
    if not np.isfinite(probabilities).all():
        clip, tag = np.argwhere(~np.isfinite(probabilities))[0]
        raise ValueError(f"the probability of {tags[tag]!r} for clip number {clip} is not finite")
    targets = torch.from_numpy(np.ascontiguousarray(labels)).long()
    preds = torch.from_numpy(np.ascontiguousarray(probabilities)).double()
    positives = labels.astype(np.int64).sum(axis=0)
    roc = np.full(len(tags), np.nan)
    pr = np.full(len(tags), np.nan)
    for i in np.flatnonzero((positives > 0) & (positives < len(labels))):
        roc[i] = binary_auroc(preds[:, i], targets[:, i]).item()
        pr[i] = binary_average_precision(preds[:, i], targets[:, i]).item()
    return Scores(tags, roc, pr, positives)


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
