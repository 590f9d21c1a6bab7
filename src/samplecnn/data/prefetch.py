"""Work that a thread does ahead of its use."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def prefetched(jobs: Iterable[Callable[[], T]], ahead: int = 2) -> Iterator[T]:
    """Yield what the jobs return, in their order, while a thread does up to `ahead` of those that follow.

    The jobs are made in the thread of the caller, from the first item that is asked for on. The other thread
    ends when the returned generator does (at its end, closed, or dropped) and never waits for anything but
    jobs. What a job raises is raised here, in its place, with that thread's traceback.

    Raises ValueError for `ahead` below 1.
    """
    if ahead < 1:
        raise ValueError(f"ahead is {ahead}: allowed are 1, 2, ... jobs")
    return _prefetched(iter(jobs), ahead)


def _prefetched(jobs: Iterator[Callable[[], T]], ahead: int) -> Iterator[T]:
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        pending = deque(pool.submit(job) for job in islice(jobs, ahead + 1))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(job) for job in islice(jobs, 1))
    finally:
        pool.shutdown(cancel_futures=True)
