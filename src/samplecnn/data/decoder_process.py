"""Decoding in a child process: a file that crashes or hangs the decoder costs an error message.

The child has nothing of ours but the decoder, so it starts at once and is small. Blocks of samples come
through a pipe, which holds less than a segment: decoding and network take turns at a file, and cores are kept
busy by several files at a time. Nothing that it sends is unpickled.
"""

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import numpy as np

from samplecnn.data.decoding import AudioError, Decoder
from samplecnn.memory import keep_freed_memory
from samplecnn.processes import belong_to_parent, let_children_start

SILENT_SECONDS = 120.0
SECONDS_TO_END = 10.0  # for a process whose pipe is closed
MESSAGE = 1 << 20  # bytes at most
# How a decoder ends its process. Other signals come from outside: SIGKILL where memory is short, for one.
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)


class KilledError(AudioError):
    """The decoder was ended from outside, which says nothing about the file."""


class DecoderProcess:
    """A child process that decodes one file at a time, and is started again when it has died.

    A decoder that is silent for longer than ``silent_seconds`` is taken to hang.
    """

    def __init__(self, silent_seconds: float = SILENT_SECONDS) -> None:
        self._silent_seconds = silent_seconds
        self._start()

    def _start(self) -> None:
        let_children_start()
        # Forked from a server that has imported the decoder once: a start takes milliseconds.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        ours, theirs = context.Pipe()
        with theirs:
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
        self._pipe, self._process = ours, process

    @property
    def pid(self) -> int:
        """The child's."""
        assert self._process.pid is not None
        return self._process.pid

    def open(
        self,
        path: str | Path,
        *,
        max_seconds: float | None = None,
        strict: bool = True,
        deadline: float | None = None,
    ) -> "RemoteDecoder":
        """Begin with a file, without waiting for it; the one before has to be closed.

        What is returned is used in a ``with`` statement, as a `Decoder`, and raises there what that raises:
        AudioError too for a file that crashes the child, or takes more than ``deadline`` seconds, and
        KilledError where somebody ends the child meanwhile.
        """
        request = _text(path=str(path), max_seconds=max_seconds, strict=strict)
        end = None if deadline is None else time.monotonic() + deadline
        try:
            self._pipe.send_bytes(request)
        except OSError:  # killed by somebody between two files: no file's fault
            self.restart()
            self._pipe.send_bytes(request)
        return RemoteDecoder(self, Path(path), end)

    def receive(self, end: float | None) -> bytes:
        """Return the child's next message. Raises EOFError if it has died, TimeoutError if it is late."""
        patience = self._silent_seconds
        if end is not None:
            patience = min(patience, max(0, end - time.monotonic()))
        if not self._pipe.poll(patience):
            raise TimeoutError
        return self._pipe.recv_bytes(MESSAGE)

    def ended_by(self) -> int | None:
        """Return the exit status of a child that has closed its pipe: below 0, the signal that ended it."""
        self._process.join(SECONDS_TO_END)
        return self._process.exitcode

    def restart(self) -> None:
        """End the child, whatever it is doing, and start another; OSError where that is killed at once."""
        self.close()
        self._start()

    def close(self) -> None:
        """End the child, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class RemoteDecoder:
    """A file that a `DecoderProcess` decodes, with the attributes of a `Decoder` once it is entered."""

    rate: int
    seconds: float | None

    def __init__(self, process: DecoderProcess, path: Path, end: float | None) -> None:
        self.path = path
        self._process, self._end, self._open = process, end, True
        self.warning: str | None = None
        self.cut = False

    def __iter__(self) -> Iterator[np.ndarray]:
        while block := self._receive():
            yield np.frombuffer(block, dtype=np.float32)
        foot = self._json()
        self._open = False
        self.warning, self.cut = foot["warning"], foot["cut"]

    def _json(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._receive())
        if "error" in answer:
            self._open = False
            raise AudioError(answer["error"], self.path)
        return answer

    def _receive(self) -> bytes:
        try:
            return self._process.receive(self._end)
        except (EOFError, OSError) as error:
            late = isinstance(error, TimeoutError)
            failure = AudioError("takes too long to decode", self.path) if late else self._ended()
            self.close()
            raise failure from error

    def _ended(self) -> AudioError:
        """Return what the end of the child says of the file."""
        status = self._process.ended_by() or 0
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        if -status in CRASHES:
            return AudioError(f"crashes the decoder ({name})", self.path)
        return KilledError(f"its decoder was ended ({name}): out of memory, or by somebody", self.path)

    def __enter__(self) -> Self:
        head = self._json()
        self.rate, self.seconds = int(head["rate"]), head["seconds"]
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the file, also before its end."""
        if self._open:  # the child is at it, with no way to tell it
            self._open = False
            self._process.restart()


def _keep_libraries_quiet() -> None:
    """Drop what libraries write to the standard error: messages that name no file."""
    sys.stderr.flush()
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 2)


def _serve(pipe: Connection) -> None:
    """Decode file after file, until the other end of the pipe is closed."""
    belong_to_parent()
    _keep_libraries_quiet()
    keep_freed_memory()
    try:
        while True:
            request = json.loads(pipe.recv_bytes())
            _decode(pipe, request.pop("path"), request)
    except (EOFError, OSError):
        os._exit(0)


def _decode(pipe: Connection, path: str, options: dict[str, Any]) -> None:
    begun = False
    try:
        with Decoder(path, **options) as decoder:
            pipe.send_bytes(_text(rate=decoder.rate, seconds=decoder.seconds))
            begun = True
            for block in decoder:
                for start in range(0, len(block), MESSAGE // 4):
                    pipe.send_bytes(np.ascontiguousarray(block[start : start + MESSAGE // 4]).data)
            last = _text(warning=decoder.warning, cut=decoder.cut)
    except (EOFError, ConnectionError, MemoryError):  # not the file's fault
        raise
    except AudioError as error:
        last = _text(error=error.reason)
    except Exception as error:  # whatever an odd file brings about: the next one may be good
        last = _text(error=f"cannot be decoded ({type(error).__name__}: {error})")
    if begun:
        pipe.send_bytes(b"")
    pipe.send_bytes(last)


def _text(**values: Any) -> bytes:
    return json.dumps(values).encode()
