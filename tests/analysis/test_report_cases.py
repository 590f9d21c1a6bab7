"""Reports of runs that are few, other, incomplete or contradictory: what they say, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from analysis.made_report import Page, make
from analysis.made_runs import labels, make_run
from samplecnn.analysis.published import MTAT, PUBLISHED
from samplecnn.analysis.report import make_report
from samplecnn.errors import UserError
from samplecnn.model.blocks import BLOCKS, Basic

SEPARATIONS = {"basic": 1.7, "se": 1.9, "res1": 1.6, "res2": 1.8, "rese1": 1.75, "rese2": 2.6}


def test_time_on_other_hardware_is_not_compared(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "0", "block=basic", hardware="one machine")
    make_run(tmp_path / "runs" / "1", "block=se", hardware="another")
    rows = {row["cell"]: row for row in make(tmp_path / "runs", tmp_path / "out", 10).table("cost")}
    assert rows["SE, multi"]["relative"] == ""
    assert rows["Basic, multi"]["relative"] == "1"


def test_what_runs_say_of_themselves_is_escaped(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "<b>", hardware="<img src=x onerror=alert(1)>")
    make_run(
        tmp_path / "runs" / "own", "block=custom", "block.name=mine", "block._target_=a.B", "+block.x='<i>'"
    )
    for folder in (run, tmp_path / "runs" / "own"):
        results = json.loads((folder / "results.json").read_text())
        per_tag = results["test"]["per_tag"]
        results["test"]["per_tag"] = {
            "</svg><script>1</script>" if tag == "tag 0" else tag: value for tag, value in per_tag.items()
        }
        (folder / "results.json").write_text(json.dumps(results))
        with np.load(folder / "predictions.npz") as file:
            stored = dict(file)
        stored["tags"] = np.array(list(results["test"]["per_tag"]))
        np.savez(folder / "predictions.npz", **stored)
    made = make(tmp_path / "runs", tmp_path / "out", 10)
    page = Page(made.page)
    assert not page.all("img", "b", "i")
    assert len(page.all("script")) == 1  # our own
    assert "<script>1" not in made.page
    assert "</svg><script>1</script>" in page.words
    assert "mine x <i>, multi" in page.words


def test_on_the_papers_split_the_papers_numbers_stand_beside(tmp_path: Path) -> None:
    truth = labels(4332, 50, shares=(0.3, 0.01))
    for block in ("basic", "se"):
        make_run(tmp_path / "runs" / block, "data=mtat", f"block={block}", truth=truth, epochs=1)
    made = make(tmp_path / "runs", tmp_path / "out", 20)
    assert made.report.title == "Sample-level CNNs on MagnaTagATune"
    assert {row["cell"]: row["paper"] for row in made.table("table1")} == {
        "Basic, multi": "0.9077",
        "SE, multi": "0.9111",
    }
    (difference,) = made.table("differences")
    assert difference["paper"] == "0.0034"
    among = {row["model"]: row["source"] for row in made.table("table2")}
    theirs = {row.model + " (ensemble of three)" * row.ensemble for row in PUBLISHED if row.split == MTAT}
    assert set(among) == theirs | {"Basic, multi"}
    assert among["Basic, multi"] == "this report"
    assert {"Harmonic CNN", "SampleCNN multi-features (ensemble of three)"} < theirs
    assert "Timbre CNN" not in theirs  # of the split with untagged clips, or of one that is not known
    assert "the paper has" in made.report.groups[0].findings[0]
    others = [row["model"] for row in made.table("published")]
    assert "End-to-end" in others
    assert "Basic, multi" not in others


@pytest.mark.parametrize(
    ("overrides", "clips", "tags"),
    [
        (("data=mtat", "data.split=pons"), 4332, 50),
        (("data=mtat",), 4331, 50),
        (("data=mtat",), 4332, 49),
        (("data=mini", "data.name=mtat"), 4332, 50),
    ],
)
def test_what_only_looks_like_the_papers_split_does_not_count(
    tmp_path: Path, overrides: tuple[str, ...], clips: int, tags: int
) -> None:
    make_run(tmp_path / "0", *overrides, truth=labels(clips, tags), epochs=1)
    made = make(tmp_path / "0", tmp_path / "out", 2)
    assert not (made.out / "table2.csv").exists()
    assert {row["paper"] for row in made.table("table1")} == {""}


def test_one_seed_has_no_spread_and_it_is_said(tmp_path: Path) -> None:
    for block in ("basic", "se"):
        make_run(tmp_path / "runs" / block, f"block={block}")
    made = make(tmp_path / "runs", tmp_path / "out", 50)
    (table,) = [t for _, t in made.report.tables if t.name == "table1"]
    assert "sd over seeds" not in [column.header for column in table.columns]
    assert "what another seed would give is not known" in table.note
    (effects,) = [t for _, t in made.report.tables if t.name == "differences"]
    assert "95 %, clips and seeds" not in [column.header for column in effects.columns]
    assert effects.note.endswith("another seed may change it.")
    assert "one seed)" in made.report.groups[0].findings[0]
    assert made.report.groups[0].findings[1].endswith("another seed may change the order.")


def test_without_predictions_there_are_no_intervals_and_it_is_said(tmp_path: Path) -> None:
    for block in ("basic", "se"):
        (make_run(tmp_path / "runs" / block, f"block={block}") / "predictions.npz").unlink()
    made = make(tmp_path / "runs", tmp_path / "out")
    assert all(row["roc_auc"] and not row["roc_auc_low"] for row in made.table("table1"))
    assert not (made.out / "differences.csv").exists()
    assert made.report.problems == [
        f"runs/{block} has no predictions.npz: no interval for its architecture" for block in ("basic", "se")
    ]
    assert made.report.groups[0].findings[1].endswith("whether its lead is more than chance cannot be said.")
    assert "therefore no intervals" in made.page


def test_where_the_others_have_no_predictions(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "se", separation=3.0)
    (make_run(tmp_path / "runs" / "basic", "block=basic", separation=1.0) / "predictions.npz").unlink()
    made = make(tmp_path / "runs", tmp_path / "out", 20)
    assert made.report.groups[0].findings[1].startswith("No other has predictions of single clips")


def test_a_cell_of_which_one_run_lacks_predictions_has_no_interval(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path / "runs" / f"se{seed}", seed=seed)
        make_run(tmp_path / "runs" / f"basic{seed}", "block=basic", seed=seed)
    (tmp_path / "runs" / "se1" / "predictions.npz").unlink()
    made = make(tmp_path / "runs", tmp_path / "out", 20)
    rows = {row["block"]: row for row in made.table("table1")}
    assert rows["se"]["roc_auc_low"] == ""
    assert rows["basic"]["roc_auc_low"] != ""
    both = [test["roc_auc"] for test in made.results(".", "se", True)]
    assert float(rows["se"]["roc_auc"]) == pytest.approx(np.mean(both), abs=1e-5)


def test_tags_without_positives_are_said(tmp_path: Path) -> None:
    truth = labels(60, 8, shares=(0.4, 0.2))
    truth[:, 3], truth[:, 4] = 0, 0
    truth[:2, 4], truth[:9, 5:] = 1, 1
    make_run(tmp_path / "0", truth=truth)
    made = make(tmp_path / "0", tmp_path / "out", 20)
    _, *more = made.report.groups[0].findings
    assert more[0] == "Left out of all means, without positive or without negative test clips: tag 3."
    assert more[1].startswith("Too few test clips for an interval: at least 50 are needed, and for nine tags")
    assert [row["roc_auc"] for row in made.table("per_tag") if row["tag"] == "tag 3"] == [""]
    for block in ("basic", "se"):
        make_run(tmp_path / "1" / block, f"block={block}", truth=np.zeros_like(truth))
    report = make_report([tmp_path / "1"], tmp_path / "out1", draws=5)
    assert not {"differences", "best"} & {table.name for _, table in report.tables}
    assert report.groups[0].findings == [
        "No tag has positive and negative test clips, so that no AUC is defined."
    ]


def test_other_settings_are_other_groups(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "0", "block=se")
    make_run(tmp_path / "runs" / "1", "block=basic", "width=32")
    make_run(tmp_path / "runs" / "2", "block=se", "width=32")
    made = make(tmp_path / "runs", tmp_path / "out", 20)
    assert [group.name for group in made.report.groups] == ["width=32", "width=128"]
    assert [sentence.partition(" lacks")[0] for sentence in made.report.missing[:2]] == [
        "With width=32: Table 1",
        "With width=128: Table 1",
    ]
    assert {(row["group"], row["cell"]) for row in made.table("table1")} == {
        ("width=32", "Basic, multi"),
        ("width=32", "SE, multi"),
        ("width=128", "SE, multi"),
    }
    assert [row["group"] for row in made.table("differences")] == ["width=32"]
    assert "nothing is averaged or compared across" in made.page


def test_a_block_of_ones_own_is_compared(tmp_path: Path) -> None:
    own = ("block=custom", "block.name=mine", "block._target_=my_module.Mine")
    for seed in range(4):
        make_run(tmp_path / "runs" / f"basic{seed}", "block=basic", seed=seed)
        make_run(tmp_path / "runs" / f"mine{seed}", *own, seed=seed, separation=4.0)
    make_run(tmp_path / "runs" / "se", "block=se", separation=2.1)
    made = make(tmp_path / "runs", tmp_path / "out", 100)
    assert [row["cell"] for row in made.table("table1")] == ["Basic, multi", "SE, multi", "mine, multi"]
    assert [row["comparison"] for row in made.table("differences")] == [
        f"{pair}, multi".replace("-", "\N{MINUS SIGN}")
        for pair in ("SE - Basic", "mine - Basic", "mine - SE")
    ]
    assert made.report.groups[0].findings[0].startswith("mine, multi is the best of 3")
    assert made.report.groups[0].findings[1].endswith("and all 2 others can be called worse.")


def test_runs_of_one_split_but_other_clips_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "0", seed=0)
    other = make_run(tmp_path / "runs" / "1", seed=1)
    with np.load(other / "predictions.npz") as file:
        stored = dict(file)
    stored["clip_ids"] = np.array([f"other {i}" for i in range(60)])
    np.savez(other / "predictions.npz", **stored)
    with pytest.raises(UserError, match="runs/1 and runs/0 say that they are of one split, but"):
        make_report([tmp_path / "runs"], tmp_path / "out")
    make_run(other, seed=1, truth=labels(60, 8, seed=1, shares=(0.4, 0.2)))  # the same clips, labelled anew
    with pytest.raises(UserError, match="runs/1 and runs/0 say that they are of one split, but"):
        make_report([tmp_path / "runs"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_order_of_clips_does_not_matter(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "0", "block=basic", noise=1)
    shuffled = make_run(tmp_path / "runs" / "1", "block=se", noise=1)
    order = np.random.default_rng(0).permutation(60)
    with np.load(shuffled / "predictions.npz") as file:
        stored = dict(file)
    for key in ("clip_ids", "labels", "probabilities"):
        stored[key] = stored[key][order]
    np.savez(shuffled / "predictions.npz", **stored)
    (difference,) = make(tmp_path / "runs", tmp_path / "out", 50).table("differences")
    assert [difference[key] for key in ("difference", "clips_low", "clips_high")] == ["0", "0", "0"]


def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"--out .*: .*/file is a file; name a folder"):
            make_report([tmp_path / "no runs"], out)
    assert (tmp_path / "file").read_text() == "mine"
    closed = Path("/proc")  # into which nobody writes, whoever runs the tests
    if closed.is_dir():
        with pytest.raises(UserError, match=r"nothing can be written into /proc \(.*\); name another folder"):
            make_report([tmp_path / "no runs"], closed / "report")


def test_a_lead_that_only_looking_made_is_no_finding(tmp_path: Path) -> None:
    """Of many equal architectures the best leads some other by more than one comparison explains."""
    for block in SEPARATIONS:
        for multi in ("true", "false"):
            make_run(
                tmp_path / "runs" / f"{block}-{multi}", f"block={block}", f"multi={multi}", separation=1.5
            )
    made = make(tmp_path / "runs", tmp_path / "out", 300)
    leads = made.table("best")
    assert any(float(row["clips_low"]) > 0 and row["behind"] == "no" for row in leads)
    assert all(row["behind"] == "no" for row in leads)
    assert "and none of the 11 others can be called worse" in made.report.groups[0].findings[1]


def test_of_few_test_clips_there_is_no_interval_and_no_verdict(tmp_path: Path) -> None:
    truth = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1], [0, 0, 1], [1, 0, 0], [0, 1, 0]], np.uint8)
    for block, separation in (("basic", 1.0), ("se", 3.0)):
        make_run(tmp_path / "runs" / block, f"block={block}", truth=truth, separation=separation)
    made = make(tmp_path / "runs", tmp_path / "out", 100)
    assert all(row["roc_auc"] and not row["roc_auc_low"] for row in made.table("table1"))
    (difference,) = made.table("differences")
    assert difference["difference"]
    assert difference["clips_low"] == difference["clips_high"] == ""
    assert difference["distinguishable"] == "too few clips"
    assert [row["behind"] for row in made.table("best")] == ["too few clips"]
    assert all(not row["roc_auc_low"] for row in made.table("per_tag"))
    _, lead, limit = made.report.groups[0].findings
    assert lead.endswith("may be chance: there are too few test clips to tell.")
    assert limit.startswith("Too few test clips for an interval: at least 50 are needed")


def test_a_verdict_is_that_of_the_interval_beside_it(tmp_path: Path) -> None:
    for number, separation in enumerate(SEPARATIONS.values()):
        for seed in (0, 1):
            folder = tmp_path / "runs" / f"{number}-{seed}"
            make_run(folder, f"block={[*SEPARATIONS][number]}", seed=seed, separation=2 * separation)
    made = make(tmp_path / "runs", tmp_path / "out", 200)
    for name, ends, verdict in (
        ("differences", "clips_and_seeds", "distinguishable"),
        ("best", "all_pairs", "behind"),
    ):
        rows = made.table(name)
        assert rows
        for row in rows:
            low, high = (float(row[f"{ends}_{end}"]) for end in ("low", "high"))
            assert row[verdict] == ("no" if low <= 0 <= high else "yes")


def test_a_seventh_block_stands_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a newcomer adds it, a class in `BLOCKS`; on the split where the paper's numbers are shown."""

    class Wide4(Basic):
        pass

    monkeypatch.setitem(BLOCKS, "wide4", Wide4)
    truth = labels(4332, 50, shares=(0.3, 0.01))
    for block in ("basic", "se"):
        make_run(tmp_path / "runs" / block, "data=mtat", f"block={block}", truth=truth, epochs=1)
    added = make_run(tmp_path / "runs" / "wide4", "data=mtat", "block=basic", truth=truth, epochs=1)
    for file in (added / "config.yaml", added / "results.json"):
        file.write_text(file.read_text().replace("name: basic", "name: wide4").replace('"basic"', '"wide4"'))
    made = make(tmp_path / "runs", tmp_path / "out", 20)
    papers = {row["cell"]: row["paper"] for row in made.table("table1")}
    assert papers == {"Basic, multi": "0.9077", "SE, multi": "0.9111", "Wide-4, multi": ""}
    compared = {row["comparison"]: row["paper"] for row in made.table("differences")}
    assert compared == {
        pair.replace("- ", "\N{MINUS SIGN} "): paper
        for pair, paper in (
            ("SE - Basic, multi", "0.0034"),
            ("Wide-4 - Basic, multi", ""),
            ("Wide-4 - SE, multi", ""),
        )
    }
    assert {row["cell"]: row["paper"] for row in made.table("cost")}["Wide-4, multi"] == ""
    assert "Wide-4, multi" in made.text
    assert not any("Wide" in sentence for sentence in made.report.missing)
