"""Which GPU a training takes; the numbers need no GPU."""

import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from samplecnn.training.gpus import take_gpu

SEEN = ("CUDA_VISIBLE_DEVICES", "XDG_CACHE_HOME")


def train(answer: Connection, environment: dict[str, str], *, dies: bool) -> None:
    """Take a GPU, say which, and train until told to end."""
    os.environ |= environment
    answer.send(take_gpu())
    if not dies:
        answer.recv()


class Training:
    def __init__(self, *, dies: bool = False) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["samplecnn.training.gpus"])
        self.pipe, theirs = context.Pipe()
        environment = {name: os.environ[name] for name in SEEN}
        self.process = context.Process(target=train, args=(theirs, environment), kwargs={"dies": dies})
        self.process.start()
        theirs.close()
        self.gpu = self.pipe.recv()
        if dies:
            self.process.join()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_trainings_side_by_side_take_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, 3")
    trainings = [Training() for _ in range(3)]
    try:
        assert [training.gpu for training in trainings] == ["1", "3", "1"]  # the third shares one
        trainings[1].kill()
        last = Training()
        trainings.append(last)
        assert last.gpu == "3"  # held no more, however its training ended
    finally:
        for training in trainings:
            training.kill()


@pytest.mark.parametrize(
    "seen", ["", "NoDevFiles", "2", "GPU-8932f937", "0,-1,1", "0,,1", "0,NoDevFiles,1", "1,1"]
)
def test_a_process_that_sees_one_gpu_or_none_keeps_it(monkeypatch: pytest.MonkeyPatch, seen: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert Training(dies=True).gpu is None


def test_without_a_place_for_locks_all_gpus_stay_in_sight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "samplecnn").write_text("a file where the folder should be")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert Training(dies=True).gpu is None
