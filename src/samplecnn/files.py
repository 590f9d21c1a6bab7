"""Files that are written whole or not at all, and locks between processes."""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from samplecnn.errors import UserError

log = logging.getLogger(__name__)

# What a file system without locks answers.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside ``path`` that takes its place once all is written and on the disk.

    It is removed if anything goes wrong, and ``path`` is then as it was. An OSError names ``path``.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):  # None: a full disk, say
            error.filename = str(path)
        raise


def write(path: Path, content: str | bytes) -> None:
    """Write a whole file or none; text as UTF-8."""
    with writing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def remove_unfinished(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder; for whoever holds its lock."""
    for path in folder.glob("*.*.tmp"):
        path.unlink(missing_ok=True)


def remove_empty(folder: Path) -> None:
    """Remove an empty folder, and those above it that are empty then, as far as the working directory."""
    here = Path.cwd()
    with contextlib.suppress(OSError):  # not empty
        folder.rmdir()
        for above in folder.absolute().parents:
            if above == here or not above.is_relative_to(here):
                break
            above.rmdir()


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def cache_folder() -> Path:
    """Return the user's folder for what can be had again: ~/.cache/samplecnn, or in $XDG_CACHE_HOME."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "samplecnn"


@contextmanager
def locked(
    path: Path, *, waiting: str | None = None, patience: float = 0.0, kept: bool = True
) -> Iterator[None]:
    """Hold the lock ``path`` against other processes; it ends with its process, however that ends.

    ``waiting`` is logged where another process holds it for longer than ``patience`` seconds, and then waited
    for; without it, ``BusyError`` is raised. Unless it is ``kept``, the lock's file is removed at the end.
    Raises UserError on a file system that has no locks.
    """
    lock = FileLock(path, fallback_to_soft=False)
    try:
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            if waiting is None:
                raise BusyError(f"another process holds {path}") from None
            log.info("%s", waiting)
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        if isinstance(error, NotImplementedError) or error.errno in NO_LOCKS:
            raise UserError(
                f"the file system of {path.parent} has no locks: choose a folder on another"
            ) from error
        raise
    try:
        yield
    finally:
        if not kept:
            path.unlink(missing_ok=True)
        lock.release()


class BusyError(UserError):
    """Another process holds a lock."""
