"""What the benchmarks share: variants that run in turns, each in a process of its own, and ceilings.

A process of its own, because the allocator is a property of the process; in turns, because a machine's speed
changes over minutes. Only one process works at a time. On a GPU, one after the other in one process.
"""

import argparse
import gc
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from samplecnn import __version__
from samplecnn.hardware import describe

Work = Callable[[], object]
CONVOLUTIONS = "convolutions alone"  # begins the names of variants that are only a part of a step
Variants = dict[str, tuple[Callable[..., Work], tuple[Any, ...]]]  # what makes the work, and its arguments


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def in_turns(variants: Variants, *, threads: int, repeat: int, device: str = "cpu") -> dict[str, list[float]]:
    """Return the seconds of each repetition of each variant; see ``seconds_and_peaks``."""
    return seconds_and_peaks(variants, threads=threads, repeat=repeat, device=device)[0]


def seconds_and_peaks(
    variants: Variants, *, threads: int, repeat: int, device: str
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Return the seconds of each repetition of each variant, and the most bytes that each held on a GPU.

    The work of a variant is made, and done twice without counting, in its own process. On a GPU, whose speed
    stays and whose libraries take seconds to load, one process has all after each other, none beside what
    another keeps in memory; the work has to wait for the device itself.
    """
    if torch.device(device).type == "cuda":
        return _one_by_one(variants, threads, repeat)
    context = multiprocessing.get_context("spawn")
    workers: dict[str, tuple[Any, Connection]] = {}
    try:
        for name, (make, arguments) in variants.items():
            ours, theirs = context.Pipe()
            process = context.Process(target=_worker, args=(theirs, threads, make, arguments), daemon=True)
            process.start()
            theirs.close()
            workers[name] = (process, ours)  # it imports meanwhile
        for _, pipe in workers.values():
            pipe.send("make")
            pipe.recv()  # made: one after the other
        times: dict[str, list[float]] = {name: [] for name in variants}
        peaks = dict.fromkeys(variants, 0)
        for _ in range(repeat):
            for name, (_, pipe) in workers.items():
                pipe.send("go")
                seconds, peaks[name] = pipe.recv()
                times[name].append(seconds)
        return times, peaks
    finally:
        for process, pipe in workers.values():
            pipe.close()
            process.join(10)


def _one_by_one(
    variants: Variants, threads: int, repeat: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    torch.set_num_threads(threads)
    times: dict[str, list[float]] = {}
    peaks = {}
    for name, (make, arguments) in variants.items():
        torch.cuda.reset_peak_memory_stats()
        work = make(*arguments)
        for _ in range(2 + repeat):
            begun = time.perf_counter()
            work()
            times.setdefault(name, []).append(time.perf_counter() - begun)
        del times[name][:2], work
        peaks[name] = peak_memory()
        print(f"{name}: {statistics.median(times[name]):.3g} s", file=sys.stderr, flush=True)
        gc.collect()
        torch.cuda.empty_cache()
    return times, peaks


def _worker(pipe: Connection, threads: int, make: Callable[..., Work], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(threads)
    pipe.recv()
    work = make(*arguments)
    work()
    work()
    pipe.send("made")
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        begun = time.perf_counter()
        work()
        pipe.send((time.perf_counter() - begun, peak_memory()))


def peak_memory() -> int:
    """Return the most bytes that this process has held on a GPU, captures included; 0 without one."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


def best_rate(work: Work, amount: float, device: torch.device, repeat: int = 7) -> float:
    """Return the largest ``amount`` per second of some repetitions of a work."""
    rates = []
    for _ in range(repeat + 2):
        wait(device)
        begun = time.perf_counter()
        work()
        wait(device)
        rates.append(amount / (time.perf_counter() - begun))
    return max(rates[2:])


def wait(device: torch.device) -> None:
    """Wait until a device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ceilings(device: torch.device) -> dict[str, float]:
    """Measure FLOP/s of the convolution that most of the network is, per type, and bytes/s of a copy."""
    from samplecnn.training.backends.doctor import (
        flop_rate,  # loads what a machine that only has PyTorch lacks
    )

    precisions = {"bf16": "bf16-mixed", "fp32": "32-true"}
    found = {f"{name} FLOP/s": flop_rate(128, device, precision) for name, precision in precisions.items()}
    source = torch.empty(2**28 if device.type == "cuda" else 2**26, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found["bytes/s"] = best_rate(lambda: target.copy_(source), 2 * source.numel(), device)
    return found


def machine(device: torch.device) -> dict[str, Any]:
    """Say what this was measured on and with."""
    return {
        "device": describe(device),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "samplecnn": __version__,
        "torch": version("torch"),
    }


def options(description: str, *, batch: int | None = None, blocks: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the options of all benchmarks of the network; with ``batch``, its default size.

    Without ``blocks`` it has none for them and their width.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (default: %(default)s)")
    if blocks:
        parser.add_argument("--blocks", nargs="+", default=["basic", "se", "rese2"])
        parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=7, help="repetitions (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write all figures to this file, the table beside it")
    if batch:
        parser.add_argument("--batch", type=int, default=batch, help="segments (default: %(default)s)")
    return parser


def begin(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure the ceilings of the chosen device; return what the figures of all blocks have in common."""
    device = torch.device(chosen.device)
    torch.set_num_threads(chosen.threads)
    limits = ceilings(device)
    shape = {"batch": chosen.batch, "width": chosen.width}
    return {"machine": machine(device), **shape, "ceilings": limits}


def rates(
    variants: Variants, chosen: argparse.Namespace, segments: int
) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """Measure works of so many segments in turns: segments per second, and the peak of a GPU's memory."""
    times, peaks = seconds_and_peaks(
        variants, threads=chosen.threads, repeat=chosen.repeat, device=chosen.device
    )
    found = {name: spread([segments / second for second in seconds]) for name, seconds in times.items()}
    return found, peaks


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def median_and_range(rate: Mapping[str, float], form: str = ".1f") -> tuple[str, str]:
    """Write a median, and the range around it."""
    return f"{rate['median']:{form}}", f"{rate['min']:{form}} to {rate['max']:{form}}"


def by_block(results: Mapping[str, Any], figure: str) -> dict[str, Any]:
    """Return the figures of each block that was measured; beside them stand machine and sizes."""
    return {name: found for name, found in results.items() if isinstance(found, dict) and figure in found}


def rates_table(results: Mapping[str, Any]) -> str:
    """Lay out segments per second of all blocks and variants, from ``begin``'s results and each block's.

    Ratios are to each variant called "reference, ..."; a variant's limit is that of bfloat16 if its name says
    bf16, and so are the convolutions that it is compared with, if they were measured. On a GPU also the peak
    of its memory.
    """
    limits = results["ceilings"]
    blocks = by_block(results, "segments_per_second")
    names = list(next(iter(blocks.values()))["segments_per_second"])
    bases = [name for name in names if "reference, " in name]
    parts = any(name.startswith(CONVOLUTIONS) for name in names)
    memory = any(any(found.get("peak_bytes", {}).values()) for found in blocks.values())
    rows = []
    for block, found in blocks.items():
        speeds = found["segments_per_second"]
        for name, rate in speeds.items():
            precision = "bf16" if "bf16" in name else "fp32"
            part = speeds.get(f"{CONVOLUTIONS}, {precision}")
            rows.append(
                [
                    block,
                    name,
                    *median_and_range(rate),
                    *(f"{rate['median'] / speeds[base]['median']:.2f}" for base in bases),
                    f"{rate['median'] / found['limit'][precision]:.0%}",
                    *([f"{rate['median'] / part['median']:.0%}" if part else ""] if parts else []),
                    *([f"{found['peak_bytes'][name] / 1e9:.2f}"] if memory else []),
                ]
            )
    head = ["block", "", "segments/s", "range", *(f"over {base}" for base in bases), "of the limit"]
    head += [*(["of the convolutions"] if parts else []), *(["peak GB"] if memory else [])]
    conditions = (
        f"{results['machine']['device']}, batch {results['batch']}, width {results['width']}; ceilings: "
        f"{limits['bf16 FLOP/s'] / 1e9:.0f} and {limits['fp32 FLOP/s'] / 1e9:.0f} GFLOP/s in bf16 and fp32, "
        f"{limits['bytes/s'] / 1e9:.0f} GB/s.\n\n"
    )
    return conditions + markdown(head, rows)


def write(path: Path | None, results: Mapping[str, Any], table: str | None = None) -> None:
    """Write the figures, if a file is wanted, and their table in Markdown to a file beside it."""
    if path:
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        if table is not None:
            path.with_suffix(".md").write_text(table, encoding="utf-8")
