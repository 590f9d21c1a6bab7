"""Which of the ways to compute the network is used: proven and measured here, not assumed.

All of them are the same function. ``fast=auto`` takes the one that a few training steps on this machine show
to be fastest, and remembers it; ``fast=true`` the one meant for the device, if it is proven; ``fast=false``
the plain one.
"""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from samplecnn.errors import UserError
from samplecnn.files import cache_folder, locked, write
from samplecnn.hardware import describe, driver
from samplecnn.model.network import COMPILE, PLAIN, STEM, TRITON, SampleCNN, backends
from samplecnn.runs.results import installed
from samplecnn.training.backends.proof import PLAIN_PLAN, Plan, Trial, make_step
from samplecnn.training.backends.trials import SEGMENTS, Finding, examine, said

log = logging.getLogger(__name__)

BUSY = 1.5  # spread of a backend's turns, from which on the machine was too busy to tell
KEPT = 200  # choices in the file; the oldest go
FIRST, LAST = 5, 25  # steps of a training between which its rate is compared with what was measured
FAR = 0.4  # of the measured rate, which does not count all that a training does


@dataclass(frozen=True)
class Choice:
    """A plan, the segments per second that were measured of it (None: nothing), and where that is kept."""

    plan: Plan
    rate: float | None = None
    key: str = ""


def choose(trial: Trial, *, fast: bool | str, graphs: bool = True) -> Choice:
    """Return the choice that ``fast`` asks for: true, false or "auto"; log which and why in a line.

    ``graphs=False`` where a step cannot be a CUDA graph (several devices). What has been measured once for a
    network, shape and machine holds from then on (``memory_file``), if one step of it works.
    """
    if fast is False:
        log.info("computing step by step, plain (fast=false)")
        return Choice(PLAIN_PLAN)
    plans = candidates(trial, graphs=graphs)[-1 if fast is True else 0 :]
    if plans == [PLAIN_PLAN]:  # a network of others, where no graph can be had
        return Choice(PLAIN_PLAN)
    key = identify(trial, plans)
    with _alone():
        known = _recall(key)
        if known is not None and _still_works(trial, known):
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
        _keep(key, choice)
    else:
        log.info("the machine is busy, so that this may not be the fastest: the next run measures again")
    return choice


def _still_works(trial: Trial, known: Choice) -> bool:
    """Take one step, and forget the choice if that fails, even if it ends this process."""
    _keep(known.key, None)
    devices = [trial.device] if trial.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            loss = float(make_step(replace(trial, batch_size=SEGMENTS), known.plan)())
        failure = None if loss == loss else "its loss is not a number"
    except Exception as error:
        failure = said(error)
    if failure:
        log.warning("backend %s does not work any more (%s): trying all again", known.plan, failure)
        return False
    _keep(known.key, known)
    return True


def identify(trial: Trial, plans: Sequence[Plan]) -> str:
    """Return all that a choice depends on, as text."""
    blocks = getattr(trial.network, "blocks", None)
    block = type(blocks[0] if blocks is not None else trial.network)
    # Frozen ones have no shape: another part of the network is trained, and another backend may be fastest.
    shapes = [list(p.shape) if p.requires_grad else [] for p in trial.network.parameters()]
    return json.dumps(
        [
            *(describe(trial.device), driver(), installed("samplecnn"), torch.__version__),
            *(str(torch.backends.cudnn.version()), _triton()),
            *(trial.precision, trial.batch_size, dict(trial.optimizer), [str(plan) for plan in plans]),
            *(f"{block.__module__}.{block.__qualname__}", shapes),
        ]
    )


def _triton() -> str | None:
    spec = find_spec("triton")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent.parent.name


def memory_file() -> Path:
    """Return where measured choices are kept: samplecnn/backends.json in the user's cache folder."""
    return cache_folder() / "backends.json"


@contextmanager
def _alone() -> Iterator[None]:
    """Measure while no other training does, where that can be had."""
    path = memory_file()
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            waiting = "another training measures the backends of this machine: waiting for it"
            stack.enter_context(locked(path.with_suffix(".lock"), waiting=waiting))
        except (OSError, UserError) as error:
            log.info("the choice cannot be kept in %s (%s)", path, error)
        yield


def _read() -> dict[str, Any]:
    try:
        return dict(json.loads(memory_file().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _recall(key: str) -> Choice | None:
    try:
        kept = _read()[key]
        return Choice(Plan(str(kept["backend"]), bool(kept["graph"])), float(kept["rate"]), key)
    except (LookupError, TypeError, ValueError):
        return None


def _keep(key: str, choice: Choice | None) -> None:
    """Add a choice to the file, or take it out; without the file, the next run measures again."""
    known = _read()
    known.pop(key, None)
    if choice is not None:
        known[key] = {"backend": choice.plan.backend, "graph": choice.plan.graph, "rate": choice.rate}
    try:
        write(memory_file(), json.dumps(dict(list(known.items())[-KEPT:]), indent=1) + "\n")
    except OSError as error:
        log.info("the choice cannot be kept in %s (%s)", memory_file(), error.strerror)


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
            if rate < FAR * self.choice.rate:
                log.info(
                    "training at %.3g segments/s, where %.3g were measured: the next run measures again",
                    rate,
                    self.choice.rate,
                )
                with _alone():
                    _keep(self.choice.key, None)
            self.choice = replace(self.choice, rate=None)  # once is enough
        self._begun = now
