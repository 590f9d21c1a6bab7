"""A part of a split cut down to a few of its clips, with positives of as many tags as can be."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from samplecnn.data.store import Part
from samplecnn.errors import UserError

STREAM = 2  # of the random numbers of a seed and epoch 0; others are the order and the chunks of an epoch


def few(part: Part, clips: int, seed: int) -> Part:
    """Return a part with ``clips`` of its clips; those for a smaller number are among those for a larger.

    Raises UserError where there are not so many.
    """
    most = len(part.clips)
    if not 1 <= clips <= most:
        raise UserError(
            f"data.train_clips={clips}: the training part has {most:,} clips; "
            f"allowed are 1 to {most:,}, or null for all"
        )
    chosen = np.sort(stratified(part.labels, clips, seed))
    kept = np.isin(part.segment_clip, chosen)
    return replace(
        part,
        clips=part.clips[chosen],
        clip_ids=tuple(part.clip_ids[clip] for clip in chosen),
        labels=part.labels[chosen],
        segment_clip=np.searchsorted(chosen, part.segment_clip[kept]),
        segment_spans=part.segment_spans[kept],
    )


def stratified(labels: NDArray[np.uint8], count: int, seed: int) -> NDArray[np.int64]:
    """Choose ``count`` clips by their labels ``(clips, tags)``; return them in the order of their choice.

    Each next clip is one of the tag of whose clips the smallest share has been chosen so far, the rarest of
    several: tags without a positive come first, and then shares stay alike. Of that tag's clips it is the one
    that brings most tags their first positive, in random order. Clips without tags count as a tag, the last.
    """
    order = np.random.default_rng((seed, 0, STREAM)).permutation(len(labels))
    has = labels[order].astype(bool)  # (clips, tags)
    has = has[:, np.argsort(has.sum(axis=0), kind="stable")]
    has = np.column_stack([has, ~has.any(axis=1)])
    has = has[:, has.any(axis=0)]
    totals, got = has.sum(axis=0), np.zeros(has.shape[1], dtype=np.int64)
    left = np.ones(len(labels), dtype=bool)
    chosen = []
    for _ in range(count):
        candidates = np.flatnonzero(has[:, np.argmin(got / totals)] & left)
        firsts = has[np.ix_(candidates, got == 0)].sum(axis=1)
        clip = candidates[np.argmax(firsts)]
        left[clip] = False
        got += has[clip]
        chosen.append(clip)
    return order[chosen]
