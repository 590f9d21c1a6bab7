"""Locks between processes and machines that prepare one store: bytes of a single file, one per thing locked.

POSIX record locks, as network file systems have them too. The system lets go of them when their process ends
in whatever way, and no file is left over per shard.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


class Locks:
    """The locks of one store, in `file`: number 0 is the store itself, 1 + i its shard i.

    They keep processes apart, not the threads of one; closing lets go of all of them.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    @classmethod
    @contextmanager
    def open(cls, file: Path) -> Iterator["Locks"]:
        """Open the file, made if it is not there."""
        locks = cls(file)
        try:
            yield locks
        finally:
            os.close(locks._descriptor)

    def try_acquire(self, number: int) -> bool:
        """Take a lock if no other process holds it; say whether it is taken."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def release(self, number: int) -> None:
        """Let go of a lock."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, number)

    def acquire(self, number: int, what: str) -> None:
        """Take a lock, after waiting for the process that has it; `what` names the work in the log."""
        if not self.try_acquire(number):
            log.info("another process holds %s and prepares %s: waiting for it", self.file, what)
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, number)
