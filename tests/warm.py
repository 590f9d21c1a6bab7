"""Commands in processes of their own, forked from a server that has the libraries loaded.

A start takes milliseconds in place of the seconds that PyTorch and Lightning need. What a command sees is
what a shell gives it: a process with its arguments, folder, environment and standard streams. Only that it
imports all that it needs does not show here: of every command some test starts one in a Python of its own.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

# Not wandb: it makes a temporary folder as it is loaded, which the first process to end would delete.
PRELOADED = ("samplecnn.cli.train", "samplecnn.training.job", "samplecnn.inference.tagger")
# What Python and OpenMP read once, as they start. W&B leaves temporary folders to the garbage collector: the
# one warning that is not an error.
STRICT = {"PYTHONWARNINGS": "error,ignore::ResourceWarning", "OMP_NUM_THREADS": "1"}
LONGEST_REQUEST = 1 << 17  # bytes


class Process:
    """A Python script with its arguments, started: as much of `subprocess.Popen` as the tests need."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        assert STRICT.items() <= environment.items()
        self.args = list(command)
        self.returncode: int | None = None  # negative for a signal
        self._answer, theirs = socket.socketpair()
        self._streams = [tempfile.TemporaryFile("w+") for _ in ("out", "err")]  # noqa: SIM115
        self._said: list[str] = []
        request = json.dumps([self.args, str(folder), dict(environment)]).encode()
        with theirs:
            files = [theirs.fileno(), *(stream.fileno() for stream in self._streams)]
            socket.send_fds(_server(), [request], files)
        self.pid = _number(self._answer.recv(4))

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        with contextlib.suppress(BlockingIOError):
            self._wait(0)
        return self.returncode

    def communicate(self, timeout: float = 500) -> tuple[str, str]:
        """Wait for the end; return what was written. Raises TimeoutError after so many seconds."""
        self._wait(timeout)
        for stream in self._streams[len(self._said) :]:
            with stream:
                stream.seek(0)
                self._said.append(stream.read())
        self._answer.close()
        out, err = self._said
        return out, err

    def _wait(self, timeout: float) -> None:
        if self.returncode is None:
            self._answer.settimeout(timeout)
            self.returncode = _number(self._answer.recv(4))


def _number(answer: bytes) -> int:
    assert len(answer) == 4, "the server has ended"
    return int.from_bytes(answer, sys.byteorder, signed=True)


@cache
def _server() -> socket.socket:
    """Start the server of this process; return where it takes requests."""
    requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env={**os.environ, **STRICT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    atexit.register(process.wait)
    atexit.register(requests.close)  # earlier: the server ends when nobody can ask any more
    return requests


def _fork_for_each(requests: socket.socket) -> None:
    """Fork for every request until nobody asks any more; return in the process that is to run the command."""
    while True:
        request, streams, _, _ = socket.recv_fds(requests, LONGEST_REQUEST, 3)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            break
        for stream in streams:
            os.close(stream)
        with contextlib.suppress(ChildProcessError):  # none is left
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    requests.close()
    answer, out, err = streams
    if process := os.fork():
        os.close(out)
        os.close(err)
        os.write(answer, process.to_bytes(4, sys.byteorder, signed=True))
        _, status = os.waitpid(process, 0)
        os.write(answer, os.waitstatus_to_exitcode(status).to_bytes(4, sys.byteorder, signed=True))
        os._exit(0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    for stream in streams:
        os.close(stream)
    sys.argv, folder, environment = json.loads(request)
    sys.orig_argv = [sys.executable, *sys.argv]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[0:1] = [str(Path(sys.argv[0]).parent), *filter(None, paths)]
    importlib.invalidate_caches()


if __name__ == "__main__":
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # or a forked process copies all that there is as it looks for garbage
    _fork_for_each(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_path(sys.argv[0], run_name="__main__")
