"""Keeps memory between steps on Linux: glibc would hand it back to the system, and fault it in again."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # parameters of mallopt(3)


def keep_freed_memory() -> None:
    """Tell glibc's malloc, where there is one, to keep what is freed for the next step.

    By default every large tensor is mapped afresh, so that each step pays for page faults on all of its
    activations. Threads share one heap, so that what one has freed is not kept from the others.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has no such knob
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_ARENA_MAX, 1)
