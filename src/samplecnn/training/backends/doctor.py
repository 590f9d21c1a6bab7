"""What this machine is, and what each way to compute the network does on it."""

import os
import platform
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from samplecnn.hardware import describe, driver, settle
from samplecnn.model.architecture import Blocks, build
from samplecnn.model.network import SEGMENT_SAMPLES, SampleCNN
from samplecnn.runs.results import versions
from samplecnn.threads import available
from samplecnn.training.backends.choice import every_plan
from samplecnn.training.backends.graph import AUTOCAST
from samplecnn.training.backends.proof import Trial
from samplecnn.training.backends.trials import SEGMENTS, examine

TAGS = 50
CONVOLUTIONS = 5  # timed, of which the fastest counts


def diagnose(
    block: str,
    width: int,
    batch_size: int,
    device: torch.device,
    precision: str,
    blocks: Blocks | None = None,
) -> dict[str, Any]:
    """Try all backends on training steps of a network; return what was found, in plain values.

    Of each backend: ``segments_per_second`` of forward and backward, ``of_limit``, the share of what the
    convolutions alone allow at the rate that one of them reaches here, and ``failure``, why it is not used
    (None: it is proven). ``works`` says whether training will. ``batch_size`` is of a GPU's steps; a CPU's
    are of SEGMENTS. A block of one's own is in ``blocks``, by name. NetworkError for what cannot be built.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same weights each time
        described = {"block": {"name": block}, "multi": True, "width": width, "dropout": 0.5}
        network = build(described, TAGS, blocks)
    batch_size = SEGMENTS if device.type == "cpu" else batch_size
    assert isinstance(network, SampleCNN)
    trial = Trial(network, device, precision, batch_size)
    found = examine(trial, every_plan(trial))
    limit = flop_rate(width, device, precision) / step_flops(network)
    return {
        "machine": machine(device),
        "network": {"block": block, "width": width, "batch_size": batch_size, "precision": precision},
        "limit_segments_per_second": limit,
        "backends": [
            {
                "backend": str(finding.plan),
                "segments_per_second": None if finding.failure else finding.rate,
                "of_limit": None if finding.failure else finding.rate / limit,
                "failure": finding.failure,
            }
            for finding in found
        ],
        "works": any(finding.failure is None for finding in found),
    }


def machine(device: torch.device) -> dict[str, Any]:
    """Return what a report of a fault needs to say of a machine."""
    said: dict[str, Any] = {
        "device": describe(device),
        "system": platform.platform(),
        "python": platform.python_version(),
        **versions(),
        "cores": available(),
        "load": os.getloadavg()[0],
        "cpu_capabilities": torch.backends.cpu.get_cpu_capability(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        said |= {
            "compute_capability": f"{properties.major}.{properties.minor}",
            "gpu_memory_bytes": properties.total_memory,
            "driver": driver(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "built_for": torch.cuda.get_arch_list(),
        }
    return said


def step_flops(network: SampleCNN) -> float:
    """Return the floating-point operations of a training step per segment."""
    with FlopCounterMode(display=False) as counter:
        network.train()(torch.zeros(2, SEGMENT_SAMPLES)).sum().backward()
    return counter.get_total_flops() / 2


def flop_rate(width: int, device: torch.device, precision: str) -> float:
    """Return the FLOP/s of the convolution that most of the network is, forward, in ``channels_last``."""
    settle(device)
    dtype = AUTOCAST.get(precision, torch.float32)
    batch, time_steps = (4, 6561) if device.type == "cpu" else (64, 6561)
    x = torch.randn(batch, width, 1, time_steps, dtype=dtype, device=device)
    weight = torch.randn(width, width, 1, 3, dtype=dtype, device=device)
    x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    seconds = []
    with torch.no_grad():
        for _ in range(2 + CONVOLUTIONS):
            begun = time.perf_counter()
            torch.nn.functional.conv2d(x, weight, padding=(0, 1))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - begun)
    return 2 * x.numel() * width * 3 / min(seconds[2:])


def table(found: Mapping[str, Any]) -> str:
    """Lay out what `diagnose` found, for people."""
    shape = found["network"]
    lines = [f"{key:18} {value}" for key, value in found["machine"].items()]
    lines += [
        "",
        "Training steps of " + ", ".join(f"{key} {value}" for key, value in shape.items()) + ".",
        f"The convolutions alone would allow {found['limit_segments_per_second']:.3g} segments/s.",
        "",
        f"{'backend':26} {'segments/s':>10} {'of limit':>9}",
    ]
    for row in found["backends"]:
        if row["failure"] is None:
            lines.append(
                f"{row['backend']:26} {row['segments_per_second']:10.3g} {row['of_limit']:9.0%}  proven"
            )
        else:
            lines.append(f"{row['backend']:26} {'-':>10} {'-':>9}  not used: {row['failure']}")
    lines += ["", "Training works here." if found["works"] else "Training does not work here."]
    return "\n".join(lines)
