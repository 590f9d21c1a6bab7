"""Items made ahead by threads: order, errors, and threads that end with their iterator."""

import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from samplecnn.data.prefetch import prefetched


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def jobs(count: int, where: list[str]) -> Iterator[Callable[[], int]]:
    def job(number: int) -> int:
        where.append(threading.current_thread().name)
        return number

    return (partial(job, number) for number in range(count))


@pytest.mark.parametrize("ahead", [1, 2, 7])
def test_all_items_in_their_order_made_by_one_thread(ahead: int) -> None:
    where: list[str] = []
    assert list(prefetched(jobs(100, where), ahead)) == list(range(100))
    assert len(where) == 100
    assert len(set(where)) == 1
    assert where[0].startswith("prefetch")
    assert threads() == []


def test_no_more_than_asked_for_are_done_ahead() -> None:
    where: list[str] = []
    made: list[int] = []

    def noted() -> Iterator[Callable[[], int]]:
        for job in jobs(100, where):
            made.append(threading.get_ident())
            yield job

    items = prefetched(noted(), 3)
    assert made == []  # nothing is made before the first one is asked for
    assert next(items) == 0
    while len(where) < 4:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(where) == 4
    assert made == [threading.get_ident()] * 4
    assert next(items) == 1
    items.close()  # type: ignore[attr-defined]


def test_items_of_several_threads_come_in_order() -> None:
    """Jobs wait for each other by twos: one thread alone would never end."""
    two = threading.Barrier(2)

    def job(number: int) -> int:
        two.wait(60)
        return number

    jobs = (partial(job, number) for number in range(20))
    assert list(prefetched(jobs, 4, threads=2)) == list(range(20))
    assert threads() == []


def test_no_items_and_fewer_than_are_done_ahead() -> None:
    assert list(prefetched((), 2)) == []
    assert list(prefetched([lambda: None, lambda: False], 5)) == [None, False]


@pytest.mark.parametrize("how", ["close", "drop", "end"])
def test_the_thread_ends_with_the_iterator(how: str) -> None:
    items = prefetched(jobs(10, []), 2)
    assert threads() == []
    next(items)
    assert len(threads()) == 1
    if how == "close":
        items.close()  # type: ignore[attr-defined]
    elif how == "end":
        assert len(list(items)) == 9
    del items
    assert threads() == []


def broken() -> int:
    raise OSError("the disk is gone")


@pytest.mark.parametrize("number", [0, 1, 5])
def test_errors_come_in_their_place_with_the_traceback_of_the_thread(number: int) -> None:
    items = prefetched([*jobs(number, []), broken, *jobs(3, [])], 2)
    assert [next(items) for _ in range(number)] == list(range(number))
    with pytest.raises(OSError, match="the disk is gone") as caught:
        next(items)
    assert "broken" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert threads() == []
    assert list(items) == []


def test_what_fails_to_make_a_job_is_raised_too() -> None:
    def failing() -> Iterator[Callable[[], int]]:
        yield from jobs(3, [])
        raise LookupError("no such segment")

    items = prefetched(failing(), 1)
    with pytest.raises(LookupError, match="no such segment"):
        list(items)
    assert threads() == []


# Run by `python -c`: a consumer that an interrupt reaches in the middle, or while it waits for the thread.
CONSUMER = """
import sys, time
from functools import partial
from itertools import repeat
from samplecnn.data.prefetch import prefetched
making, using = map(float, sys.argv[1:])
try:
    for number, _ in enumerate(prefetched(repeat(partial(time.sleep, making)), 2)):
        if number == 3:
            print("going", flush=True)
        time.sleep(using)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise
"""


@pytest.mark.parametrize("seconds", [("0.001", "0.05"), ("0.05", "0")], ids=["using", "waiting"])
def test_an_interrupt_ends_the_process(seconds: tuple[str, str]) -> None:
    command = [sys.executable, "-c", CONSUMER, *seconds]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "going\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert out == "interrupted\n"
    assert process.returncode == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")
