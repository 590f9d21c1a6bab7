"""Scales, and what is drawn where."""

from xml.etree import ElementTree

import pytest

from samplecnn.analysis.charts import Mark, curve_chart, interval_chart, learning_chart
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


def test_epochs_are_whole() -> None:
    assert [value for value, _ in Scale(1, 3, 0, 1).ticks(smallest=1)] == [1, 2, 3]
    assert [value for value, _ in Scale(1, 40, 0, 1).ticks(smallest=1)] == [10, 20, 30, 40]


def test_a_scale_holds_what_it_is_made_over() -> None:
    scale = Scale.over([0.9, 0.95, 0.8], 100, 300)
    assert 100 < scale(0.8) < scale(0.9) < scale(0.95) < 300
    flat = Scale.over([0.5, 0.5], 0, 100)
    assert flat(0.5) == pytest.approx(50)


def test_intervals_and_marks_are_where_their_numbers_are() -> None:
    marks = [Mark("a", 0.9, (0.8, 0.95), seeds=(0.89, 0.91), paper=0.92), Mark("b", 0.7, None, multi=False)]
    root = ElementTree.fromstring(interval_chart(marks, "scores"))
    assert root.get("aria-label") == "scores"
    assert root.get("role") == "img"
    first, second = root.findall("g")
    assert first.findtext("title") == "a: 0.9000, 95 % interval 0.8000 to 0.9500, the paper 0.9200"
    circle, line = first.find("circle"), first.find("line[@class='interval']")
    assert circle is not None
    assert line is not None
    scale = Scale.over([0.9, 0.8, 0.95, 0.89, 0.91, 0.92, 0.7], 0, 1)
    inside = (float(circle.get("cx", 0)) - float(line.get("x1", 0))) / (
        float(line.get("x2", 0)) - float(line.get("x1", 0))
    )
    assert inside == pytest.approx((scale(0.9) - scale(0.8)) / (scale(0.95) - scale(0.8)), abs=0.01)
    assert len(first.findall("line[@class='seed']")) == 2
    assert first.find("rect[@class='paper']") is not None
    assert second.find("path[@class='mark']") is not None  # a diamond
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


def test_learning_curves_of_a_single_epoch_have_a_mark() -> None:
    root = ElementTree.fromstring(learning_chart([(True, "one", [(1.0, 0.5)])], (1, 1), (0.5, 0.5), "label"))
    assert root.find("g/circle") is not None
    longer = learning_chart([(False, "two", [(1.0, 0.5), (2.0, 0.6)])], (1, 2), (0.5, 0.6), "label")
    assert ElementTree.fromstring(longer).find("g/path[@class='line']") is not None
