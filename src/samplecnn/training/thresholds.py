"""Thresholds of a run's tags, chosen on its validation part: the test part has no say in them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samplecnn.runs.bundle import WEIGHTS
from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import find_checkpoint
from samplecnn.runs.metrics import by_threshold
from samplecnn.runs.thresholds import TagThreshold, Thresholds
from samplecnn.runs.weights import file_sha256
from samplecnn.training.evaluate import open_subject


def choose_thresholds(run: Path, *, precision: float | None = None, **opening: Any) -> Thresholds:
    """Return thresholds for the best weights of a run, by what they say of its validation clips.

    ``precision`` is the one that is wanted of each tag, None the highest F1; ``opening`` are further
    arguments of `samplecnn.training.evaluate.open_subject`. Raises RunError as that does, and for a bundle,
    which gets its thresholds from the run that it is exported from.
    """
    if find_checkpoint(run).name == WEIGHTS:
        raise RunError(f"{run} is a bundle: choose thresholds in its run, and export that again")
    subject = open_subject(run, **opening)
    selection, valid = subject.data.selection, subject.data.parts["valid"]
    said = subject.clip_means("valid")
    return Thresholds(
        wanted_precision=precision,
        split=selection.split,
        split_hash=selection.split_hash,
        clips=len(valid.clip_ids),
        checkpoint=file_sha256(subject.file),
        per_tag={
            tag: best_threshold(valid.labels[:, index].astype(bool), said[:, index], precision)
            for index, tag in enumerate(selection.tags)
        },
    )


def best_threshold(
    truth: NDArray[np.bool_], scores: NDArray[Any], precision: float | None = None
) -> TagThreshold:
    """Return the threshold of one tag with the highest F1 over clips with labels and scores ``(clips,)``.

    With ``precision`` that with the highest recall among those of at least this precision. Of equals the
    highest; none where there is no such threshold.
    """
    positives = int(truth.sum())
    thresholds, given, hits = by_threshold(truth, scores)
    precisions, recalls = hits / given, hits / max(1, positives)
    f1 = 2 * hits / (given + positives)
    good = hits > 0 if precision is None else (hits > 0) & (precisions >= precision)
    if not good.any():
        return TagThreshold(threshold=None, precision=None, recall=None, f1=None, positives=positives)
    best = int(np.where(good, f1 if precision is None else recalls, -1.0).argmax())
    return TagThreshold(
        threshold=float(thresholds[best]),
        precision=float(precisions[best]),
        recall=float(recalls[best]),
        f1=float(f1[best]),
        positives=positives,
    )
