"""Tags that look wrong: refused or said, with the override or the mend."""

import re
from pathlib import Path

import pytest

from samplecnn.data.catalog import Catalog, CatalogError, Clip, Split
from samplecnn.data.datasets import mtat
from samplecnn.data.datasets.tags import refuse_senseless, split_tags, warn_of_mistakes

SHARED = Path(__file__).parents[3] / "shared/mtat"


def split(*cells: str, separator: str | None = None) -> list[list[str]]:
    return split_tags([(f"tags.csv, line {line}", cell) for line, cell in enumerate(cells, 2)], separator)


def test_tags_are_taken_out_of_cells() -> None:
    assert split("rock; pop ;;rock", "", " jazz ") == [["rock", "pop"], [], ["jazz"]]
    assert split("rock, pop", "jazz", separator="comma") == [["rock", "pop"], ["jazz"]]
    assert split("rock/pop", "jazz|blues", separator="slash") == [["rock", "pop"], ["jazz|blues"]]
    assert split("rock, pop", "a|b", separator="semicolon") == [["rock, pop"], ["a|b"]]
    with pytest.raises(CatalogError, match="separator=tab: allowed are semicolon, comma, slash, pipe"):
        split("rock", separator="tab")


@pytest.mark.parametrize(
    ("cell", "override"),
    [("rock, pop", "comma"), ("rock/pop", "slash"), ("rock|pop", "pipe"), ("rock,pop;jazz", None)],
)
def test_lists_of_another_kind(cell: str, override: str | None) -> None:
    if override is None:  # whoever wrote it separates by ';'
        assert split(cell, "blues") == [["rock,pop", "jazz"], ["blues"]]
        assert split(cell, "rock,pop") == [["rock,pop", "jazz"], ["rock,pop"]]
        return
    message = rf"line 3: tags .* look like a list \(1 more cells do\), .*separator={override}\. .*=semicolon"
    with pytest.raises(CatalogError, match=message):
        split("blues", cell, cell)
    assert split("blues", cell, separator=override) == [["blues"], ["rock", "pop"]]


@pytest.mark.parametrize("cell", ["['rock', 'pop']", "['jazz']", '["rock"]', "{'rock'}", "[]"])
def test_lists_as_programs_print_them(cell: str) -> None:
    with pytest.raises(CatalogError, match=r"line 2: .*as a program prints it: write rock; pop"):
        split(cell)


def test_tags_of_several_lines() -> None:
    with pytest.raises(CatalogError, match=r"line 2: tags 'rock\\npop': a tag is one line of text"):
        split("rock\npop", "jazz")


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([["rock"], ["rock"]], "x: every file has the same tags, 'rock': .* Mend it"),
        ([["rock", "pop"], ["pop", "rock"]], "every file has the same tags, 'pop', 'rock'"),
        ([["x" * 10_000]] * 2, r"'x{40}\.\.\.'"),
        ([["train"], ["Val"], ["test"]], "x: the tags 'Val', 'test', 'train' are parts of a split"),
        (
            [["training", "jazz"], ["test", "rock"]],
            "tags 'test', 'training' are parts .*columns path, tags and",
        ),
        ([[], []], "x: no file has a tag"),
    ],
)
def test_nothing_can_be_learnt(tags: list[list[str]], message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        refuse_senseless(tags, "x", ". Mend it")
    refuse_senseless([["train"], ["rock"]], "x")  # songs of trains


def catalog(*tags: str, everywhere: bool = False) -> Catalog:
    clips = [Clip(str(n), f"{n}.wav", (n,)) for n in range(len(tags))] + [Clip("none", "none.wav", ())]
    if everywhere:
        clips = [Clip(clip.id, clip.path, (0, 1, 1)) for clip in clips]
    return Catalog("x", Path(), tags, tuple(clips), {"own": Split(("train",) * len(clips), False)}, {})


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (("rock", "Rock", "ROCK", "jazz"), "the tags 'rock', 'Rock', 'ROCK' differ in case, .* as 3 tags"),
        (("hip hop", "Hip-Hop"), "the tags 'hip hop', 'Hip-Hop' differ"),
        (("Bj\u00f6rk", "Bjo\u0308rk"), r"'Bj\\xf6rk', 'Bjo\\u0308rk' differ"),
        (("\uff52ock", "rock"), "differ in case, spaces, signs or Unicode form only"),
        (("nan", "rock"), "words for no tag: 'nan': leave the cell empty"),
        (("000", "001"), r"numbers: '000', '001': .* write a table tags\.csv"),
    ],
)
def test_what_looks_wrong_is_said(
    caplog: pytest.LogCaptureFixture, tags: tuple[str, ...], message: str
) -> None:
    warn_of_mistakes(catalog(*tags))
    (record,) = caplog.records
    assert re.search(message, record.getMessage())


def test_a_tag_on_every_clip_is_said(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_mistakes(catalog("music", "rock", "pop", everywhere=True))
    assert "tags that are on every clip: 'music', 'rock'" in caplog.text


@pytest.mark.skipif(not SHARED.exists(), reason="MTAT's metadata (shared/mtat) is not beside this checkout")
def test_magnatagatune_looks_right(caplog: pytest.LogCaptureFixture) -> None:
    mtat.catalog(SHARED)
    assert not caplog.records


def test_tags_have_a_length() -> None:
    with pytest.raises(CatalogError, match=r"a tag of 10,000 letters \('x{20}'\.\.\.\): allowed are 200"):
        catalog("rock", "x" * 10_000)
