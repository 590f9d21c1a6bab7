"""The processes of one training on several devices, and how they agree.

Each has a rank. Rank 0 writes the files, measures, decides and speaks; the others are told. Without several
processes, all of this does nothing.
"""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from samplecnn import threads
from samplecnn.errors import UserError
from samplecnn.training.launch import rank as rank

log = logging.getLogger(__name__)

T = TypeVar("T")

PARENT = "SAMPLECNN_PARENT"  # process id of the one that started this
PR_SET_PDEATHSIG = 1
# Seconds that rank 0 has to end by itself after another was killed, or has failed and rank 0 may be failing
# of the same.
AFTER_A_KILL, AFTER_A_FAILURE = 5, 60

_store: Any = None  # where the processes that this one has started find each other


def world() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gather(value: T) -> list[T]:
    """Return the value of every rank, in their order, on all of them."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def on_all(make: Callable[[], T]) -> T:
    """Return what ``make`` returns here, once it has on all ranks.

    An error that a user may meet, on whichever rank, is raised on rank 0; the others end without a word.
    ``make`` may not wait for other ranks itself.
    """
    made: T | None = None
    error: UserError | OSError | None = None
    try:
        made = make()
    except (UserError, OSError) as raised:
        if world() == 1:
            raise
        error = raised
    said = gather(None if error is None else str(error))
    for number, text in enumerate(said):
        if text is None:
            continue
        if rank() > 0:
            sys.exit(0)  # a failure would be rank 0's to say
        raise error or UserError(f"rank {number}: {text}")
    return made  # type: ignore[return-value]


def from_rank_zero(make: Callable[[], T]) -> T:
    """Return on all ranks what ``make`` returns on rank 0, which alone calls it."""
    made = on_all(make if rank() == 0 else lambda: None)
    if world() == 1:
        return made  # type: ignore[return-value]
    values: list[Any] = [made]
    dist.broadcast_object_list(values)
    result: T = values[0]
    return result


def share(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with those of rank 0."""
    if world() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def leave() -> None:
    """End the group, whose threads would otherwise be there when the interpreter goes."""
    global _store
    if dist.is_initialized():
        dist.destroy_process_group()
    _store = None


def start_others(devices: int) -> None:
    """Start the other processes of a training on this machine with this one's command, as torchrun would."""
    global _store
    # The port is chosen by the system, so that no other program can have it.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is there already
        "WORLD_SIZE": str(devices),
        "LOCAL_WORLD_SIZE": str(devices),
        "RANK": "0",
        "LOCAL_RANK": "0",
        PARENT: str(os.getpid()),
    }
    _store = store
    if not threads.are_set():
        each = max(1, min(torch.get_num_threads(), threads.available()) // devices)
        os.environ["OMP_NUM_THREADS"] = str(each)
        torch.set_num_threads(each)
    others = [
        subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:]],
            env={**os.environ, "RANK": str(number), "LOCAL_RANK": str(number)},
            stdin=subprocess.DEVNULL,
        )
        for number in range(1, devices)
    ]
    threading.Thread(target=_end_with, args=(others,), daemon=True).start()


def _end_with(others: list["subprocess.Popen[bytes]"]) -> None:
    """End this process if one that it has started fails: it would wait for it for ever."""
    while True:
        for number, other in enumerate(others, start=1):
            status = other.poll()
            if status:
                log.error(
                    "the process of rank %d has ended with status %d: so does the training", number, status
                )
                time.sleep(AFTER_A_KILL if status < 0 else AFTER_A_FAILURE)
                os._exit(1)
        time.sleep(0.2)


def end_with_parent() -> None:
    """Have this process killed when the one ends that has started it, however that ends."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.environ.get(PARENT, str(os.getppid())) != str(os.getppid()):  # it has ended before
        os._exit(1)
