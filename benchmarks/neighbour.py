"""What a busy neighbour costs: an epoch of `python train.py` and `samplecnn tag`, alone and beside it.

    python benchmarks/neighbour.py                       # as many busy threads as cores
    python benchmarks/neighbour.py --rounds 2 --json neighbour.json     # about ten minutes

The neighbour computes in a loop in as many processes as there are cores, so that a fair share is half of the
machine and twice the time. Beside this program's own way of waiting (OpenMP's threads sleep) that of OpenMP
as it comes is measured, and a single thread, by setting what users can set, GOMP_SPINCOUNT and
OMP_NUM_THREADS. An epoch is cut to so many steps, and the first of a training does not count; for tagging,
the time of one clip is taken off that of all, so that starting up and loading the model do not count either.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from measure import machine, markdown, median_and_range, spread, write

ROOT = Path(__file__).parent.parent
WAITS = {
    "sleeping (ours)": {},
    "spinning (as it comes)": {"GOMP_SPINCOUNT": "300000"},
    "one alone": {"OMP_NUM_THREADS": "1"},
}
SECONDS, RATE = 29, 22_050  # of a clip


@contextmanager
def neighbour(processes: int) -> Iterator[None]:
    """Keep so many processes busy."""
    code = "while True: sum(range(10_000))"
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def epoch_seconds(run: Path, options: argparse.Namespace, environment: Mapping[str, str]) -> float:
    """Train for two epochs in a process of its own; return the seconds of the second."""
    command = [
        *(
            sys.executable,
            str(ROOT / "train.py"),
            "data=mini",
            f"data.root={options.data_root}",
            "logger=none",
        ),
        *(f"width={options.width}", "schedule=onecycle", "trainer.max_epochs=2", f"hydra.run.dir={run}"),
        f"trainer.limit_train_batches={options.steps}",
        *options.more,
    ]
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    with (run / "metrics.csv").open(newline="") as file:
        return float(list(csv.DictReader(file))[-1]["seconds"])


def tagging_seconds(run: Path, clips: list[Path], environment: Mapping[str, str]) -> float:
    """Tag clips in a process of its own; return its seconds."""
    command = [sys.executable, "-m", "samplecnn", "tag", *map(str, clips), "--model", str(run), "--quiet"]
    begun = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    return time.perf_counter() - begun


def measure(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Return seconds by kind of work, way of waiting, and whether alone: a spread over the rounds."""
    clips = [folder / f"{number}.flac" for number in range(options.clips)]
    rng = np.random.default_rng(0)
    for clip in clips:
        soundfile.write(clip, rng.uniform(-0.5, 0.5, SECONDS * RATE), RATE)
    epoch_seconds(folder / "model", options, os.environ)  # prepares the data, and is what tags
    times: dict[str, dict[str, list[float]]] = {"epoch": {}, "tagging": {}}
    for number in range(options.rounds):
        for wait, changed in WAITS.items():
            environment = {**os.environ, **changed}
            for busy in (0, options.processes):
                name = f"{wait}, {'beside a neighbour' if busy else 'alone'}"
                with neighbour(busy):
                    run = folder / f"run-{number}-{len(times['epoch'])}-{busy}"
                    seconds = epoch_seconds(run, options, environment)
                    times["epoch"].setdefault(name, []).append(seconds)
                    first, every = (
                        tagging_seconds(folder / "model", some, environment) for some in (clips[:1], clips)
                    )
                    times["tagging"].setdefault(name, []).append(every - first)
    return {kind: {name: spread(taken) for name, taken in named.items()} for kind, named in times.items()}


def table(results: Mapping[str, Any]) -> str:
    """Lay out seconds alone and beside a neighbour, and how many times as long that is."""
    rows = []
    for kind, seconds in results["seconds"].items():
        for wait in WAITS:
            alone, beside = (seconds[f"{wait}, {where}"] for where in ("alone", "beside a neighbour"))
            ratio = f"{beside['median'] / alone['median']:.1f}"
            rows.append([kind, wait, *median_and_range(alone), *median_and_range(beside), ratio])
    head = ["", "threads", "alone, s", "range", "beside, s", "range", "times as long"]
    return markdown(head, rows)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--clips", type=int, default=36, help="to tag, of 29 s (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=40, help="of an epoch (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=cores, help="of the neighbour (default: cores)")
    parser.add_argument("--data-root", type=Path, default=ROOT / "data", help="of the built-in data set")
    parser.add_argument("--json", type=Path, help="write all figures to this file, the table beside it")
    parser.add_argument("more", nargs="*", metavar="KEY=VALUE", help="for train.py")
    options = parser.parse_args()
    if options.clips < 2:
        parser.error("--clips must be 2 or more: one is taken off")
    results: dict[str, Any] = {"machine": machine(torch.device("cpu")), "width": options.width}
    results |= {"clips": options.clips, "steps": options.steps, "processes": options.processes}
    with tempfile.TemporaryDirectory() as temporary:
        results["seconds"] = measure(Path(temporary), options)
    print(table(results))
    write(options.json, results, table(results))


if __name__ == "__main__":
    main()
