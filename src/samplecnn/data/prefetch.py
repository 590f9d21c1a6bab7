"""Work that threads do ahead of its use."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def prefetched(jobs: Iterable[Callable[[], T]], ahead: int = 2, *, threads: int = 1) -> Iterator[T]:
    """Yield what the jobs return, in order, while threads do up to `ahead` of those that follow.

    The jobs are made in the caller's thread, from the first item that is asked for on. The other threads end
    when the returned generator does (at its end, closed, or dropped). What a job raises is raised here, in
    its place.
    """
    waiting = iter(jobs)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch")
    try:
        pending = deque(pool.submit(job) for job in islice(waiting, ahead + 1))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(job) for job in islice(waiting, 1))
    finally:
        pool.shutdown(cancel_futures=True)
