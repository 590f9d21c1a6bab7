"""Figures 2 and 3: what they draw, that all of it can be read, and their files."""

from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from samplecnn.analysis.cooccurrence import MAX_TAGS, TagCounts
from samplecnn.analysis.excitation import Excitations
from samplecnn.analysis.figures import deviation_figure, excitation_figure, write_figure

SVG = "{http://www.w3.org/2000/svg}"
ODD_TAGS = ("_hidden", "$x_1$ & <b>", "a tag with as many words in its name as nobody would ever write")


def made(tags: tuple[str, ...] = ("classical", "metal", "dance"), blocks: int = 9) -> Excitations:
    rng = np.random.default_rng(0)
    per_tag = {block: rng.random((len(tags), 16 * block)) for block in range(1, blocks + 1)}
    counts = TagCounts(tags, (), np.diag(np.arange(len(tags)) * 1000 + 153))
    overall = {block: means.mean(axis=0) for block, means in per_tag.items()}
    return Excitations(counts, counts.clips * 10, per_tag, overall, "made", "clean", "hash")


def inside(figure: Figure) -> bool:
    """Whether nothing is cut off at the edges."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


def test_figure_2_draws_the_sorted_means() -> None:
    excited = made()
    tags = ("dance", "classical")  # in the order asked for
    figure = excitation_figure(excited, tags, (9, 1))
    assert [panel.get_title() for panel in figure.axes] == ["block 9", "block 1"]
    for panel, block in zip(figure.axes, (9, 1), strict=True):
        lines = np.array([line.get_ydata() for line in panel.lines])
        wanted = excited.per_tag[block][[2, 0]]
        assert (np.diff(lines.mean(axis=0)) >= 0).all()
        np.testing.assert_array_equal(lines, wanted[:, wanted.mean(axis=0).argsort()])
        assert panel.get_ylim() == (0, 1)
        for line in panel.lines:
            np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 16 * block + 1))
        assert panel.get_xticks()[-1] == 16 * block
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "dance (2,153 clips)",
        "classical (153 clips)",
    ]
    colours = [line.get_color() for line in figure.axes[0].lines]
    assert [line.get_color() for line in legend.get_lines()] == colours
    assert len(set(colours)) == 2


def test_figure_3_draws_the_deviation() -> None:
    excited = made(blocks=4)
    (panel,) = deviation_figure(excited).axes
    (line,) = panel.lines
    wanted = [means.std(axis=0).mean() for means in excited.per_tag.values()]
    np.testing.assert_array_equal(line.get_xydata(), np.column_stack([[1, 2, 3, 4], wanted]))
    assert panel.get_ylim()[0] == 0
    assert panel.get_ylim()[1] > max(excited.deviation.values())
    assert "across 3 tags" in panel.get_ylabel()


@pytest.mark.parametrize("tags", [("one",), ("classical", "metal", "dance"), ODD_TAGS, None])
@pytest.mark.parametrize("blocks", [(5,), (1, 5, 9), (1, 2, 5, 8, 9), tuple(range(1, 10))])
def test_nothing_is_cut_off_or_covered(tags: tuple[str, ...] | None, blocks: tuple[int, ...]) -> None:
    excited = made(tags or tuple(f"quite a long tag {number}" for number in range(MAX_TAGS)))
    figure = excitation_figure(excited, excited.counts.tags, blocks)
    assert len(figure.axes) == len(blocks)
    assert inside(figure)
    (legend,) = figure.legends
    assert len(legend.get_texts()) == len(excited.counts.tags)
    boxes = [legend.get_window_extent(), *(panel.get_tightbbox() for panel in figure.axes)]
    for one, other in combinations(boxes, 2):
        assert one is not None
        assert other is not None
        assert not one.overlaps(other)
    assert inside(deviation_figure(excited))


def test_the_files(tmp_path: Path) -> None:
    excited = made(ODD_TAGS)
    for name, figure in {
        "a": excitation_figure(excited, ODD_TAGS, (1, 9)),
        "b": deviation_figure(excited),
    }.items():
        svg, png = write_figure(figure, tmp_path / name)
        root = ElementTree.parse(svg).getroot()
        texts = {element.text for element in root.iter(f"{SVG}text")}
        if name == "a":
            names = {f"{tag} ({153 + 1000 * n:,} clips)" for n, tag in enumerate(ODD_TAGS)}
            assert texts >= names | {"block 1", "block 9", "mean excitation (sigmoid)"}
        else:
            assert texts >= {"block", "(mean over channels)"}
        pixels = imread(png)
        assert pixels.shape[1] == 1300
        # A white card, whatever it is put on.
        assert (pixels[[0, -1]] == 1).all()
        first = next(element for element in root.iter(f"{SVG}path") if element.get("style"))
        assert "fill: #ffffff" in str(first.get("style"))
        assert "opacity" not in str(first.get("style"))


def test_neither_the_user_s_settings_nor_the_day_change_a_figure(tmp_path: Path) -> None:
    excited = made()
    (tmp_path / "mine").mkdir()
    plain = write_figure(excitation_figure(excited, excited.counts.tags, (1,)), tmp_path / "figure")
    with mpl.rc_context({"figure.facecolor": "black", "font.size": 30, "svg.fonttype": "path"}):
        mine = write_figure(excitation_figure(excited, excited.counts.tags, (1,)), tmp_path / "mine/figure")
        assert mpl.rcParams["font.size"] == 30
    for one, other in zip(plain, mine, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert one.name == other.name


def test_equal_excitations_have_a_deviation_of_zero() -> None:
    excited = made()
    for block in excited.per_tag:
        excited.per_tag[block][:] = 0.5
    (panel,) = deviation_figure(excited).axes
    assert panel.get_ylim() == (0, 1)
