"""A run's folder: whose it is, and what is in it already."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Timer

import pytest

from samplecnn.files import locked
from samplecnn.runs.config import RunConfig, read_config
from samplecnn.runs.folder import LOCK
from samplecnn.training import job
from samplecnn.training.checkpoint_files import NEXT
from samplecnn.training.config import ConfigError
from samplecnn.training.job import LOG, discard, earlier_results, owned
from training.stores import write_run, write_store


def test_a_folder_that_another_has_is_left_alone(tmp_path: Path) -> None:
    """It may have no more in it than a log, while that one prepares its store."""
    run = tmp_path / "run"
    run.mkdir()
    (run / LOG).touch()
    with locked(run / LOCK):
        with pytest.raises(ConfigError, match="belongs to another process, which trains in it"), owned(run):
            pass
        assert not discard(run)
        assert {path.name for path in run.iterdir()} == {LOCK, LOG}
    assert discard(run)
    assert not run.exists()


def test_who_looks_whether_a_folder_is_free_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "PATIENCE", 300.0)
    run = tmp_path / "run"
    run.mkdir()
    held, let_go = Event(), Event()

    def look() -> None:
        with locked(run / LOCK):
            held.set()
            let_go.wait()

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        held.wait()
        Timer(0.1, let_go.set).start()
        with owned(run):
            assert looking.result() is None


def test_what_is_gone_or_begun_is_not_discarded(tmp_path: Path) -> None:
    assert discard(tmp_path / "never")
    assert not (tmp_path / "never").exists()
    (tmp_path / "config.yaml").touch()
    assert not discard(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_run_of_another_configuration(tmp_path: Path) -> None:
    """It is refused too where the run was killed between two checkpoints, and has only the next one."""
    run = write_run(tmp_path / "run", write_store(tmp_path))
    config = read_config(run)
    other = RunConfig.read({**config.plain, "seed": 5}, "another")
    assert earlier_results(other, run) is None  # it stopped before its first checkpoint
    (run / NEXT).touch()
    assert earlier_results(config, run) is None
    with pytest.raises(ConfigError, match="holds a run of another configuration: choose another"):
        earlier_results(other, run)
