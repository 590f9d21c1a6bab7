"""Processes that train together, forked from a server that has PyTorch loaded; and what a process started."""

import contextlib
import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch.distributed as dist


def _rank(
    environment: Mapping[str, str], function: Callable[..., Any], arguments: Any, answer: Connection
) -> None:
    os.environ |= environment
    try:
        dist.init_process_group("gloo")
        answer.send_bytes(pickle.dumps(function(*arguments)))
        if dist.is_initialized():  # a training leaves by itself
            dist.barrier()  # none leaves while another may still need it
            dist.destroy_process_group()
    except Exception:
        traceback.print_exc()
        raise


def free_port(first: int = 15_000, last: int = 24_999) -> int:
    """Return a port that is free, and not of those that the system gives to whoever asks for any."""
    given = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    allowed = [port for port in range(first, last + 1) if not int(given[0]) <= port <= int(given[1])]
    start = os.getpid() % len(allowed)  # other processes of the tests look elsewhere
    for port in allowed[start:] + allowed[:start]:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


def descendants(pid: int | str) -> list[str]:
    """Return the children of a process, and theirs."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
        return []
    return children + [below for child in children for below in descendants(child)]


def ended(pid: int | str) -> bool:
    """Return whether a process has ended, be it that whoever inherited it has not asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Ranks:
    """Processes of one group, each of which calls ``function(*arguments)``."""

    def __init__(self, world: int, function: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["samplecnn.training.job"])
        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
        self.processes: list[ForkServerProcess] = []
        self._answers: list[Connection] = []
        for rank in range(world):
            environment = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(world),
                "LOCAL_WORLD_SIZE": str(world),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(self._store.port),
                "TORCHELASTIC_USE_AGENT_STORE": "True",
            }
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_rank, args=(environment, function, arguments, theirs))
            process.start()
            theirs.close()
            self.processes.append(process)
            self._answers.append(ours)

    def results(self) -> list[Any]:
        """Wait for the end; return what each rank has returned."""
        try:
            results = [pickle.loads(answer.recv_bytes()) for answer in self._answers]
        except EOFError:
            raise AssertionError(f"ended with {self.statuses()}") from None
        assert set(self.statuses()) == {0}
        return results

    def statuses(self) -> list[int | None]:
        """Wait for the end; return the exit status of each rank."""
        for process in self.processes:
            process.join(300)
        return [process.exitcode for process in self.processes]


def in_ranks(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what ``function(*arguments)`` returns in each of ``world`` processes of one group."""
    return Ranks(world, function, *arguments).results()
