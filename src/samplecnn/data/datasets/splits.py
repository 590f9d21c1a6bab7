"""Splits made here: groups of clips divided so that every tag has its share in every part."""

import logging
from collections.abc import Sequence

import numpy as np

from samplecnn.data.catalog import PARTS, CatalogError, Clip

log = logging.getLogger(__name__)

TAGS_SHOWN = 5  # tags named in a warning


def divide(
    clips: Sequence[Clip], groups: Sequence[str], tags: int, shares: Sequence[float], seed: int
) -> list[str]:
    """Give each clip a part: groups stay whole, and a clip whose group is "" is one of its own.

    Raises `CatalogError` for fewer groups than parts, and for impossible shares and seeds.
    """
    if len(shares) != len(PARTS) or not all(0 < share < float("inf") for share in shares):
        raise CatalogError(f"shares are {list(shares)}: three numbers above 0, of train, valid and test")
    if seed < 0:
        raise CatalogError(f"seed is {seed}: allowed are 0, 1, ...")
    numbers: dict[tuple[str, str], int] = {}
    group_of = [
        numbers.setdefault((group, "" if group else clip.path), len(numbers))
        for group, clip in zip(groups, clips, strict=True)
    ]
    if len(numbers) < len(PARTS):
        raise CatalogError(
            f"{len(numbers)} groups of files cannot be divided into {', '.join(PARTS)}: each needs one"
        )
    counts = np.zeros((len(numbers), tags), dtype=np.int32)
    for number, clip in zip(group_of, clips, strict=True):
        counts[number, list(clip.tags)] += 1
    parts = stratify(counts, np.bincount(group_of), shares, seed)
    return [PARTS[parts[number]] for number in group_of]


def stratify(counts: np.ndarray, sizes: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Divide groups so that every tag has its share in every part: int64 `(groups,)`, indices of `shares`.

    `counts` is int `(groups, tags)`, the clips with each tag; `sizes` int `(groups,)`, all clips. Iterative
    stratification (Sechidis, Tsoumakas and Vlahavas 2011) of groups: the tag that fewest undivided groups
    have comes first; its groups, large ones first, go where most of the tag is still wanted. One rule more:
    once no more groups are left than parts without the tag, these parts get them.
    """
    counts = np.column_stack([counts, sizes])  # the last column stands for "any clip": it comes last
    present = counts > 0
    share = np.asarray(shares, dtype=float) / sum(shares)
    wanted = share[:, None] * counts.sum(axis=0)  # (parts, tags + 1): clips
    held = np.zeros(wanted.shape, dtype=bool)
    undivided = present.sum(axis=0)  # groups
    order = np.random.default_rng(seed).permutation(len(counts))
    part_of = np.full(len(counts), -1)
    while undivided.any():
        column = int(np.where(undivided, undivided, len(counts) + 1).argmin())
        groups = order[(part_of[order] < 0) & present[order, column]]
        groups = groups[np.argsort(-counts[groups, column], kind="stable")]
        for left, group in zip(range(len(groups), 0, -1), groups, strict=True):
            without = [part for part in range(len(share)) if not held[part, column]]
            candidates = without if left <= len(without) else range(len(share))
            part = max(candidates, key=lambda part: (wanted[part, column], wanted[part, -1]))
            part_of[group] = part
            held[part] |= present[group]
            wanted[part] -= counts[group]
            undivided -= present[group]
    return part_of


def warn_of_rare_tags(tags: Sequence[str], clips: Sequence[Clip], parts: Sequence[str]) -> None:
    """Log the tags that are not in all three parts."""
    lacking = [set(PARTS) for _ in tags]
    for clip, part in zip(clips, parts, strict=True):
        for tag in clip.tags:
            lacking[tag].discard(part)
    rare = [
        f"{tag!r} (not in {', '.join(sorted(where))})"
        for tag, where in zip(tags, lacking, strict=True)
        if where
    ]
    if rare:
        log.warning(
            "%d of %d tags are not in all parts, too few files or groups have them: %s%s",
            len(rare),
            len(tags),
            ", ".join(rare[:TAGS_SHOWN]),
            ", ..." if len(rare) > TAGS_SHOWN else "",
        )
