"""How many threads a process may really use, and how they wait."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from samplecnn import threads
from samplecnn.threads import COUNTS, SPINNING, cgroup_quota

SET = (*COUNTS, *SPINNING, "OMP_WAIT_POLICY")  # what a user may set
SAID = """
import os
from samplecnn import threads
threads.wait_without_spinning()
import torch
before = torch.get_num_threads()
threads.use_available()
print(before, threads.available(), torch.get_num_threads())
print(os.environ.get("OMP_WAIT_POLICY"))
"""


def said(cores: int | None = None, **environment: str) -> list[str]:
    """What a process says that may use so many cores: threads before, available and after, and so on."""
    own = {key: value for key, value in os.environ.items() if key not in SET}

    def pin() -> None:
        if cores is not None:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])

    done = subprocess.run(
        [sys.executable, "-c", SAID], env=own | environment, preexec_fn=pin, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def group(root: Path, lines: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


V1 = "5:memory:/a\n4:cpu,cpuacct:/docker/abc\n0::/\n"


@pytest.mark.parametrize(
    ("lines", "files", "cores"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "250000 100000\n"}, 2.5),
        (
            "0::/a/b\n",
            {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"},
            0.5,
        ),  # of the group above
        ("0::/a/b\n", {"a/b/cpu.max": "100000 100000\n", "cpu.max": "300000 100000\n"}, 1),
        ("0::/a/b\n", {"cpu.max": "150000 100000\n"}, 1.5),  # a container sees its own group as the top
        ("0::/../c\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"unified/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a\n", {"a/cpu.max": "max 100000\n"}, None),
        ("0::/a\n", {"a/cpu.max": "nonsense\n"}, None),
        ("0::/a\n", {}, None),
        (
            V1,
            {
                "cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        (V1, {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        (V1, {"cpu/cpu.cfs_quota_us": "100", "cpu/cpu.cfs_period_us": "0"}, None),
    ],
)
def test_the_quota_of_a_control_group(
    tmp_path: Path, lines: str, files: dict[str, str], cores: float | None
) -> None:
    assert cgroup_quota(group(tmp_path, lines, files)) == cores


def test_without_control_groups(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path) is None


def test_one_core_of_several() -> None:
    _, available, used, *_ = said(cores=1)
    assert (available, used) == ("1", "1")


def test_what_slurm_grants_a_task() -> None:
    _, available, used, *_ = said(SLURM_CPUS_PER_TASK="1")
    assert (available, used) == ("1", "1")
    assert said(SLURM_CPUS_PER_TASK="100000")[1] == str(len(os.sched_getaffinity(0)))
    assert said(SLURM_CPUS_PER_TASK="nonsense")[1] == str(len(os.sched_getaffinity(0)))


def test_what_the_user_sets_stays() -> None:
    before, available, used, *_ = said(SLURM_CPUS_PER_TASK="1", OMP_NUM_THREADS="2")
    assert (available, used) == ("1", before)
    assert said(cores=1, OMP_WAIT_POLICY="active")[-1] == "active"
    assert said(cores=1, GOMP_SPINCOUNT="1000")[-1] == "None"
    assert said(cores=1)[-2:] == ["1", "passive"]


@pytest.mark.parametrize("value", ["", "abc", "0", "-1"])
def test_what_openmp_does_not_take_is_not_set(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the empty text that a script exports where SLURM has set no number."""
    for name in SET:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    monkeypatch.setenv("OMP_WAIT_POLICY", value)
    assert not threads.are_set()
    threads.wait_without_spinning()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"


def test_a_number_for_each_level_of_nesting_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", " 4,2")
    assert threads.are_set()


def test_an_empty_number_leaves_the_limit() -> None:
    _, available, used, *_ = said(SLURM_CPUS_PER_TASK="1", OMP_NUM_THREADS="", OMP_WAIT_POLICY="")
    assert (available, used) == ("1", "1")


def spent_waiting(**environment: str) -> float:
    """How many seconds of a core the threads of a process take that have nothing to do for a second."""
    code = (
        "from samplecnn.threads import wait_without_spinning; wait_without_spinning()\n"
        "import time, torch; torch.set_num_threads(2); torch.rand(1 << 20).exp()\n"
        "before = time.process_time(); time.sleep(1); print(time.process_time() - before)"
    )
    own = {key: value for key, value in os.environ.items() if key not in SET}
    done = subprocess.run(
        [sys.executable, "-c", code], env=own | environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def test_waiting_threads_sleep() -> None:
    waiting = spent_waiting()
    assert waiting < 0.1
    if len(os.sched_getaffinity(0)) > 1:  # with fewer cores than threads, OpenMP lets none spin
        assert waiting < spent_waiting(OMP_WAIT_POLICY="active")
