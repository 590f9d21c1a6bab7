"""Scores by one number, the training clips: what is compared with what, in table, chart and page."""

import math
from pathlib import Path

import pytest

from analysis.made_report import Made, make
from analysis.made_runs import labels, make_run
from samplecnn.analysis.comparison import student
from samplecnn.analysis.grid import groups
from samplecnn.analysis.searches import SEARCHES, find_series
from samplecnn.cli.report import print_report
from samplecnn.runs.run import read_run

MODEL, OTHER = "init=models/demo", "+init_sha256=" + "a" * 64
SIZES = ("10", "30", "null")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two seeds; the trained model helps much with 10 clips, less with 30, and not at all with all."""
    runs = tmp_path_factory.mktemp("runs")
    truth = labels(200, 6, shares=(0.4, 0.2))
    for start, lead in (((), (0.0, 0.0, 0.0)), ((MODEL, OTHER), (1.2, 0.6, 0.0))):
        for number, size in enumerate(SIZES):
            for seed in (0, 1):
                make_run(
                    runs / f"{len(start)}-{size}-{seed}",
                    *(f"data.train_clips={size}", *start),
                    seed=seed,
                    truth=truth,
                    separation=0.5 + 0.7 * number + lead[number],
                )
    make_run(runs / "frozen", "data.train_clips=10", MODEL, OTHER, "freeze=features", truth=truth)
    return make(runs, tmp_path_factory.mktemp("out"))


def test_what_stands_beside_what(made: Made) -> None:
    rows = {(row["series"], row["clips"]): row for row in made.table("few")}
    start = "SE, multi, from demo"
    assert list(rows) == [
        *((f"SE, multi, {s}", c) for s in ("random weights",) for c in ("10", "30", "all")),
        *((start, c) for c in ("10", "30", "all")),
        (f"{start}, freeze=features", "10"),
    ]
    for clips in ("10", "30", "all"):
        scratch, tuned = (rows[f"SE, multi, {s}", clips] for s in ("random weights", "from demo"))
        assert scratch["seeds"] == tuned["seeds"] == "2"
        assert (scratch["difference"], scratch["distinguishable"]) == ("", "")
        difference = float(tuned["roc_auc"]) - float(scratch["roc_auc"])
        assert float(tuned["difference"]) == pytest.approx(difference, abs=1e-5)
        low, high = (float(tuned[f"clips_and_seeds_{end}"]) for end in ("low", "high"))
        assert low < difference < high
        assert tuned["distinguishable"] == ("no" if low <= 0 <= high else "yes")
    assert rows[start, "10"]["distinguishable"] == "yes"
    assert float(rows[start, "all"]["difference"]) < 0.1


def test_seeds_vary_as_those_with_as_many_clips_do(made: Made) -> None:
    """Of each number of clips two seeds from random weights and two from the model are pooled."""
    rows = {(row["series"].rpartition(" ")[2], row["clips"]): row for row in made.table("few")}
    for clips in ("30", "all"):
        pooled = sum(float(rows[start, clips]["roc_auc_sd"]) ** 2 for start in ("weights", "demo")) / 2
        tuned = {
            key: float(value) for key, value in rows["demo", clips].items() if key.endswith(("_low", "high"))
        }
        difference = float(rows["demo", clips]["difference"])
        of_seeds = student(2) * math.sqrt(pooled)  # two seeds on each side
        for end in ("low", "high"):
            of_clips = abs(tuned[f"clips_{end}"] - difference)
            both = abs(tuned[f"clips_and_seeds_{end}"] - difference)
            assert both == pytest.approx(math.hypot(of_clips, of_seeds), rel=1e-3)


def test_few_clips_do_not_widen_other_differences(tmp_path: Path) -> None:
    truth = labels(200, 6, shares=(0.4, 0.2))
    for seed, spread in enumerate((-1, 1)):
        for multi in ("true", "false"):
            folder = tmp_path / "all" / f"{multi}-{seed}"
            make_run(folder, f"multi={multi}", seed=seed, truth=truth, separation=2 + 0.01 * spread)
        for clips in (10, 30):
            folder = tmp_path / "few" / f"{clips}-{seed}"
            few = f"data.train_clips={clips}"
            make_run(folder, few, seed=seed, truth=truth, separation=1 + 0.5 * spread)
    (alone,), (beside,) = (
        make(runs, tmp_path / f"out-{runs.name}").table("differences")
        for runs in (tmp_path / "all", tmp_path)
    )
    assert beside == alone


def test_in_the_terminal(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    print_report(made.report)
    out = capsys.readouterr().out
    assert "Few examples" in out
    assert "SE, multi, from demo, freeze=features" in out


def test_the_other_tables_have_what_is_trained_on_all_clips(made: Made) -> None:
    assert [row["cell"] for row in made.table("table1")] == ["SE, multi"]
    assert "differences.csv" not in {path.name for path in made.out.iterdir()}
    assert len(made.report.groups) == 1


def test_the_chart(made: Made) -> None:
    (section,) = (s for s in made.report.groups[0].sections if s.title == "Few examples")
    figure, table = section.contents
    assert "from a trained model" in made.text
    assert made.text.count("SE, multi, from demo, training clips 10: 0.") == 1
    captions = [caption for caption, _ in figure.panels]  # type: ignore[union-attr]
    assert captions == ["SE, multi, from demo", "SE, multi, from demo, freeze=features"]
    for _, svg in figure.panels:  # type: ignore[union-attr]
        assert svg.count('class="line single"') == svg.count('class="line multi"') == 1
        assert ">10<" in svg
        assert ">all<" in svg
    assert (figure.title, table.title) == ("Scores by training clips", "Few examples")


def test_one_number_of_clips_is_no_curve(tmp_path: Path) -> None:
    tuned = make_run(tmp_path / "tuned", MODEL, OTHER)
    runs = [read_run(folder) for folder in (tuned, make_run(tmp_path / "scratch"))]
    (group,) = groups(runs)
    assert [find_series(search, group) for search in SEARCHES] == [[], [], []]
    assert [one.label for one in group.architectures] == ["SE, multi", "SE, multi, from demo"]
    made = make(tmp_path, tmp_path / "out")
    assert [row["comparison"] for row in made.table("differences")] == [
        "SE, multi, from demo \N{MINUS SIGN} random weights"
    ]
    scratch = group.from_scratch(group.architectures[1])
    assert scratch is group.architectures[0]


def test_other_weights_of_the_same_name_are_kept_apart(tmp_path: Path) -> None:
    runs = [
        read_run(make_run(tmp_path / digit, MODEL, "+init_sha256=" + digit * 64, f"seed={seed}"))
        for seed, digit in enumerate("ab")
    ]
    (group,) = groups(runs)
    assert len(group.architectures) == 2
