"""Learning curves: their points, and which seed is which."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from samplecnn.analysis.learning import LINE, Training, learning_chart


def drawn(*curves: Training) -> ElementTree.Element:
    xs, ys = zip(*(point for curve in curves for point in curve.points), strict=True)
    return ElementTree.fromstring(learning_chart(curves, (min(xs), max(xs)), (min(ys), max(ys)), "label"))


def test_what_a_pointer_finds() -> None:
    (group,) = drawn(Training(False, "SE, seed 0", 0, [(1.0, 0.5), (2.0, 0.61237)])).findall("g")
    assert group.findtext("title") == "SE, seed 0"
    assert group.get("data-points") == "epoch 1: 0.5000;epoch 2: 0.6124"
    (line,) = group.findall("svg/path[@class='line']")
    assert len(line.get("d", "").split("L")) == 2
    assert group.get("class") == "single"
    assert group.find("text") is None  # a single seed


def test_a_single_epoch_has_a_mark() -> None:
    assert drawn(Training(True, "one", 0, [(1.0, 0.5)])).find("g/circle") is not None


def test_each_curve_ends_with_the_number_of_its_seed() -> None:
    """Also where they end together: numbers do not cover each other."""
    last = {3: 0.9, 0: 0.9001, 12: 0.9, 1: 0.5}
    root = drawn(*(Training(True, f"seed {s}", s, [(1.0, 0.4), (2.0, end)]) for s, end in last.items()))
    numbers = {text.text: float(text.get("y", 0)) for text in root.findall("g/text[@class='number']")}
    assert set(numbers) == {"3", "0", "12", "1"}
    for one, other in pairwise(sorted(numbers.values())):
        assert other - one >= LINE - 0.11  # written to a tenth
    assert numbers["1"] == max(numbers.values())
    assert max(numbers.values()) < float(root.get("height", 0)) - 30  # above the scale
    assert all(text.get("x") == "100.00%" for text in root.findall("g/text[@class='number']"))


@pytest.mark.parametrize(("seeds", "shown"), [(15, True), (16, False)])
def test_of_many_seeds_no_number_is_shown(seeds: int, shown: bool) -> None:
    root = drawn(*(Training(True, f"seed {s}", s, [(1.0, 0.4), (2.0, 0.5 + s / 99)]) for s in range(seeds)))
    assert (root.find("g/text[@class='number']") is not None) == shown
