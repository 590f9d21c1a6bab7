"""Every backend tried on this machine in a process of its own: proven, then timed.

One that raises, crashes or hangs costs itself alone.
"""

import gc
import logging
import multiprocessing
import pickle
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

import torch

from samplecnn.hardware import settle
from samplecnn.memory import keep_freed_memory
from samplecnn.processes import belong_to_parent, let_children_start
from samplecnn.training.backends.proof import Plan, Standard, Trial, WrongNumbersError, make_step
from samplecnn.training.quiet import quiet_libraries

log = logging.getLogger(__name__)

SEGMENTS = 4  # to compare with, and to time on a CPU, where a step of 23 takes seconds
TURNS = 3  # timed steps of each backend on a CPU; on a GPU timed runs of STEPS steps
STEPS = 10
HOPELESS = 1.5  # times the best so far, after which a backend gets no further turn
START = 300.0  # seconds until a child has loaded all and computed what is right
PATIENCE = {"cpu": 120.0, "cuda": 300.0}  # seconds that one backend may take: compiling takes a minute
END = 10.0  # seconds until a child that is done has ended


@dataclass(frozen=True)
class Finding:
    """What became of a plan: its training segments per second, or why not to use it.

    They are of forward and backward pass, on a GPU of the update too.
    """

    plan: Plan
    rate: float = 0.0
    spread: float = 1.0  # of its turns, the slowest's time over the fastest's
    failure: str | None = None


def examine(trial: Trial, plans: Sequence[Plan]) -> list[Finding]:
    """Return a finding for each plan, in their order; network and random state are left as they are.

    The log says what is tried, and what came of it.
    """
    if not plans:
        return []
    try:
        pickled = pickle.dumps(replace(trial, network=deepcopy(trial.network).cpu()))
    except Exception as error:  # a class of its own that other processes cannot import
        failure = f"cannot be tried in another process: {said(error)}"
        return [_logged(Finding(plan, failure=failure)) for plan in plans]
    found: dict[Plan, Finding] = {}
    while waiting := [plan for plan in plans if plan not in found]:
        found |= _in_child(pickled, trial.device, waiting)
    return [found[plan] for plan in plans]


def _in_child(trial: bytes, device: torch.device, plans: Sequence[Plan]) -> dict[Plan, Finding]:
    """Try plans in a child process until one of them ends it: that one has failed."""
    let_children_start()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(theirs, trial, plans, torch.get_num_threads()), daemon=True)
    child.start()
    theirs.close()
    found: dict[Plan, Finding] = {}
    begun: set[Plan] = set()
    trying, patience = plans[0], START
    try:
        while ours.poll(patience):
            patience = PATIENCE[device.type]
            message = ours.recv()
            if message is None:
                child.join(END)
                return found
            if isinstance(message, Finding):
                found[message.plan] = _logged(message)
            else:
                if message not in begun:
                    log.info("trying backend: %s", message)
                begun.add(message)
                trying = message
        failure = f"takes more than {patience:.0f} s"
    except EOFError:
        child.join()
        failure = f"ends its process (exit status {child.exitcode})"
    finally:
        child.kill()
        child.join()
        ours.close()
    return {**found, trying: _logged(Finding(trying, failure=failure))}


def _logged(finding: Finding) -> Finding:
    """Say what came of a plan."""
    if finding.failure:
        log.warning("backend %s is left out: %s", finding.plan, finding.failure)
    else:
        log.info("backend %s is proven: %.3g segments/s", finding.plan, finding.rate)
    return finding


def _serve(pipe: Connection, trial: bytes, plans: Sequence[Plan], threads: int) -> None:
    """Try plans, as a child: send each before it is tried, findings as they come, and None at the end."""
    belong_to_parent()
    quiet_libraries()
    keep_freed_memory()
    torch.set_num_threads(threads)
    _try_all(pickle.loads(trial), plans, pipe.send)  # noqa: S301 the parent's own
    pipe.send(None)


def _try_all(trial: Trial, plans: Sequence[Plan], send: Callable[[Plan | Finding], None]) -> None:
    settle(trial.device)
    few = replace(trial, batch_size=SEGMENTS)
    if trial.device.type == "cpu":
        trial = few
    standard = Standard(few)
    steps: dict[Plan, Callable[[], object]] = {}
    seconds: dict[Plan, list[float]] = {}
    for plan in plans:
        send(plan)
        try:
            standard.prove(plan)
            steps[plan] = make_step(trial, plan)
            steps[plan]()
            seconds[plan] = [_seconds(steps[plan], trial.device)]
            if trial.device.type == "cuda":  # alone, so that its memory is free for the next
                step = steps.pop(plan)
                seconds[plan] += [_seconds(step, trial.device) for _ in range(TURNS - 1)]
                send(_timed(trial, plan, seconds[plan]))
                del step
                gc.collect()  # a step and its loss hold each other
                torch.cuda.empty_cache()
        except Exception as error:
            steps.pop(plan, None)
            send(Finding(plan, failure=said(error)))
            if trial.device.type == "cuda":
                return  # the device may be unusable for this process now
    for _ in range(TURNS - 1):  # in turns, so that a busy moment does not fall on one alone
        for plan, step in list(steps.items()):
            if min(seconds[plan]) >= HOPELESS * min(map(min, seconds.values())):
                continue
            send(plan)
            try:
                seconds[plan].append(_seconds(step, trial.device))
            except Exception as error:
                del steps[plan], seconds[plan]
                send(Finding(plan, failure=said(error)))
    for plan in steps:
        send(_timed(trial, plan, seconds[plan]))


def _timed(trial: Trial, plan: Plan, seconds: Sequence[float]) -> Finding:
    return Finding(plan, trial.batch_size / min(seconds), max(seconds) / min(seconds))


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        begun = time.perf_counter()
        step()
        return time.perf_counter() - begun
    torch.cuda.synchronize(device)
    begun = time.perf_counter()
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize(device)
    return (time.perf_counter() - begun) / STEPS


def said(error: Exception) -> str:
    """Return an error's class and first line."""
    text = str(error).strip().partition("\n")[0]
    return text if isinstance(error, WrongNumbersError) else f"{type(error).__name__}: {text}".rstrip(": ")
