"""Counting tags, and which of them are compared."""

from pathlib import Path

import numpy as np
import pytest

from samplecnn.analysis.cooccurrence import MAX_TAGS, PAPER_TAGS, TagCounts
from samplecnn.analysis.excitation import Excitations
from samplecnn.cli.excitation import print_findings
from samplecnn.data.datasets import mtat
from samplecnn.errors import UserError

METADATA = Path(__file__).parents[3] / "shared/mtat"
LABELS = np.array(
    [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 1], [1, 0, 1, 0, 0], [0, 0, 1, 0, 0]], dtype=np.uint8
)
TAGS = ("rock", "guitar", "piano", "harp", "rare")


def test_cooccurrence_by_hand() -> None:
    counts = TagCounts.of(TAGS, LABELS)
    assert counts.tags == ("rock", "guitar", "piano", "rare")
    assert counts.unused == ("harp",)
    assert counts.clips.tolist() == [4, 2, 2, 1]
    assert counts.table(("piano", "rock", "rare")).tolist() == [[2, 1, 0], [1, 4, 1], [0, 1, 1]]
    with pytest.raises(UserError, match="no clip of the test split has any of the 5 tags"):
        TagCounts.of(TAGS, np.zeros((3, 5), dtype=np.uint8))


def test_tags_by_default() -> None:
    """The paper's where they are; else frequent ones that rarely occur together."""
    assert (
        TagCounts.of(("dance", "x", "metal", "classical"), np.eye(4, dtype=np.uint8)).choose() == PAPER_TAGS
    )
    without = np.eye(4, dtype=np.uint8)[:3]  # nothing is classical
    assert TagCounts.of(("dance", "x", "metal", "classical"), without).choose() == ("dance", "x", "metal")
    # All guitar is rock; half of the piano is.
    assert TagCounts.of(TAGS, LABELS).choose() == ("rock", "piano", "guitar")
    assert TagCounts.of(TAGS[:2], LABELS[:, :2]).choose() == ("rock", "guitar")
    # Tags of a single clip meet none, and are not among the more frequent half.
    labels = np.zeros((14, 6), dtype=np.uint8)
    for tag, clips in enumerate((range(6), range(4, 9), range(7, 11), [11], [12], [13])):
        labels[list(clips), tag] = 1
    assert TagCounts.of(tuple("abcdef"), labels).choose() == ("a", "c", "b")
    # Two of eight pop clips are rock, one of three piano clips: pop is less of rock.
    rock, pop, piano = [1] * 10 + [0] * 8, [0] * 8 + [1] * 8 + [0] * 2, [1] + [0] * 15 + [1] * 2
    labels = np.array([rock, pop, piano], dtype=np.uint8).T
    assert TagCounts.of(("piano", "pop", "rock"), labels[:, ::-1]).choose() == ("rock", "pop", "piano")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["gitar"], "no tag 'gitar': the nearest of the 4 tags are guitar"),
        (["zzz"], "no tag 'zzz': some of the 4 tags are rock, guitar, piano, rare"),
        (["rock", ""], "no tag '': some of"),
        (["rock", "harp"], "no clip of the test split has the tag 'harp'"),
        (["rock", "rock"], f"tags rock, rock: allowed are 1 to {MAX_TAGS} different ones"),
        ([], "allowed are 1 to"),
    ],
)
def test_tags_that_cannot_be_shown(asked: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TagCounts.of(TAGS, LABELS).choose(asked)


def test_too_many_tags() -> None:
    many = TagCounts.of([f"tag {n}" for n in range(MAX_TAGS + 1)], np.eye(MAX_TAGS + 1, dtype=np.uint8))
    assert many.choose(many.tags[:MAX_TAGS]) == many.tags[:MAX_TAGS]
    with pytest.raises(UserError, match=f"1 to {MAX_TAGS}"):
        many.choose(many.tags)


@pytest.mark.skipif(not METADATA.exists(), reason="MTAT's metadata (shared/mtat) is not beside this checkout")
def test_table_3(capsys: pytest.CaptureFixture[str]) -> None:
    catalog = mtat.catalog(METADATA)
    labels = catalog.labels()
    top = np.argsort(-labels.sum(axis=0, dtype=int), kind="stable")[:50]
    in_test = np.array([part == "test" for part in catalog.splits["clean"].parts])
    test = np.flatnonzero(in_test & labels[:, top].any(axis=1)).tolist()
    assert len(test) == 4332
    counts = TagCounts.of([catalog.tags[column] for column in top], labels[test][:, top])
    tags = counts.choose()
    assert tags == ("classical", "metal", "dance")
    table = counts.table(tags)
    assert table.tolist() == [[699, 0, 1], [0, 165, 0], [1, 0, 153]]
    of_clip = [{catalog.tags[tag] for tag in catalog.clips[place].tags} for place in test]
    for row, one in enumerate(tags):
        for column, other in enumerate(tags):
            assert table[row, column] == sum({one, other} <= clip for clip in of_clip)
    made = Excitations(
        counts, counts.clips, {1: np.zeros((50, 4))}, {1: np.zeros(4)}, "mtat", "clean", "a hash"
    )
    print_findings(made, tags)
    said = capsys.readouterr().out
    assert all(text in said for text in ("699 (paper: 704)", "165 (paper: 166)", "153 (paper: 153)"))
    print_findings(made, ("metal", "dance"))
    assert "paper" not in capsys.readouterr().out
