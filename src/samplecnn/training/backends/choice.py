"""Which of the ways to compute the network is used: proven and measured here, not assumed.

All of them are the same function. ``fast=auto`` takes the one that a few training steps on this machine show
to be fastest, and remembers it; ``fast=true`` the one meant for the device, if it is proven; ``fast=false``
the plain one.
"""

import hashlib
import json
import logging
import math
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from samplecnn.errors import UserError
from samplecnn.files import cache_folder, locked, write
from samplecnn.hardware import describe, driver, instructions
from samplecnn.model.network import COMPILE, PLAIN, STEM, TRITON, SampleCNN, backends
from samplecnn.runs.results import installed
from samplecnn.training.backends.proof import PLAIN_PLAN, Plan, Trial, make_step
from samplecnn.training.backends.trials import SEGMENTS, Finding, examine, said

log = logging.getLogger(__name__)

BUSY = 1.5  # spread of a backend's turns, from which on the machine was too busy to tell
KEPT = 200  # choices in the file; the oldest go
FIRST, LAST = 5, 25  # steps of a training between which its rate is compared with what was measured
FAR = 0.4  # of the measured rate, which does not count all that a training does; more than 1 / FAR is as far


@dataclass(frozen=True)
class Choice:
    """A plan, the segments per second that were measured of it (None: nothing), and where that is kept."""

    plan: Plan
    rate: float | None = None
    key: str = ""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint says of it."""
        return {"backend": self.plan.backend, "graph": self.plan.graph, "key": digest(self.key)}


def choose(trial: Trial, *, fast: bool | str, graphs: bool = True, before: Any = None) -> Choice:
    """Return the choice that ``fast`` asks for: true, false or "auto"; log which and why in a line.

    ``graphs=False`` where a step cannot be a CUDA graph (several devices). What has been measured once for a
    network, shape and machine holds from then on (``memory_file``), if one step of it works. A training that
    goes on computes as ``before``, which is the state of its choice in a checkpoint, on a machine of the same
    kind: another way would round otherwise.
    """
    if fast is False:
        log.info("computing step by step, plain (fast=false)")
        return Choice(PLAIN_PLAN)
    plans = candidates(trial, graphs=graphs)[-1 if fast is True else 0 :]
    if plans == [PLAIN_PLAN]:  # a network of others, where no graph can be had
        return Choice(PLAIN_PLAN)
    key = identify(trial, plans)
    with _alone():
        same = isinstance(before, Mapping) and before.get("key") == digest(key)
        earlier = _read_choice(before, plans, key) if same else None
        if earlier is not None and _still_works(trial, earlier):
            log.info("computing on backend: %s (as before)", earlier.plan)
            return earlier
        known = _read_choice(_read().get(key), plans, key)
        if known is not None and known.rate is not None:
            forget(known)  # should it end this process
            if _still_works(trial, known):
                _keep(known)
                log.info("computing on backend: %s (the fastest when it was measured here)", known.plan)
                return known
        log.info("trying ways to compute on this machine, which takes a while, once")
        proven = [finding for finding in _examine(trial, plans) if not finding.failure]
        if not proven:
            log.warning("computing step by step, plain: no other way is proven")
            return Choice(PLAIN_PLAN)
        return _fastest(proven, key)


def every_plan(trial: Trial, *, graphs: bool = True) -> list[Plan]:
    """Return all plans that there are, the plain one first, the one meant for the device last."""
    kinds = backends(trial.device.type) if isinstance(trial.network, SampleCNN) else (PLAIN,)
    plans = [Plan(backend) for backend in kinds]
    if trial.device.type == "cuda" and graphs:
        plans += [Plan(backend, graph=True) for backend in kinds]
    return plans


def candidates(trial: Trial, *, graphs: bool = True) -> list[Plan]:
    """Return the plans worth trying, in the order of `every_plan`.

    PyTorch's compiler, which takes minutes, stands in for the Triton kernels where blocks have none.
    """
    fusable = isinstance(trial.network, SampleCNN) and trial.network.fusable
    slower = COMPILE if fusable else TRITON
    return [plan for plan in every_plan(trial, graphs=graphs) if plan.backend != slower]


def _examine(trial: Trial, plans: Sequence[Plan]) -> list[Finding]:
    """Try plans: those without a graph, which are never faster, only where the backend's graph fails."""
    found = examine(trial, [plan for plan in plans if plan.graph])
    graphed = {finding.plan.backend for finding in found if not finding.failure}
    return found + examine(trial, [p for p in plans if not p.graph and p.backend not in graphed])


def test_backend(fast: bool | str) -> str:
    """Return the backend that tests compute on: the same for all that was trained with this ``fast``."""
    return PLAIN if fast is False else STEM


