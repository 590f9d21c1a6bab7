"""What binds a training step on a GPU: the time of its kernels, by what they do, and each by name.

    python benchmarks/kernels.py
    python benchmarks/kernels.py --blocks se --batch 92 --json kernels.json

Of every way to compute, in bfloat16. What the kernels do not fill of a step's time, the GPU waited. On a CPU,
the operations in place of kernels.
"""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from measure import by_block, machine, markdown, options, wait, write
from training import PRECISIONS, our_network, plans, random_batch, whole_step

STEPS, WARM_UP = 5, 5
NAMED = 12  # kernels of a step that the table has by name
# What a kernel does, by the first pattern that its name has; products are those of convolutions too.
KINDS = {
    "Triton": r"^triton_|(?-i:^_[a-z0-9_]+$)",  # the compiler's, whose names say what all they do, and ours
    "products": r"conv|xmma|cutlass|cudnn|dgrad|wgrad|gemm|nvjet|splitk|nhwc|nchw|aten::(add)?mm",
    "update": r"multi_tensor|foreach|fused_sgd|fused_adam",
    "copies and casts": r"copy|memcpy|memset|fill|cast",
    "batch norm": r"batch_norm|batchnorm|bn_",
    "pooling": r"pool",
    "sums": r"reduce",
    "elementwise": r"elementwise|vectorized|distribution",
}


def kind_of(kernel: str) -> str:
    """Return what a kernel does, as far as its name tells."""
    return next((kind for kind, known in KINDS.items() if re.search(known, kernel, re.IGNORECASE)), "others")


def measure(step: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """Return microseconds of a step, and of its kernels by name with their number."""
    for _ in range(WARM_UP):
        step()
    wait(device)
    begun = time.perf_counter()
    for _ in range(STEPS):
        step()
    wait(device)
    whole = (time.perf_counter() - begun) / STEPS
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        for _ in range(STEPS):
            step()
        wait(device)
    kernels = {}
    for event in profiler.key_averages():
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if own and (event.device_type.name == "CUDA") == on_gpu:
            kernels[event.key] = {"us": own / STEPS, "calls": event.count / STEPS}
    return {"step_us": 1e6 * whole, "kernels": kernels}


def by_kind(kernels: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return the sums over the kernels of each kind, most time first."""
    sums: dict[str, dict[str, float]] = {}
    for name, kernel in kernels.items():
        of_kind = sums.setdefault(kind_of(name), {"us": 0.0, "calls": 0.0})
        for figure, value in kernel.items():
            of_kind[figure] += value
    return dict(sorted(sums.items(), key=lambda item: -item[1]["us"]))


def table(results: Mapping[str, Any]) -> str:
    """Lay out each step's kinds of kernels, and the kernels of the fastest step by name."""
    text = f"{results['machine']['device']}, batch {results['batch']}, width {results['width']}.\n"
    for block, found in by_block(results, "plans").items():
        rows = []
        for plan, figures in found["plans"].items():
            sums, whole = by_kind(figures["kernels"]), figures["step_us"]
            for name, sum_ in sums.items():
                rows.append(
                    [plan, name, f"{sum_['calls']:.0f}", f"{sum_['us']:.0f}", f"{sum_['us'] / whole:.0%}"]
                )
            busy = sum(sum_["us"] for sum_ in sums.values())
            rows.append([plan, "all of the step", "", f"{whole:.0f}", f"{busy / whole:.0%} busy"])
        text += f"\n{markdown([block, 'kernels', 'number', 'us', 'of the step'], rows)}"
        plan, fastest = min(found["plans"].items(), key=lambda item: item[1]["step_us"])
        slowest = sorted(fastest["kernels"].items(), key=lambda item: -item[1]["us"])[:NAMED]
        rows = [[f"`{name[:90]}`", f"{k['calls']:.0f}", f"{k['us']:.0f}"] for name, k in slowest]
        text += f"\n{markdown([f'{block}, {plan}', 'number', 'us'], rows)}"
    return text


def main() -> None:
    """Measure, print, write."""
    chosen = options(__doc__ or "", batch=23).parse_args()
    device = torch.device(chosen.device)
    torch.set_num_threads(chosen.threads)
    results: dict[str, Any] = {"machine": machine(device), "batch": chosen.batch, "width": chosen.width}
    precision = PRECISIONS["bf16" if device.type == "cuda" else "fp32"]
    batch = random_batch(chosen.batch, device)
    for block in chosen.blocks:
        results[block] = {"plans": {}}
        for plan in plans(device, compiler=True):
            step = whole_step(our_network(block, chosen.width).to(device), batch, precision, plan)
            results[block]["plans"][str(plan)] = measure(lambda step=step: step(batch), device)  # type: ignore[misc]
    print(table(results))
    write(chosen.json, results, table(results))


if __name__ == "__main__":
    main()
