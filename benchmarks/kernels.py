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
    # Those of PyTorch's compiler, whose names say all that they do, and ours.
    "Triton": r"^triton_|(?-i:^_(?!update$)[a-z0-9_]+$)",
    "copies and casts": r"copy|memcpy|memset|fill|cast",
    "update": r"^_update$|multi_tensor|foreach|fused_sgd|fused_adam",
    "products": r"conv|xmma|cutlass|cudnn|dgrad|wgrad|gemm|nvjet|splitk|nhwc|nchw|aten::(add)?mm",
    "batch norm": r"batch_norm|batchnorm|bn_",
    "pooling": r"pool",
    "sums": r"reduce",
    "elementwise": r"elementwise|vectorized|distribution",
}
OTHERS = "others"
LONG = 100  # characters of a name that are kept, less the namespaces that all have
NAMESPACES = re.compile(r"^void |at::native::|\(anonymous namespace\)::|c10::")


def kind_of(kernel: str) -> str:
    """Return what a kernel does, as far as its name tells."""
    return next((kind for kind, known in KINDS.items() if re.search(known, kernel, re.IGNORECASE)), OTHERS)


def short(kernel: str) -> str:
    """Return a kernel's name without what all names have, and not longer than a line."""
    return NAMESPACES.sub("", kernel)[:LONG]


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
    kernels: dict[str, dict[str, float]] = {}
    for event in profiler.key_averages():
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if own and (event.device_type.name == "CUDA") == on_gpu:
            kernel = kernels.setdefault(short(event.key), {"us": 0.0, "calls": 0.0})
            kernel["us"] += own / STEPS
            kernel["calls"] += event.count / STEPS
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
    """Lay out the kinds of kernels of each step, and the kernels of the fastest one by name."""
    text = f"{results['machine']['device']}, batch {results['batch']}, width {results['width']}.\n"
    for block, found in by_block(results, "plans").items():
        rows = []
        for plan, figures in found["plans"].items():
            sums, whole = by_kind(figures["kernels"]), figures["step_us"]
            busy = sum(sum_["us"] for sum_ in sums.values()) / whole
            parts = [f"{sums[kind]['us']:.0f}" if kind in sums else "" for kind in (*KINDS, OTHERS)]
            count = sum(sum_["calls"] for sum_ in sums.values())
            rows.append([plan, f"{whole:.0f}", *parts, f"{count:.0f}", f"{busy:.0%}"])
        head = [f"{block}, us", "step", *KINDS, OTHERS, "kernels", "busy"]
        text += f"\n{markdown(head, rows)}"
        plan, fastest = min(found["plans"].items(), key=lambda item: item[1]["step_us"])
        slowest = sorted(fastest["kernels"].items(), key=lambda item: -item[1]["us"])[:NAMED]
        rows = [[f"`{name}`", f"{kernel['calls']:.0f}", f"{kernel['us']:.0f}"] for name, kernel in slowest]
        text += f"\n{markdown([f'{block}, {plan}', 'number', 'us'], rows)}"
    return text


def main() -> None:
    """Measure, print, write."""
    parser = options(__doc__ or "", batch=23)
    parser.add_argument("--compiler", action="store_true", help="PyTorch's compiler too, which takes minutes")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    torch.set_num_threads(chosen.threads)
    results: dict[str, Any] = {"machine": machine(device), "batch": chosen.batch, "width": chosen.width}
    precision = PRECISIONS["bf16" if device.type == "cuda" else "fp32"]
    batch = random_batch(chosen.batch, device)
    for block in chosen.blocks:
        results[block] = {"plans": {}}
        for plan in plans(device, compiler=chosen.compiler):
            step = whole_step(our_network(block, chosen.width).to(device), batch, precision, plan)
            results[block]["plans"][str(plan)] = measure(lambda step=step: step(batch), device)  # type: ignore[misc]
        write(chosen.json, results, table(results))  # after each block: the next may take long
    print(table(results))


if __name__ == "__main__":
    main()