def _fastest(proven: Sequence[Finding], key: str) -> Choice:
    best = max(proven, key=lambda finding: finding.rate)
    choice = Choice(best.plan, best.rate, key)
    measured = ", ".join(f"{finding.plan} {finding.rate:.3g}" for finding in proven)
    log.info("computing on backend: %s (segments/s, measured now: %s)", best.plan, measured)
    if max(finding.spread for finding in proven) < BUSY:
        _keep(choice)
    else:
        log.info("the machine is busy, so that this may not be the fastest: the next run measures again")
    return choice


def _still_works(trial: Trial, known: Choice) -> bool:
    """Take one step, and say whether that can be done."""
    devices = [trial.device] if trial.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            loss = float(make_step(replace(trial, batch_size=SEGMENTS), known.plan)())
        failure = None if loss == loss else "its loss is not a number"
    except Exception as error:
        failure = said(error)
    if failure:
        log.warning("backend %s does not work any more (%s): trying all again", known.plan, failure)
    return failure is None


def identify(trial: Trial, plans: Sequence[Plan]) -> str:
    """Return all that a choice depends on, as text."""
    blocks = getattr(trial.network, "blocks", None)
    block = type(blocks[0] if blocks is not None else trial.network)
    # Frozen ones have no shape: another part of the network is trained, and another backend may be fastest.
    shapes = [list(p.shape) if p.requires_grad else [] for p in trial.network.parameters()]
    return json.dumps(
        [
            *(describe(trial.device), driver(), installed("samplecnn"), torch.__version__),
            *(str(torch.backends.cudnn.version()), installed("triton")),
            instructions() if trial.device.type == "cpu" else [],
            *(trial.precision, trial.batch_size, dict(trial.optimizer), [str(plan) for plan in plans]),
            *(f"{block.__module__}.{block.__qualname__}", shapes),
        ]
    )


def digest(key: str) -> str:
    """Return what a checkpoint has of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def memory_file() -> Path:
    """Return where measured choices are kept: samplecnn/backends.json in the user's cache folder."""
    return cache_folder() / "backends.json"


@contextmanager
def _alone() -> Iterator[None]:
    """Measure while no other training on this machine does, where that can be had."""
    path = memory_file()
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            waiting = "another training measures the backends of this machine: waiting for it"
            stack.enter_context(
                locked(path.with_name(f"{path.stem}-{platform.node()}.lock"), waiting=waiting)
            )
        except (OSError, UserError) as error:
            log.info("the choice cannot be kept in %s (%s)", path, error)
        yield


def _read() -> dict[str, Any]:
    try:
        return dict(json.loads(memory_file().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def _read_choice(kept: Any, plans: Sequence[Plan], key: str) -> Choice | None:
    """Return a choice out of a file, which is untrusted; None for what is no choice of these plans."""
    if not isinstance(kept, Mapping):
        return None
    plan = next((p for p in plans if (p.backend, p.graph) == (kept.get("backend"), kept.get("graph"))), None)
    rate = kept.get("rate")
    known = type(rate) is float and 0 < rate < math.inf
    return None if plan is None else Choice(plan, rate if known else None, key)


def forget(choice: Choice) -> None:
    """Take a choice out of the file."""
    _change(choice.key, None)


def _keep(choice: Choice) -> None:
    """Add a choice to the file."""
    plan = choice.plan
    _change(choice.key, {"backend": plan.backend, "graph": plan.graph, "rate": choice.rate})


def _change(key: str, kept: Mapping[str, Any] | None) -> None:
    """Put what is kept under a key into the file; where that fails, the next run measures again."""
    path = memory_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock"), patience=5.0):
            known = {name: value for name, value in _read().items() if name != key}
            if kept is not None:
                known[key] = kept
            write(path, json.dumps(dict(list(known.items())[-KEPT:]), indent=1) + "\n")
    except (OSError, UserError) as error:
        log.info("the choice cannot be kept in %s (%s)", path, error)


class FirstSteps(pl.Callback):
    """Compares the first steps of a training with what was measured, and forgets a choice that is far off."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self._begun = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the clock after two of the steps."""
        if self.choice.rate is None or batch_idx not in (FIRST, LAST) or not trainer.is_global_zero:
            return
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        now = time.perf_counter()
        if batch_idx == LAST and self._begun:
            rate = (LAST - FIRST) * len(batch.labels) / (now - self._begun)
            if not FAR <= rate / self.choice.rate <= 1 / FAR:
                log.info(
                    "training at %.3g segments/s, where %.3g were measured: the next run measures again",
                    rate,
                    self.choice.rate,
                )
                forget(self.choice)
            self.choice = replace(self.choice, rate=None)  # once is enough
        self._begun = now
