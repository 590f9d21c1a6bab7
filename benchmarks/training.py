"""How fast a training step is, beside the network that people commonly write and the hardware's limit.

    python benchmarks/training.py                            # one core, or the GPU if there is one
    python benchmarks/training.py --blocks se --batch 8 --json training.json

A step is forward, loss, backward and update on one batch that is already on the device. The reference is
channels-first Conv1d in float32, eager, PyTorch's SGD, with the allocator as it comes; "kept memory" is the
same with the program's own setting of the allocator. The limit is the larger of FLOPs over the FLOP/s of a
convolution and bytes of feature maps and weights (see `traffic`) over the bytes/s of a copy, both measured in
the same run. On a CPU the convolutions of a step are timed too, forward and backward, each of them by the
faster of the ways there are, with nothing between them: what is left of the limit at the rates they reach.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.amp.grad_scaler import GradScaler
from torch.utils.flop_counter import FlopCounterMode

from measure import (
    CONVOLUTIONS,
    Variants,
    Work,
    begin,
    best_rate,
    options,
    rates,
    write,
)
from measure import rates_table as table
from reference import Reference
from samplecnn.data.batches import Batch
from samplecnn.hardware import settle
from samplecnn.memory import keep_freed_memory
from samplecnn.model.architecture import build
from samplecnn.model.backends.products import Convolution
from samplecnn.model.network import COMPILE, SEGMENT_SAMPLES, SampleCNN, backends
from samplecnn.training.backends.graph import StepGraph, TrainingStep, autocast
from samplecnn.training.backends.proof import Plan
from samplecnn.training.optimiser import KerasSGD, decay_groups

TAGS = 50
RATE = 0.01
STEPS = {"cpu": 1, "cuda": 20}  # per repetition
SIZES = {"fp32": 4, "bf16": 2}  # bytes of a value of a feature map
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}


def our_network(block: str, width: int) -> SampleCNN:
    """Return the network with multi-level aggregation and the paper's options."""
    description = {"block": {"name": block}, "multi": True, "width": width, "dropout": 0.5}
    network = build(description, TAGS)
    assert isinstance(network, SampleCNN)
    return network


def random_batch(batch: int, device: torch.device) -> Batch:
    """Return noise with labels of chance."""
    torch.manual_seed(0)
    waveforms = (torch.rand(batch, SEGMENT_SAMPLES) - 0.5).to(device)
    labels = (torch.rand(batch, TAGS) < 0.1).float().to(device)
    return Batch(waveforms, labels, torch.zeros(batch, dtype=torch.int64), torch.arange(batch))


def common_step(block: str, width: int, batch: int, device_name: str, precision: str, keep: bool) -> Work:
    """Return steps of the reference."""
    if keep:
        keep_freed_memory()
    device = torch.device(device_name)
    torch.backends.cudnn.benchmark = False  # as it comes
    waveforms, labels, *_ = random_batch(batch, device)
    network = Reference(block, width, TAGS).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, nesterov=True)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(device, PRECISIONS[precision]):
            logits = network(waveforms)
        F.binary_cross_entropy_with_logits(logits.float(), labels).backward()
        optimizer.step()

    return _several(step, device)


def our_step(block: str, width: int, batch: int, device_name: str, precision: str, plan: Plan) -> Work:
    """Return steps of ours, as the training takes them."""
    keep_freed_memory()
    device = torch.device(device_name)
    data = random_batch(batch, device)
    step = whole_step(our_network(block, width).to(device), data, PRECISIONS[precision], plan)
    return _several(lambda: step(data), device)


def convolutions(block: str, width: int, batch: int, device_name: str, precision: str) -> Work:
    """Return the convolutions of our steps alone, forward and backward, each in the faster way."""
    keep_freed_memory()
    device = torch.device(device_name)
    network = our_network(block, width)
    calls: list[tuple[torch.nn.Module, torch.Tensor]] = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda called, given, _: calls.append((called, given[0].detach())))
    with torch.no_grad(), autocast(device, PRECISIONS[precision]):
        network.train()(random_batch(batch, device).waveforms)

    def call(module: torch.nn.Module, x: torch.Tensor) -> None:
        with autocast(device, PRECISIONS[precision]):
            y = module(x)
        y.backward(torch.ones_like(y))
        x.grad = None

    for module, x in calls:
        module._forward_hooks.clear()
        x.requires_grad_(module is not network.stem_conv)  # waveforms want no gradient
        if isinstance(module, Convolution):
            found = []
            for by_products in (False, True):
                module.by_products = by_products
                found.append(best_rate(partial(call, module, x), 1, device, repeat=2))
            module.by_products = found[1] > found[0]

    def step() -> None:
        for on in calls:
            call(*on)
        network.zero_grad()

    return step


