"""A run's ``predictions.npz``: what it said of each test clip; untrusted input."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samplecnn.files import writing
from samplecnn.runs.errors import RunError
from samplecnn.runs.metrics import score
from samplecnn.runs.results import SplitScores
from samplecnn.runs.untrusted import read_arrays

FILE = "predictions.npz"
# results.json was computed from the same numbers, by PyTorch on perhaps another machine.
TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Predictions:
    """Labels and probabilities of the test split; as read, in the order of the clips' ids."""

    clip_ids: tuple[str, ...]
    tags: tuple[str, ...]
    labels: NDArray[np.uint8]  # (clips, tags)
    probabilities: NDArray[np.float32]  # (clips, tags)


def read_predictions(run: Path) -> Predictions | None:
    """Return the predictions of a run folder, None if it has none; RunError for a file that is damaged."""
    path = run / FILE
    if not path.is_file():
        return None
    try:
        return _checked(read_arrays(path))
    except Exception as error:  # a damaged archive raises whatever its layers do
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise RunError(f"{FILE} cannot be read: {reason}") from error


def _checked(arrays: dict[str, NDArray[Any]]) -> Predictions:
    for key in ("clip_ids", "tags"):
        array = arrays[key]
        if array.dtype.kind != "U" or array.ndim != 1 or len(np.unique(array)) != len(array):
            raise ValueError(f"{key} is not a list of different names")
    shape = (len(arrays["clip_ids"]), len(arrays["tags"]))
    labels, probabilities = arrays["labels"], arrays["probabilities"]
    if labels.shape != shape or labels.dtype.kind not in "bui" or not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels are not zeros and ones for {shape[0]} clips and {shape[1]} tags")
    if probabilities.shape != shape or probabilities.dtype.kind != "f":
        raise ValueError(f"probabilities are not numbers for {shape[0]} clips and {shape[1]} tags")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("a probability is not between 0 and 1")
    order = np.argsort(arrays["clip_ids"])  # so that all draws of a bootstrap are of the same clips
    return Predictions(
        tuple(map(str, arrays["clip_ids"][order])),
        tuple(map(str, arrays["tags"])),
        labels[order].astype(np.uint8),
        probabilities[order].astype(np.float32),
    )


def write_predictions(run: Path, predictions: Predictions) -> None:
    """Write predictions into a run folder."""
    with writing(run / FILE) as file:
        np.savez_compressed(
            file,
            clip_ids=np.array(predictions.clip_ids),
            tags=np.array(predictions.tags),
            labels=predictions.labels,
            probabilities=predictions.probabilities,
        )


def belong_to(predictions: Predictions, test: SplitScores) -> bool:
    """Say whether the results of the test are those of the predictions."""
    ours = score(predictions.tags, predictions.labels, predictions.probabilities)
    means = (ours.roc_auc, test.roc_auc), (ours.pr_auc, test.pr_auc)
    return tuple(ours.per_tag) == tuple(test.per_tag) and all(
        one is other if one is None or other is None else abs(one - other) <= TOLERANCE
        for one, other in means
    )
