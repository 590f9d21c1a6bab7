"""The report as its readers have it: the page, the CSV files, the command."""

import base64
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from analysis.made_report import Made, Page, make
from analysis.made_runs import labels, make_run
from samplecnn.analysis.published import PUBLISHED, SPLITS
from samplecnn.analysis.report import make_report
from samplecnn.cli import main
from samplecnn.errors import UserError

SEPARATIONS = {"basic": 1.7, "se": 1.9, "res1": 1.6, "res2": 1.8, "rese1": 1.75, "rese2": 2.6}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Table 1 with two seeds (one of them missing once), and parts of both searches, on the built-in set."""
    folder = tmp_path_factory.mktemp("report")
    for block, separation in SEPARATIONS.items():
        decay = ("weight_decay=1e-4",) if block == "rese2" else ()
        for multi in ("true", "false"):
            for seed in (0, 1):
                if (block, multi, seed) != ("res1", "false", 1):
                    make_run(
                        folder / "runs" / "table1" / f"{block}-{multi}-{seed}",
                        *(f"block={block}", f"multi={multi}", *decay),
                        seed=seed,
                        separation=separation + 0.05 * (multi == "true"),
                    )
    for alpha in (1, 64):
        make_run(folder / "runs" / "alpha" / str(alpha), f"block.alpha={alpha}", separation=1.8)
    for decay_of_se in ("1e-5", "1e-3"):
        make_run(folder / "runs" / "decay" / decay_of_se, f"weight_decay={decay_of_se}", separation=1.8)
    return make(folder / "runs", folder / "out")


def test_scores_are_means_over_seeds_with_their_spread(made: Made) -> None:
    rows = made.table("table1")
    assert len(rows) == 12
    for row in rows:
        tests = made.results("table1", row["block"], row["aggregation"] == "multi")
        roc = [test["roc_auc"] for test in tests]
        assert float(row["roc_auc"]) == pytest.approx(np.mean(roc), abs=1e-5)
        assert float(row["pr_auc"]) == pytest.approx(np.mean([t["pr_auc"] for t in tests]), abs=1e-5)
        assert int(row["seeds"]) == len(roc)
        if len(roc) > 1:
            assert float(row["roc_auc_sd"]) == pytest.approx(np.std(roc, ddof=1), rel=1e-3)
        else:
            assert row["roc_auc_sd"] == ""
        for kind in ("roc_auc", "pr_auc"):
            assert 0 < float(row[f"{kind}_low"]) < float(row[kind]) + 1e-6
            assert float(row[kind]) - 1e-6 < float(row[f"{kind}_high"]) < 1


def test_differences_are_those_of_the_scores(made: Made) -> None:
    scores = {row["cell"]: float(row["roc_auc"]) for row in made.table("table1")}
    rows = {row["comparison"]: row for row in made.table("differences")}
    assert len(rows) == 5 * 2 + 6
    se = rows["SE \N{MINUS SIGN} Basic, no multi"]
    assert float(se["difference"]) == pytest.approx(
        scores["SE, no multi"] - scores["Basic, no multi"], abs=2e-6
    )
    assert float(se["clips_low"]) <= float(se["difference"]) <= float(se["clips_high"])
    assert float(se["clips_and_seeds_low"]) < float(se["clips_low"])
    multi = rows["ReSE-2\N{DAGGER}: multi \N{MINUS SIGN} no multi"]
    expected = scores["ReSE-2\N{DAGGER}, multi"] - scores["ReSE-2\N{DAGGER}, no multi"]
    assert float(multi["difference"]) == pytest.approx(expected, abs=2e-6)
    # Res-1 has one seed here, and is the less certain for it: as far apart as seeds of the others are.
    alone, several = rows["Res-1 \N{MINUS SIGN} Basic, no multi"], se

    def of_seeds(row: dict[str, str]) -> float:
        ends = [float(row["difference"]) - float(row[f"{kind}_low"]) for kind in ("clips_and_seeds", "clips")]
        return float(np.sqrt(ends[0] ** 2 - ends[1] ** 2))

    assert of_seeds(alone) / of_seeds(several) == pytest.approx(
        np.sqrt((1 + 1 / 2) / (1 / 2 + 1 / 2)), rel=1e-2
    )
    for row in rows.values():
        low, high = (float(row[f"clips_and_seeds_{end}"]) for end in ("low", "high"))
        assert row["distinguishable"] == ("no" if low <= 0 <= high else "yes")


def test_the_finding_is_of_the_numbers(made: Made) -> None:
    scores = {row["cell"]: float(row["roc_auc"]) for row in made.table("table1")}
    ranked = sorted(scores, key=lambda cell: -scores[cell])
    (group,) = made.report.groups
    first, second = group.findings[:2]
    assert first.startswith(
        f"{ranked[0]} is the best of 12 architectures, with a macro ROC-AUC of {scores[ranked[0]]:.4f}"
    )
    assert "mean of 2 seeds" in first
    assert f"over {ranked[1]} (" in second
    behind = [row for row in made.table("best") if row["behind"] == "yes"]
    assert 0 < len(behind) < 11
    assert second.endswith(f" {len(behind)} of the 11 others can be called worse.")
    assert first in made.text


def test_cost_is_relative_to_basic(made: Made) -> None:
    rows = {row["cell"]: row for row in made.table("cost")}
    assert float(rows["SE, multi"]["relative"]) == pytest.approx(1.08)
    assert float(rows["ReSE-2\N{DAGGER}, no multi"]["relative"]) == pytest.approx(1.8)
    assert float(rows["Basic, multi"]["seconds_per_epoch"]) == pytest.approx(10)
    assert [rows[f"{block}, multi"]["paper"] for block in ("Basic", "SE", "Res-1")] == ["1", "1.08", ""]
    assert rows["SE, multi"]["train_seconds"] == "54"


def test_the_searches(made: Made) -> None:
    alpha = made.table("alpha")
    assert [row["value"] for row in alpha] == ["1", "16", "64"]
    scores = {row["value"]: float(row["roc_auc"]) for row in alpha}
    assert float(alpha[0]["difference"]) == pytest.approx(scores["1"] - scores["16"], abs=2e-6)
    assert alpha[1]["difference"] == alpha[1]["distinguishable"] == ""
    low, high = (float(alpha[2][f"clips_and_seeds_{end}"]) for end in ("low", "high"))
    assert alpha[2]["distinguishable"] == ("no" if low <= 0 <= high else "yes")
    assert [(row["block"], row["value"]) for row in made.table("weight_decay")] == [
        ("se", "0"),
        ("se", "1e-05"),
        ("se", "0.001"),
    ]
    assert "alpha" not in {row["cell"] for row in made.table("table1")}


def test_tags(made: Made) -> None:
    rows = made.table("per_tag")
    assert len(rows) == 16 * 8  # all architectures of all tables
    best = made.table("best")
    assert best
    (shown,) = [t for _, t in made.report.tables if t.name == "per_tag"]
    assert len(shown.rows) == 8
    aucs = [float(row["roc_auc"]) for row in rows[:8]]
    assert aucs == sorted(aucs, reverse=True)


def test_what_is_missing_is_said(made: Made) -> None:
    assert made.report.missing == [
        "The alpha curve lacks: SE alpha 0.125, multi; SE alpha 0.25, multi; SE alpha 0.5, multi; "
        "SE alpha 2, multi; SE alpha 4, multi; SE alpha 8, multi; SE alpha 32, multi.",
        "The weight decay grid lacks: SE†, multi; Res-2 decay 1e-5, multi; Res-2†, multi; "
        "Res-2 decay 1e-3, multi; ReSE-2, multi; ReSE-2 decay 1e-5, multi; ReSE-2 decay 1e-3, multi.",
        "In Table 1, seed 1 is missing of Res-1 (no multi); others have it.",
    ]
    assert all(sentence in made.text for sentence in made.report.missing)
    assert not made.report.problems


def test_the_papers_numbers_stand_apart_from_those_of_other_data(made: Made) -> None:
    assert "The built-in set is synthetic" in made.report.caution
    assert {row["paper"] for row in made.table("table1")} == {""}
    assert "table2" not in {table.name for _, table in made.report.tables}
    for _, table in made.report.tables:
        if table.name in ("table1", "differences"):
            assert "paper" not in [column.header for column in table.columns]
    published = made.table("published")
    assert {row["split"] for row in published} == {*SPLITS.values(), "split not known to be the same"}
    assert len(published) == 12 + len(PUBLISHED)


def test_the_page_needs_nothing_beside_it(made: Made) -> None:
    page = Page(made.page)
    assert not page.all("link", "img", "iframe", "object")
    (script,) = re.findall(r"<script>(.*?)</script>", made.page, re.DOTALL)
    assert len(page.all("script")) == 1
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (tag["content"] or "" for tag in page.all("meta") if "http-equiv" in tag)
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert all("src" not in attributes for _, attributes in page.tags)
    assert "@import" not in made.page
    assert "url(" not in made.page
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for anchor in page.all("a"):
        href = anchor["href"] or ""
        assert href[1:] in ids if href.startswith("#") else (made.out / href).is_file()
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)


def test_the_page_can_be_heard(made: Made) -> None:
    page = Page(made.page)
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("table")) == len(page.all("caption")) > 10
    assert {cell.get("scope") for cell in page.all("th")} == {"col", "row"}
    charts = [svg for svg in page.all("svg") if svg["class"] == "chart"]
    assert len(charts) >= 12
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in charts)
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in page.all("div") if box.get("role"))
    assert "prefers-color-scheme: dark" in made.page


def test_columns_have_names_of_their_own_and_the_best_is_marked(made: Made) -> None:
    for _, table in made.report.tables:
        assert len(set(table.heads)) == len(table.heads), table.name
    found = {table.name: table for _, table in made.report.tables}
    assert found["table1"].heads[-3:] == ["seeds", "PR-AUC", "95 % interval\nof PR-AUC"]
    scores = [float(row["roc_auc"]) for row in made.table("table1")]
    column = [row[1] for row in found["table1"].cells]
    assert [cell.mark for cell in column].count("highest") == 1
    assert column[int(np.argmax(scores))].mark == "highest"
    marks = [mark for mark in Page(made.page).all("span") if mark.get("aria-label") == "highest"]
    assert len(marks) == 2 + 1 + 1  # both scores of Table 1, and one of each search
    # What cannot be compared is not ranked.
    assert not any(cell.mark for row in found["per_tag"].cells for cell in row)
    assert not any(cell.mark for row in found["published"].cells for cell in row)


def test_the_page_names_no_place_and_no_time(made: Made, tmp_path: Path) -> None:
    """The same runs give the same bytes, so that a report can be committed."""
    assert str(made.runs.parent) not in made.page
    again = make(made.runs, tmp_path / "again")
    for path in made.out.iterdir():
        assert (again.out / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_report_replaces_an_earlier_one_and_nothing_else(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "alpha.csv").write_text("mine")
    (out / "notes.txt").write_text("mine")
    single = made.runs / "table1" / "basic-true-0"
    make_report([single], out, draws=5)
    assert (out / "alpha.csv").read_text() == "mine"  # there was no report here before
    make_report([made.runs], out, draws=5)
    assert (out / "alpha.csv").read_text() != "mine"
    page, more = out / "index.html", '<a href="leads.csv">leads.csv</a> <a href="../up.csv">'
    page.write_text(page.read_text().replace('<a href="runs.csv">', f'{more}</a> <a href="runs.csv">'))
    for name in ("leads.csv", "other.csv", "../up.csv"):  # an earlier version's, and others'
        (out / name).write_text("there")
    make_report([single], out, draws=5)
    assert not (out / "alpha.csv").exists()
    assert not (out / "leads.csv").exists()
    assert (out / "other.csv").read_text() == (tmp_path / "up.csv").read_text() == "there"
    assert (out / "notes.txt").read_text() == "mine"


def test_a_page_that_is_no_report_is_not_replaced(made: Made, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<title>Mine</title><a href="runs.csv">runs.csv</a>')
    (tmp_path / "runs.csv").write_text("mine")
    with pytest.raises(UserError, match=r"index\.html is no earlier report, which would be replaced; name"):
        make_report([made.runs / "table1" / "basic-true-0"], tmp_path, draws=5)
    assert "Mine" in (tmp_path / "index.html").read_text()
    assert (tmp_path / "runs.csv").read_text() == "mine"


def test_on_the_command_line(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["report", str(made.runs), "--out", str(out), "--draws", "20", "--seed", "1"]) == 0
    said = capsys.readouterr().out
    assert "Scores on the test split" in said
    assert "SE, no multi" in said
    assert made.report.missing[0] in said
    assert said.endswith(f"\n{out / 'index.html'}\n")
    with pytest.raises(SystemExit):
        main(["report", str(made.runs), "--seed", "-1"])
    assert "'-1' is not a whole number of at least 0" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nothing"), "--out", str(out)]) == 1
    assert "samplecnn report: there is no folder" in capsys.readouterr().err
    make_run(tmp_path / "two" / "0")
    make_run(tmp_path / "two" / "1", truth=labels(50, 8))
    assert main(["report", str(tmp_path / "two"), "--out", str(tmp_path / "no")]) == 1
    assert "cannot be compared" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    assert main(["report", str(tmp_path / "two"), "--out", str(tmp_path / "one"), "--only", "328"]) == 0
