"""Results and configurations: what is written is what is read, and what earlier versions wrote too."""

import json
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

import samplecnn
from analysis.made_runs import make_run
from samplecnn.analysis.statistics import results_with_intervals
from samplecnn.runs import results
from samplecnn.runs.config import config_hash, read_config, write_config
from samplecnn.runs.errors import RunError
from samplecnn.runs.results import Results, read_results, versions, write_results

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", backend="stem", segments_per_second=1.5, peak_memory_bytes=7)


def test_the_version_of_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(results, "version", missing)
    assert versions()["samplecnn"] == samplecnn.__version__


def test_what_is_written_is_what_is_read(run: Path) -> None:
    before = json.loads((run / "results.json").read_text())
    results, config = read_results(run), read_config(run)
    write_results(run, results)
    write_config(run, config)
    after = json.loads((run / "results.json").read_text())
    assert after == before
    assert list(after) == list(results.as_dict())
    assert read_results(run) == results
    assert read_config(run) == config
    assert config_hash(config.plain) == results.config_hash
    write_config(run, replace(config, plain={**config.plain, "resume": str(run)}))
    assert read_config(run) == config


def test_runs_of_earlier_versions(run: Path) -> None:
    """A backend was called a path; values that were not there yet are not needed."""
    plain = json.loads((run / "results.json").read_text())
    plain["path"] = plain.pop("backend")
    for key in ("segments_per_second", "peak_memory_bytes", "versions"):
        del plain[key]
    results = Results.read(plain)
    assert results.backend == "stem"
    assert "segments_per_second" not in results.as_dict()
    committed = sorted(EXPERIMENTS.rglob("results.json"))
    assert committed
    for path in committed:
        stored = json.loads(path.read_text())
        if "path" in stored:
            stored["backend"] = stored.pop("path")
        assert json.loads(json.dumps(read_results(path.parent).as_dict())) == stored
        assert config_hash(read_config(path.parent).plain) == stored["config_hash"]


def test_intervals_stay_with_their_scores(run: Path) -> None:
    results = results_with_intervals(run, draws=50)
    plain = json.loads(json.dumps(results.as_dict()))
    assert plain["interval"].startswith("95 % intervals, from 50 draws")
    low, high = plain["test"]["roc_auc_interval"]
    assert low < plain["test"]["roc_auc"] < high
    assert all({"roc_auc_interval", "pr_auc_interval"} <= set(s) for s in plain["test"]["per_tag"].values())
    assert json.loads(json.dumps(Results.read(plain).as_dict())) == plain
    assert "roc_auc_interval" not in replace(results, interval=None).as_dict()["test"]
    plain["test"]["roc_auc_interval"] = [0.5, 2]
    with pytest.raises(RunError, match=r"test\.roc_auc_interval=\[0\.5, 2\] must be null or two numbers"):
        Results.read(plain)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"width": "wide"}, r"width='wide' must be a whole number of at least 1"),
        ({"block": "se"}, r"block='se' must be an object with a name"),
        ({"data": [1]}, r"data is a list, not an object"),
        (
            {"data": {"name": "../../etc", "split": "clean", "top": None}},
            r"data\.name='\.\./\.\./etc' must be a name",
        ),
        ({"trainer": {}}, r"has no trainer\.precision"),
        ({"seed": True}, r"seed=True must be a whole number"),
    ],
)
def test_configurations_that_are_refused(run: Path, change: dict[str, Any], reason: str) -> None:
    (run / "config.yaml").write_text(json.dumps({**read_config(run).plain, **change}))
    with pytest.raises(RunError, match=rf"config\.yaml:? {reason}"):
        read_config(run)
