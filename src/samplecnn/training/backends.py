"""Which of the ways to compute the network is fastest here: measured, not assumed.

All of them are the same function. ``fast=auto`` takes the one that a few training steps on this machine show
to be fastest, and remembers it; ``fast=true`` takes the one meant for the device without measuring;
``fast=false`` the plain one.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from samplecnn.data.datamodule import Batch
from samplecnn.files import write
from samplecnn.hardware import describe
from samplecnn.model.network import PLAIN, SEGMENT_SAMPLES, STEM, SampleCNN, backends
from samplecnn.training.graph import StepGraph, autocast

log = logging.getLogger(__name__)

REPEAT = 3  # timed steps; on a GPU timed runs of STEPS steps
STEPS = 10
CPU_SEGMENTS = 4  # enough to see on a CPU, where a step of 23 takes seconds


@dataclass(frozen=True)
class Plan:
    """How the network computes, and whether a training step is replayed from a CUDA graph."""

    backend: str = PLAIN
    graph: bool = False

    def __str__(self) -> str:
        return self.backend + (" in a CUDA graph" if self.graph else "")


PLAIN_PLAN = Plan()


def choose(
    network: SampleCNN,
    *,
    fast: bool | str,
    device: torch.device,
    precision: str,
    batch_size: int,
    description: Mapping[str, Any],
    graphs: bool = True,
) -> Plan:
    """Return the plan that ``fast`` asks for: true, false or "auto"; log which and why in a line.

    ``precision`` is Lightning's name. ``graphs=False`` where a step cannot be a CUDA graph (several
    devices). What has been measured once for a network, shape and machine holds from then on: see
    ``memory_file``.
    """
    candidates = [Plan(backend) for backend in backends(device.type)]
    if device.type == "cuda" and graphs:
        candidates += [Plan(plan.backend, graph=True) for plan in candidates]
    if fast is False:
        log.info("computing step by step, plain (fast=false)")
        return candidates[0]
    if fast is True:
        log.info("computing on backend: %s (fast=true: not compared with others)", candidates[-1])
        return candidates[-1]
    key = json.dumps(
        [describe(device), torch.__version__, precision, batch_size, len(candidates), _shape(description)]
    )
    remembered = _recall(key)
    if remembered in candidates:
        log.info("computing on backend: %s (the fastest when it was measured on this machine)", remembered)
        return remembered
    rates = measure(network, candidates, device=device, precision=precision, batch_size=batch_size)
    best = max(rates, key=rates.__getitem__)
    measured = ", ".join(f"{plan} {rate:.0f}" for plan, rate in rates.items())
    log.info("computing on backend: %s (segments/s, measured now: %s)", best, measured)
    _remember(key, best)
    return best


def test_backend(fast: bool | str) -> str:
    """Return the backend that tests compute on: the same for all that was trained with this ``fast``."""
    return PLAIN if fast is False else STEM


def measure(
    network: SampleCNN, plans: list[Plan], *, device: torch.device, precision: str, batch_size: int
) -> dict[Plan, float]:
    """Return training segments per second of each plan that works here, on copies of the network.

    Forward and backward, without the optimiser. Random state and network are left as they were.
    """
    if device.type == "cpu":
        batch_size = min(batch_size, CPU_SEGMENTS)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        # Halves: a network of few tags sees nothing but the shapes.
        waveforms = torch.rand(batch_size, SEGMENT_SAMPLES, device=device) - 0.5
        steps: dict[Plan, Callable[[], object]] = {}
        for plan in plans:
            try:
                steps[plan] = _step(network, plan, waveforms, precision)
                steps[plan]()
            except RuntimeError as error:
                steps.pop(plan, None)
                reason = str(error).strip().partition("\n")[0]
                log.warning("backend %s does not work here (%s): left out", plan, reason)
        times: dict[Plan, list[float]] = {plan: [] for plan in steps}
        for _ in range(REPEAT):  # in turns, so that a busy moment does not fall on one alone
            for plan, step in steps.items():
                times[plan].append(_seconds(step, device))
    return {plan: batch_size / min(seconds) for plan, seconds in times.items()}


def _step(network: SampleCNN, plan: Plan, waveforms: Tensor, precision: str) -> Callable[[], object]:
    """Return a training step of a copy of the network, without its optimiser."""
    copy = deepcopy(network).to(waveforms.device).train()
    copy.use(plan.backend)
    labels = torch.zeros(len(waveforms), copy.head_fc2.out_features, device=waveforms.device)
    batch = Batch(waveforms, labels, torch.zeros(len(waveforms), dtype=torch.int64))

    def loss(batch: Batch) -> Tensor:
        return F.binary_cross_entropy_with_logits(copy(batch.waveforms).float(), batch.labels)

    if plan.graph:
        graph = StepGraph(copy, loss, batch, precision)
        return lambda: graph(batch)

    def eager() -> None:
        copy.zero_grad()
        with autocast(waveforms.device, precision):
            value = loss(batch)
        value.backward()

    return eager


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


def memory_file() -> Path:
    """Return where measured choices are kept: samplecnn/backends.json in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "samplecnn" / "backends.json"


def _shape(description: Mapping[str, Any]) -> list[Any]:
    return [description["block"], description["multi"], description["width"], len(description["tags"])]


def _recall(key: str) -> Plan | None:
    try:
        kept = json.loads(memory_file().read_text(encoding="utf-8"))[key]
        return Plan(backend=str(kept["backend"]), graph=bool(kept["graph"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _remember(key: str, plan: Plan) -> None:
    """Add a choice to the file; without one, the next run measures again."""
    path = memory_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            known = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            known = {}
        known[key] = {"backend": plan.backend, "graph": plan.graph}
        write(path, json.dumps(known, indent=1) + "\n")
    except OSError as error:
        log.info("the choice cannot be kept in %s (%s)", path, error.strerror)
