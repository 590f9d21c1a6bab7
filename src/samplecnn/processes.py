"""What child processes have in common, and when Ctrl-C and SIGTERM are heard."""

import multiprocessing
import os
import signal
import sys
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


@contextmanager
def sigterm_ends() -> Iterator[None]:
    """Have SIGTERM raise SystemExit with 128 and its number, so that things are put in order as after Ctrl-C.

    Only where it would end the process at once: handlers that are there, such as submitit's, stay.
    """
    default = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if not default or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


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
