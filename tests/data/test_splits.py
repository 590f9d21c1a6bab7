"""Splits made here: every tag has its share in every part, and rare tags are in all of them."""

import numpy as np
import pytest

from samplecnn.data.datasets.splits import stratify

SHARES = (75, 8, 17)


def random_music(seed: int, groups: int, tags: int) -> tuple[np.ndarray, np.ndarray]:
    """Groups of 1 to 5 clips with tags of very different frequency: counts and sizes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, size=groups)
    frequency = np.geomspace(0.5, 0.02, tags)
    return np.stack([rng.binomial(size, frequency) for size in sizes]), sizes


@pytest.mark.parametrize("seed", range(5))
def test_every_part_has_its_share_of_every_tag(seed: int) -> None:
    counts, sizes = random_music(seed, groups=500, tags=12)
    parts = stratify(counts, sizes, SHARES, seed)
    for part, share in enumerate(SHARES):
        inside = parts == part
        assert sizes[inside].sum() / sizes.sum() == pytest.approx(share / 100, abs=0.015)
        of_tag = counts[inside].sum(axis=0) / counts.sum(axis=0)
        np.testing.assert_allclose(of_tag, share / 100, atol=0.06)


def test_the_same_seed_gives_the_same_split_for_ever() -> None:
    """Stores and results depend on it."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 6, (30, 1))
    counts = (rng.random((30, 4)) < [0.6, 0.3, 0.15, 0.1]) * sizes
    parts = stratify(counts, sizes[:, 0], (1, 1, 1), seed=0)
    assert "".join(map(str, parts)) == "202001221210201102022011110012"


@pytest.mark.parametrize("seed", range(20))
def test_tags_of_few_groups_are_in_every_part(seed: int) -> None:
    counts, sizes = random_music(seed, groups=60, tags=8)
    parts = stratify(counts, sizes, SHARES, seed)
    frequent = (counts > 0).sum(axis=0) >= 4
    assert frequent.sum() >= 5
    for part in range(3):
        assert (counts[parts == part].sum(axis=0) > 0)[frequent].all()
