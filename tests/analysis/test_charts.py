"""Scales, what is drawn where, and learning curves: their points, and which seed is which."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from samplecnn.analysis.charts import LINE, Mark, Training, curve_chart, interval_chart, learning_chart
from samplecnn.analysis.svg import Scale, shortened


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.88, 0.92, ["0.88", "0.89", "0.90", "0.91", "0.92"]),
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.9071, 0.9119, ["0.908", "0.909", "0.910", "0.911"]),
        (0, 1234, ["0", "500", "1000"]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[str]) -> None:
    assert [text for _, text in Scale(low, high, 0, 100).ticks()] == expected


def test_there_is_never_a_single_tick() -> None:
    assert [text for _, text in Scale(0.62, 0.93, 0, 1).ticks(3)] == ["0.7", "0.8", "0.9"]


def test_epochs_are_whole() -> None:
    assert [value for value, _ in Scale(1, 3, 0, 1).ticks(smallest=1)] == [1, 2, 3]
    assert [value for value, _ in Scale(1, 40, 0, 1).ticks(smallest=1)] == [10, 20, 30, 40]


def test_a_scale_holds_what_it_is_made_over() -> None:
    scale = Scale.over([0.9, 0.95, 0.8], 100, 300)
    assert 100 < scale(0.8) < scale(0.9) < scale(0.95) < 300
    for value in (0.5, 0.0, -3e17):  # the last is a loss of a training that diverged
        flat = Scale.over([value, value], 0, 100)
        assert flat(value) == pytest.approx(50)
        assert len(flat.ticks()) > 1


def share(element: ElementTree.Element, key: str) -> float:
    """Return a place as per cent of the chart's width."""
    text = element.get(key, "")
    assert text.endswith("%")
    return float(text[:-1])


def test_intervals_and_marks_are_where_their_numbers_are() -> None:
    marks = [
        Mark("a", 0.9, (0.8, 0.95), seeds={3: 0.89, 5: 0.91}, paper=0.92),
        Mark("b", 0.7, None, style="single"),
    ]
    root = ElementTree.fromstring(interval_chart(marks, "scores"))
    assert root.get("aria-label") == "scores"
    assert root.get("role") == "img"
    first, second = root.findall("g")
    assert (
        first.findtext("title")
        == "a: 0.9000, 95 % interval 0.8000 to 0.9500, the paper 0.9200, seed 3 0.8900, seed 5 0.9100"
    )
    circle, line = first.find("circle"), first.find("line[@class='interval']")
    assert circle is not None
    assert line is not None
    scale = Scale.over([0.9, 0.8, 0.95, 0.89, 0.91, 0.92, 0.7], 0, 1)
    ends = [share(line, "x1"), share(line, "x2")]
    inside = (share(circle, "cx") - ends[0]) / (ends[1] - ends[0])
    assert inside == pytest.approx((scale(0.9) - scale(0.8)) / (scale(0.95) - scale(0.8)), abs=0.01)
    assert all(0 < place < 100 for place in ends)
    third, fifth = first.findall("line[@class='seed']")
    assert share(third, "x1") < share(fifth, "x1")  # their scores
    assert float(third.get("y2", 0)) <= float(fifth.get("y1", 0))  # in lanes, so that they are told apart
    assert first.find("svg/path[@class='paper']") is not None
    assert second.find("svg/path[@class='mark']") is not None  # a diamond
    assert second.find("line[@class='interval']") is None
    assert (first.get("class"), second.get("class")) == ("multi", "single")


def test_text_of_others_stays_text() -> None:
    drawn = interval_chart([Mark("<script>&\"'", 0.5, None)], 'a "<label>"')
    assert "<script>" not in drawn
    assert ElementTree.fromstring(drawn).find("g/text").text == "<script>&\"'"  # type: ignore[union-attr]


def test_long_names_are_shortened() -> None:
    assert shortened("short", 16) == "short"
    assert shortened("a very long name of a tag", 11) == "a very lon…"