def whole_step(
    network: SampleCNN, like: Batch, precision: str, plan: Plan
) -> Callable[[Batch], torch.Tensor]:
    """Return forward, backward and update on a batch ``like`` the given one; it returns the loss."""
    settle(like.waveforms.device)
    network.train()
    network.use(plan.backend)
    optimizer = KerasSGD(decay_groups(network, 0.0), lr=RATE)

    def loss(data: Batch) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(network(data.waveforms).float(), data.labels)

    scaler = GradScaler(like.waveforms.device.type, enabled=precision == "16-mixed")
    step = TrainingStep(network, loss, precision, optimizer, scaler)
    return StepGraph(step, like) if plan.graph else step


def _several(step: Work, device: torch.device) -> Work:
    def work() -> None:
        for _ in range(STEPS[device.type]):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return work


def counted(block: str, width: int) -> dict[str, float]:
    """Return FLOPs of a step per segment, how many values of feature maps it reads and writes, and weights.

    Values as if everything were fused that can be: each convolution reads its input and writes its output;
    the rest of a block reads that once and writes a third; backwards, the same reads output and gradient for
    the sums over the batch and again for the gradient of the convolution's output, which both gradients of
    the convolution read; the stem writes its output and reads its gradient.
    """
    network = our_network(block, width)
    elements = 0
    for module in network.blocks.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _m, inputs, output: sizes.append((inputs[0], output)))
    sizes: list[tuple[torch.Tensor, torch.Tensor]] = []
    with FlopCounterMode(display=False) as flops:
        data = random_batch(2, torch.device("cpu"))
        network(data.waveforms).sum().backward()
    for entered, left in sizes:
        # Forward: input, output, output again, a third of it. Backward: two times output and a third, its
        # gradient written and read twice; input read and its gradient written.
        elements += 3 * entered.numel() + 7 * left.numel() + left.numel()
    stem = 2 * 2 * width * SEGMENT_SAMPLES // 3
    weights = sum(weight.numel() for weight in network.parameters())
    return {"FLOP": flops.get_total_flops() / 2, "values": (elements + stem) / 2, "weights": weights}


def traffic(count: Mapping[str, float], size: int, batch: int) -> float:
    """Return the bytes that a step moves per segment of its batch, in values of ``size`` bytes.

    Weights are read forwards and backwards, and their gradients written and read by the update, which reads
    and writes weights and momentum in float32.
    """
    return size * count["values"] + (4 * size + 4 * SIZES["fp32"]) * count["weights"] / batch


def plans(device: torch.device, *, compiler: bool = False) -> list[Plan]:
    """Return the ways to compute a step on a device that a training tries; with the ``compiler``, all.

    It takes minutes, and a training has it only for blocks of one's own.
    """
    found = [Plan(backend) for backend in backends(device.type) if compiler or backend != COMPILE]
    return found + [Plan(plan.backend, graph=True) for plan in found] if device.type == "cuda" else found


def time_steps(chosen: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Measure the steps of all blocks in all ways; return the figures."""
    results = begin(chosen)
    limits = results["ceilings"]
    for block in chosen.blocks:
        shape = (block, chosen.width, chosen.batch, chosen.device)
        variants: Variants = {"reference, as it comes": (common_step, (*shape, "fp32", False))}
        if device.type == "cpu":
            variants["reference, kept memory"] = (common_step, (*shape, "fp32", True))
        else:
            variants["reference, autocast"] = (common_step, (*shape, "bf16", False))
        for precision in chosen.precisions:
            chosen_plans = plans(device)
            if precision == "fp32" and device.type == "cuda":  # no aim there: what there is to gain
                chosen_plans = [chosen_plans[0], chosen_plans[-1]]
            if device.type == "cpu":
                variants[f"{CONVOLUTIONS}, {precision}"] = (convolutions, (*shape, precision))
            for plan in chosen_plans:
                variants[f"ours, {precision}, {plan}"] = (our_step, (*shape, precision, plan))
        speeds, peaks = rates(variants, chosen, chosen.batch * STEPS[device.type])
        count = counted(block, chosen.width)
        limit = {
            name: 1
            / max(
                count["FLOP"] / limits[f"{name} FLOP/s"],
                traffic(count, size, chosen.batch) / limits["bytes/s"],
            )
            for name, size in SIZES.items()
        }
        results[block] = {
            "segments_per_second": speeds,
            "peak_bytes": peaks,
            "counted": count,
            "limit": limit,
        }
        write(chosen.json, results, table(results))  # after each block: the next takes a while
    return results


def main() -> None:
    """Measure, print, write."""
    parser = options(__doc__ or "", batch=23)
    parser.add_argument("--precisions", nargs="+", choices=list(PRECISIONS), default=list(PRECISIONS))
    chosen = parser.parse_args()
    results = time_steps(chosen, torch.device(chosen.device))
    print(table(results))


if __name__ == "__main__":
    main()
