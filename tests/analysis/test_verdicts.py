"""Every verdict is that of the interval beside it, also where the interval touches 0 or is rounded to it."""

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from samplecnn.analysis.architectures import Architecture, Group
from samplecnn.analysis.comparison import Spread, verdict
from samplecnn.analysis.statistics import PER_TAG, Estimate
from samplecnn.analysis.summary import findings
from samplecnn.analysis.tables import best_and_others, differences
from samplecnn.analysis.tabular import MINUS, span
from samplecnn.runs.results import SplitScores, TagScores

NOISE = np.linspace(-1, 1, 401)  # draws around a difference, half as many on each side


def architecture(
    block: str, value: float, draws: NDArray[np.float64], *, enough: bool = True
) -> Architecture:
    """Make up what was scored: a macro ROC-AUC, and that of every draw."""
    scores = SplitScores(roc_auc=value, pr_auc=value, per_tag={})
    runs: Any = [SimpleNamespace(seed=seed, results=SimpleNamespace(test=scores)) for seed in (0, 1)]
    return Architecture(block, {}, True, 0.0, tuple(runs), scores, Estimate(value, draws, enough))


def pair(lead: float, width: float, *, spread: Spread | None = None, enough: bool = True) -> Group:
    """Return two of which the better leads by so much, give or take about ``width`` over the draws."""
    basic = architecture("basic", 0.9, np.full_like(NOISE, 0.9), enough=enough)
    se = architecture("se", 0.9 + lead, 0.9 + lead + width * NOISE, enough=enough)
    return Group({}, (basic, se), spread)


def signs(text: str) -> list[int]:
    """Return on which side of 0 the ends of an interval are that a reader sees."""
    ends = [float(end.replace(MINUS, "-")) for end in text.split(" to ")]
    return [(end > 0) - (end < 0) for end in ends]


def read(text: str) -> str:
    """Return the verdict of a reader who sees an interval."""
    if text == "\N{EN DASH}":
        return "too few clips"
    low, high = signs(text)
    return "yes" if low == high != 0 else "no"


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.01, 0.02), "yes"),
        ((-0.02, -0.01), "yes"),
        ((-0.01, 0.02), "no"),
        ((0.0, 0.02), "no"),
        ((-0.02, 0.0), "no"),
        ((0.0, 0.0), "no"),
        ((0.00001, 0.02), "yes"),
        ((-0.02, -0.00004), "yes"),
        ((1e-17, 0.02), "no"),
        ((-0.02, -1e-12), "no"),
        ((float("nan"), float("nan")), "no"),
        (None, "too few clips"),
    ],
)
def test_the_verdict_is_what_a_reader_sees(interval: tuple[float, float] | None, expected: str) -> None:
    assert verdict(interval) == expected
    if interval is None or interval[0] == interval[0]:
        assert read(span(interval, sign=True)) == expected


# Leads whose intervals are clear of 0, hold it, touch it, or end so near that four digits are 0.
CASES = [
    (lead, width, spread)
    for lead in (0.0, 1e-17, 1e-6, 0.0049, 0.005, 0.00952, 0.0096, 0.01, 0.05)
    for width in (0.0, 0.005, 0.01)
    for spread in (None, Spread(0.001, 4), Spread(0.0, 2))
]


@pytest.mark.parametrize(("lead", "width", "spread"), CASES)
def test_tables_and_sentences(lead: float, width: float, spread: Spread | None) -> None:
    group = pair(lead, width, spread=spread)
    best = best_and_others(group)
    assert best is not None
    (row,) = best.rows
    assert row[-1] == read(row[-2])
    table = differences(group)
    assert table is not None
    for row in table.rows:
        assert row[-1] == read(row[-2])
        assert np.sign(float(row[1].replace(MINUS, "-"))) in (0, *signs(row[-2]))
    (sentence,) = [said for said in findings(group) if said.startswith("Its lead")]
    shown = re.search(r"\((.*) over test clips", sentence)
    assert shown is not None
    assert ("is more than chance" in sentence) == (read(shown[1]) == "yes")
    assert ("cannot be told from chance" in sentence) == (read(shown[1]) == "no")
    if "is more than chance" in sentence:
        assert "lead of 0.0000 " not in sentence


@pytest.mark.parametrize(
    ("leads", "words"),
    [
        ((0.001, 0.05), "cannot be told from chance, but 1 of the 2 others can be called worse."),
        ((0.05, 0.06), "is more than chance, and all 2 others can be called worse."),
        ((0.001, 0.002), "cannot be told from chance, and none of the 2 others can be called worse."),
    ],
)
def test_who_else_is_worse(leads: tuple[float, float], words: str) -> None:
    others = [architecture("se", 0.9 - lead, 0.9 - lead + 0.01 * NOISE) for lead in leads]
    best = architecture("basic", 0.9, np.full_like(NOISE, 0.9))
    assert findings(Group({}, (best, *others), Spread(0.001, 4)))[1].endswith(words)


def test_tags_of_few_positive_clips_are_counted() -> None:
    tags = {f"tag {n}": TagScores(roc_auc=0.9, pr_auc=0.9, positives=n) for n in (3, PER_TAG - 1, PER_TAG)}
    tags["none"] = TagScores(roc_auc=None, pr_auc=None, positives=0)
    one = replace(architecture("se", 0.9, 0.9 + 0.01 * NOISE), scores=SplitScores.of(tags))
    assert findings(Group({}, (one,), None))[-1].startswith(
        "Tags with fewer than 10 positive test clips: 2 of 4. So few do not show"
    )


def test_an_interval_that_ends_within_a_rounding_of_zero() -> None:
    """The lead is 0.0095, its half-width a hair less: with four digits the interval would begin at 0."""
    found = set()
    for width in np.linspace(0.00999, 0.01001, 81):
        table = differences(pair(0.0095, width))
        assert table is not None
        (row,) = table.rows
        found.add((row[-1], re.sub(r"\d", "0", row[-2].split(" to ")[0])))
        assert row[-1] == read(row[-2])
    assert ("yes", "+0.00000") in found or ("yes", "+0.000000") in found


def test_without_clips_enough_there_is_neither() -> None:
    group = pair(0.05, 0.01, enough=False)
    for table in (best_and_others(group), differences(group)):
        assert table is not None
        (row,) = table.rows
        assert row[-1] == "too few clips"
        assert row[-2] == "\N{EN DASH}"
    assert any("may be chance: there are too few test clips" in said for said in findings(group))
