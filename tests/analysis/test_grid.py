"""What is averaged, what stands in one table, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.made_runs import labels, make_run
from samplecnn.analysis.architectures import Architecture, Group
from samplecnn.analysis.grid import draw, group_names, groups, one_split
from samplecnn.analysis.published import DAGGER, MTAT
from samplecnn.analysis.summary import missing
from samplecnn.analysis.tables import differences
from samplecnn.analysis.tabular import MINUS
from samplecnn.errors import UserError
from samplecnn.runs.run import Run, read_run


@pytest.fixture
def runs(tmp_path: Path) -> Any:
    """Make and read runs: a tuple of overrides and a seed for each."""

    def make(*wanted: tuple[tuple[str, ...], int]) -> list[Run]:
        return [
            read_run(make_run(tmp_path / str(index), *overrides, seed=seed))
            for index, (overrides, seed) in enumerate(wanted)
        ]

    return make


def labels_and_seeds(group: Group) -> list[tuple[str, tuple[int, ...]]]:
    return [(cell.label, cell.seeds) for cell in group.architectures]


def test_only_seeds_are_averaged(runs: Any) -> None:
    found = groups(
        runs(
            (("block=se",), 1),
            (("block=basic",), 0),
            (("block=se",), 0),
            (("block=se", "multi=false"), 0),
            (("block=rese2", "weight_decay=1e-4"), 0),
            (("block=rese2",), 0),
            (("block=rese1", "block.alpha=0.5"), 0),
            (("block=res2", "block.dropout=0.3"), 0),
            (("block=res2", "weight_decay=1e-3"), 0),
        )
    )
    assert [labels_and_seeds(group) for group in found] == [
        [
            ("Basic, multi", (0,)),
            ("SE, multi", (0, 1)),
            ("SE, no multi", (0,)),
            ("Res-2 dropout 0.3, multi", (0,)),
            ("Res-2 decay 1e-3, multi", (0,)),
            ("ReSE-1 alpha 0.5, multi", (0,)),
            ("ReSE-2, multi", (0,)),
            ("ReSE-2†, multi", (0,)),
        ]
    ]
    in_table1 = [cell.label for cell in found[0].architectures if cell.in_table1]
    assert in_table1 == ["Basic, multi", "SE, multi", "SE, no multi", "ReSE-2, multi", "ReSE-2†, multi"]
    cell = found[0].table1("rese2", True)
    assert cell is not None
    assert cell.label == "ReSE-2†, multi"
    assert found[0].table1("rese2", False) is None


def test_other_settings_are_other_groups(runs: Any) -> None:
    found = groups(
        runs(
            (("block=se",), 0),
            (("block=se", "width=32"), 0),
            (("block=basic", "width=32"), 0),
            (("block=basic", "width=32", "schedule=onecycle", "trainer.max_epochs=8"), 0),
        )
    )
    assert [len(group.architectures) for group in found] == [2, 1, 1]
    names = group_names(found)
    assert len(set(names)) == 3
    assert names == [
        "schedule=PaperSchedule, trainer.max_epochs=null, width=32",
        "schedule=PaperSchedule, trainer.max_epochs=null, width=128",
        "schedule=OneCycle, trainer.max_epochs=8, width=32",
    ]


def test_the_network_s_own_rate_need_not_be_said(runs: Any) -> None:
    found = groups(runs((("block=se",), 0), (("block=se", "rate=22050"), 1), (("block=se", "rate=16000"), 0)))
    assert sorted(len(group.architectures[0].runs) for group in found) == [1, 2]


NETWORKS = (("model=fcn",), 0), (("model=musicnn", "model.original=true", "dropout=0.1"), 0)


@pytest.mark.parametrize("rate", ["null", "16000"])
def test_networks_stand_beside_samplecnn(runs: Any, rate: str) -> None:
    """They have no width, a dropout by their own papers, and hear 16,000 Hz, whether it is said or not."""
    (group,) = groups(
        runs(*(((*said, f"rate={rate}"), seed) for said, seed in NETWORKS), ((f"rate={rate}",), 0))
    )
    assert [one.label for one in group.architectures] == [
        "SE, multi",
        "FCN",
        "Musicnn original dropout 0.1",
    ]
    assert group.settings.get("rate") == (None if rate == "null" else 16000)
    assert group.settings["width"] == 128


def test_a_network_is_compared_with_basic_and_se(runs: Any) -> None:
    read = runs((("block=basic",), 0), (("block=se",), 0), (("model=fcn",), 0), (("multi=false",), 0))
    (group,) = groups(read, draw(read, draws=5, seed=0))
    table = differences(group)
    assert table is not None
    pairs = ("SE - Basic, multi", "FCN - Basic, multi", "FCN - SE, multi", "SE: multi - no multi")
    assert [row["comparison"] for row in table.records] == [pair.replace("- ", f"{MINUS} ") for pair in pairs]


def test_a_network_at_the_rate_of_samplecnn_stands_beside_it(runs: Any) -> None:
    se, fcn, other = (), ("model=fcn", "rate=22050"), ("model=fcn", "rate=32000")
    found = groups(runs((se, 0), (fcn, 0), (("model=fcn",), 0), (other, 0)))
    assert [[one.label for one in group.architectures] for group in found] == [
        ["SE, multi", "FCN", "FCN rate 22050"],
        ["FCN rate 32000"],
    ]
    assert group_names(found) == ["rate=null", "rate=32000"]


def test_options_of_a_class_are_named_only_where_they_differ_within_it(runs: Any) -> None:
    paper, once = (("schedule=paper",), 0), ("schedule=onecycle", "trainer.max_epochs=8")
    found = groups(runs(paper, (once, 0), ((*once, "schedule.learning_rate=0.02"), 0)))
    assert [name.partition(", trainer")[0] for name in group_names(found)] == [
        "schedule=PaperSchedule, schedule.learning_rate=0.01",
        "schedule=OneCycle, schedule.learning_rate=0.1",
        "schedule=OneCycle, schedule.learning_rate=0.02",
    ]


def test_where_and_how_a_run_was_watched_makes_no_group(runs: Any) -> None:
    found = groups(
        runs(
            (("block=se", "data.root=here", "logger=none"), 0),
            (("block=basic", "data.root=there", "logger=csv", "fast=false"), 0),
        )
    )
    assert len(found) == 1
    assert group_names(found) == [""]


def test_departures_from_the_paper(runs: Any) -> None:
    (paper,) = groups(runs((("block=se",), 0)))
    assert paper.departures() == []
    (other,) = groups(runs((("width=32", "schedule=onecycle", "trainer.max_epochs=8"), 0)))
    assert "width=32 (the paper: 128)" in other.departures()
    assert "schedule=OneCycle (the paper: PaperSchedule)" in other.departures()
    assert "trainer.max_epochs=8 (the paper: null)" in other.departures()


def test_scores_of_the_paper_are_of_what_it_trained() -> None:
    """Its ReSE-2 had weight decay; other splits, options and recipes are not in its Table 1."""
    se = Architecture("se", {"alpha": 16.0}, True, 0.0, (), split=MTAT)
    rese2 = replace(se, block="rese2", weight_decay=DAGGER)
    assert (se.paper_auc, replace(se, multi=False).paper_auc, rese2.paper_auc) == (0.9111, 0.9083, 0.9113)
    others = (
        {"split": None},
        {"options": {"alpha": 8.0}},
        {"recipe": "ema"},
        {"start": "from x"},
        {"clips": 9},
    )
    assert {replace(se, **other).paper_auc for other in others} == {None}
    assert replace(rese2, weight_decay=0.0).paper_auc is None


def test_a_block_of_ones_own(runs: Any) -> None:
    own = ("block=custom", "block.name=mine", "block._target_=my.Mine")
    (group,) = groups(
        runs((("block=se",), 0), ((*own, "+block.window=5"), 0), ((*own, "+block.window=7"), 0))
    )
    assert labels_and_seeds(group) == [
        ("SE, multi", (0,)),
        ("mine window 5, multi", (0,)),
        ("mine window 7, multi", (0,)),
    ]
    assert not group.architectures[1].in_table1


def test_different_splits_are_refused(tmp_path: Path) -> None:
    made = [make_run(tmp_path / name) for name in ("a", "b")]
    made.append(make_run(tmp_path / "c", truth=labels(50, 8)))
    found = [read_run(folder) for folder in made]
    with pytest.raises(UserError) as refused:
        one_split(found)
    message = str(refused.value)
    assert "tested on different clips or tags" in message
    assert "data mini, split clean, 8 tags, split hash 3c8aaaaaaaaa: 2 runs\n    a\n    b" in message
    assert "split hash 328aaaaaaaaa: 1 run\n    c" in message
    assert "tags that not all have" not in message
    assert "--only" in message
    assert one_split(found, "328") == found[2:]
    with pytest.raises(UserError, match=r"--only ff: .* begins so; there are 328aaaaaaaaa, 3c8aaaaaaaaa"):
        one_split(found, "ff")
    with pytest.raises(UserError, match="Choose one with --only"):
        one_split(found, "3")


def test_other_tags_under_one_split_hash_are_refused_and_named(tmp_path: Path) -> None:
    found = [read_run(make_run(tmp_path / name)) for name in ("a", "b")]
    per_tag = found[1].results.test.per_tag
    per_tag["another"] = per_tag.pop("tag 3")
    with pytest.raises(UserError) as refused:
        one_split(found)
    message = str(refused.value)
    assert "tags that not all have: tag 3\n    a" in message
    assert "tags that not all have: another\n    b" in message
    assert message.endswith("\nName the runs of one of them alone")  # for which --only would be of no use


def test_many_runs_of_another_split_are_counted(tmp_path: Path) -> None:
    found = [read_run(make_run(tmp_path / str(seed), seed=seed)) for seed in range(9)]
    found.append(read_run(make_run(tmp_path / "c", truth=labels(50, 8))))
    with pytest.raises(UserError, match="and 3 more"):
        one_split(found)


def test_what_is_missing(runs: Any) -> None:
    found = groups(
        runs(
            (("block=se",), 0),
            (("block=se",), 1),
            (("block=se",), 2),
            (("block=basic",), 0),
            (("block=se", "block.alpha=8"), 0),
            (("block=rese2", "weight_decay=1e-5"), 0),
        )
    )
    assert missing(found, [""]) == [
        "Table 1 lacks: Basic, no multi; SE, no multi; Res-1, multi; Res-1, no multi; Res-2, multi; "
        "Res-2, no multi; ReSE-1, multi; ReSE-1, no multi; ReSE-2†, multi; ReSE-2†, no multi.",
        "The alpha curve lacks: SE alpha 0.125, multi; SE alpha 0.25, multi; SE alpha 0.5, multi; "
        "SE alpha 1, multi; SE alpha 2, multi; SE alpha 4, multi; SE alpha 32, multi; SE alpha 64, multi.",
        "The weight decay grid lacks: SE decay 1e-5, multi; SE†, multi; SE decay 1e-3, multi; Res-2, multi; "
        "Res-2 decay 1e-5, multi; Res-2†, multi; Res-2 decay 1e-3, multi; ReSE-2, multi; ReSE-2†, multi; "
        "ReSE-2 decay 1e-3, multi.",
        "In Table 1, seed 1 is missing of Basic (multi); others have it.",
        "In Table 1, seed 2 is missing of Basic (multi); others have it.",
    ]
    assert missing(groups(runs((("block=se", "block.alpha=8"), 0))), [""])[-2:] == [
        "No run is of Table 1: samplecnn train -m experiment=table1",
        "No run is of the weight decay grid: samplecnn train -m experiment=weight_decay",
    ]
