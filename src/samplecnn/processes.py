"""What child processes have in common, and when Ctrl-C is heard."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ctrl_c_waits() -> Iterator[None]:
    """Have Ctrl-C heard at the end: libraries in C that it interrupts as they are loaded fail in odd ways."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_children_start() -> None:
    """Make a process able to start others, before it takes a context of ``multiprocessing`` for them.

    A worker of joblib's, as of ``hydra/launcher=local``, hands on "loky" as the way to start processes, which
    its children do not know: they would end at once.
    """
    known = (None, *multiprocessing.get_all_start_methods())
    if multiprocessing.get_start_method(allow_none=True) not in known:
        multiprocessing.set_start_method("spawn", force=True)


def belong_to_parent() -> None:
    """Make this child leave Ctrl-C to its parent, and end with that however it ends, even if it is killed.

    Ctrl-C reaches every process of a terminal; it is the parent that ends its children.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