def test_curves_of_one_and_of_several_lines() -> None:
    lines = [[(0.0, Mark("x", 0.8, (0.7, 0.9))), (1.0, Mark("y", 0.9, None))], [(1.0, Mark("z", 0.7, None))]]
    root = ElementTree.fromstring(
        curve_chart(lines, ["low", "high"], "axis", "label", extent=[0.6, 1.0], width=240)
    )
    assert len(root.findall("g")) == 3
    assert {"low", "high", "axis"} <= {text.text for text in root.findall("text")}


def test_a_chart_grows_between_its_margins_alone() -> None:
    """Names keep their place left of it, numbers right of it, whatever its width."""
    root = ElementTree.fromstring(interval_chart([Mark("a name", 0.9, None)], "scores"))
    assert root.get("viewBox") is None
    name, value = root.findall("g/text")
    assert (name.get("x"), value.get("x")) == ("0.00%", "100.00%")
    assert float(name.get("dx", 0)) < 0 < float(value.get("dx", 0))
    left, right = (float(px) for px in re.findall(r"([\d.]+)px", root.get("style", ""))[1::-1])
    assert f"width:calc(100% - {left + right:g}px)" in root.get("style", "")


def learned(*curves: Training) -> ElementTree.Element:
    xs, ys = zip(*(point for curve in curves for point in curve.points), strict=True)
    return ElementTree.fromstring(learning_chart(curves, (min(xs), max(xs)), (min(ys), max(ys)), "label"))


def test_what_a_pointer_finds_on_a_learning_curve() -> None:
    (group,) = learned(Training("single", "SE, seed 0", 0, [(1.0, 0.5), (2.0, 0.61237)])).findall("g")
    assert group.findtext("title") == "SE, seed 0"
    assert group.get("data-points") == "epoch 1: 0.5000;epoch 2: 0.6124"
    (line,) = group.findall("svg/path[@class='line']")
    assert len(line.get("d", "").split("L")) == 2
    assert group.get("class") == "single"
    assert group.find("text") is None  # a single seed


def test_a_single_epoch_has_a_mark() -> None:
    assert learned(Training("multi", "one", 0, [(1.0, 0.5)])).find("g/circle") is not None


def test_each_curve_ends_with_the_number_of_its_seed() -> None:
    """Also where they end together: numbers do not cover each other."""
    last = {3: 0.9, 0: 0.9001, 12: 0.9, 1: 0.5}
    root = learned(*(Training("multi", f"seed {s}", s, [(1.0, 0.4), (2.0, end)]) for s, end in last.items()))
    numbers = {text.text: float(text.get("y", 0)) for text in root.findall("g/text[@class='number']")}
    assert set(numbers) == {"3", "0", "12", "1"}
    for one, other in pairwise(sorted(numbers.values())):
        assert other - one >= LINE - 0.11  # written to a tenth
    assert numbers["1"] == max(numbers.values())
    assert max(numbers.values()) < float(root.get("height", 0)) - 30  # above the scale
    assert all(text.get("x") == "100.00%" for text in root.findall("g/text[@class='number']"))


def test_numbers_of_seeds_stay_above_the_scale() -> None:
    root = learned(*(Training("multi", f"seed {s}", s, [(1.0, 0.9), (2.0, 0.4)]) for s in range(3)))
    places = sorted(float(text.get("y", 0)) for text in root.findall("g/text[@class='number']"))
    assert places[-1] < float(root.get("height", 0)) - 30
    assert all(other - one >= LINE - 0.11 for one, other in pairwise(places))


@pytest.mark.parametrize(("seeds", "shown"), [(15, True), (16, False)])
def test_of_many_seeds_no_number_is_shown(seeds: int, shown: bool) -> None:
    root = learned(
        *(Training("multi", f"seed {s}", s, [(1.0, 0.4), (2.0, 0.5 + s / 99)]) for s in range(seeds))
    )
    assert (root.find("g/text[@class='number']") is not None) == shown
