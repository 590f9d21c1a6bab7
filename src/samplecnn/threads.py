"""Threads for computing on a CPU: as many as this process may really use, that wait without spinning.

PyTorch starts a thread per core that it sees, also where a container may use half of one, and OpenMP lets
threads that wait for the others spin. Alone that costs nothing; beside another busy process a spinning thread
keeps the core that the one it waits for needs, and a step takes ten times as long.
"""

import os
from pathlib import Path

SPINNING = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # how long: of GNU's OpenMP, and of Intel's
COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def wait_without_spinning() -> None:
    """Let OpenMP's threads sleep while they wait, here and in child processes.

    OpenMP reads this when it is loaded: call it before PyTorch is imported. What the user has set stays.
    """
    policy = os.environ.get("OMP_WAIT_POLICY", "").strip().lower()
    if policy not in ("active", "passive") and not any(os.environ.get(name) for name in SPINNING):
        os.environ["OMP_WAIT_POLICY"] = "passive"


def are_set() -> bool:
    """Return whether the user has set a number of threads: OpenMP takes no other value, such as none."""
    # OpenMP allows a number for each level of nesting: "4,2".
    numbers = (os.environ.get(name, "").partition(",")[0].strip() for name in COUNTS)
    return any(number.isdecimal() and int(number) > 0 for number in numbers)


def available() -> int:
    """Return how many threads can run at once, at least 1: by affinity, cgroup quota and SLURM's task."""
    limits = [float(_allowed_cores())]
    if (quota := cgroup_quota()) is not None:
        limits.append(quota)
    if (task := os.environ.get("SLURM_CPUS_PER_TASK", "")).isdecimal():
        limits.append(int(task))
    return max(1, int(min(limits)))


def use_available() -> None:
    """Keep PyTorch to the threads that are `available`, unless the user has set a number.

    Never more than it has by itself, which is one per physical core.
    """
    import torch

    if not are_set():
        torch.set_num_threads(min(torch.get_num_threads(), available()))


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """Return the cores' worth of time that Linux control groups grant this process; None: no limit.

    The smallest of its own group and of all above, of version 2 and 1. ``root`` is where ``proc`` and ``sys``
    are.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        # A container may see its own group as the top: then the folder that is named is not there.
        for mount in _mounts(root / "sys/fs/cgroup", controllers):
            folder = mount / group.lstrip("/")
            quotas += [_quota(place) for place in (folder, *folder.parents) if place.is_relative_to(mount)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _mounts(top: Path, controllers: str) -> list[Path]:
    if not controllers:  # version 2; beside version 1 it is mounted one level down
        return [top, top / "unified"]
    return [top / controllers, top / "cpu"] if "cpu" in controllers.split(",") else []


def _quota(folder: Path) -> float | None:
    """Return the cores' worth of time that one group grants."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        cores = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max": no limit
        return None
    return cores if cores > 0 else None  # -1: no limit


def _allowed_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
