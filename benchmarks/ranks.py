"""Training in several processes with a thread each, beside one process with as many threads.

    python benchmarks/ranks.py --json ranks.json          # on a machine that does nothing else
    python benchmarks/ranks.py --ranks 4 --width 32

Whole trainings by `train.py` on the built-in set, started in turns, so that a slow minute of the machine
strikes all alike. Every step has the same number of segments in all of them. The figure is the median of the
epochs' `segments_per_second`, over all processes, validation not counted; without each training's first
epoch, in which memory is taken and libraries start.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from measure import machine, markdown, median_and_range, spread, write

ROOT = Path(__file__).parents[1]


def train(run: Path, overrides: Sequence[str], threads: int) -> list[float]:
    """Train with so many threads in each process; return the segments per second of all epochs but one."""
    subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *overrides, f"hydra.run.dir={run}", "logger=none"],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row["segments_per_second"]) for row in csv.DictReader(file)][1:]


def table(results: Mapping[str, Any]) -> str:
    """Lay out the figures as Markdown."""
    first = results["rates"]["one process"]["median"]
    rows = [
        [name, *median_and_range(rate), f"{rate['median'] / first:.2f}"]
        for name, rate in results["rates"].items()
    ]
    return markdown(["", "segments/s", "range", "to one process"], rows)


def main() -> None:
    """Train in turns, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=2, help="processes, and threads of the one (2)")
    parser.add_argument("--width", type=int, default=128, help="of the network (128)")
    parser.add_argument("--batch", type=int, default=23, help="segments of each process (23)")
    parser.add_argument("--steps", type=int, default=10, help="per epoch (10)")
    parser.add_argument("--repeat", type=int, default=3, help="trainings of each (3)")
    parser.add_argument("--data", default="data", help="where the store is made (data)")
    parser.add_argument("--json", type=Path, help="write all figures to this file, the table beside it")
    parser.add_argument("more", nargs="*", metavar="KEY=VALUE", help="for train.py")
    options = parser.parse_args()
    shared = [
        *(f"data.root={options.data}", f"width={options.width}", "fast=true", "trainer.max_epochs=3"),
        "trainer.accelerator=cpu",
        f"trainer.limit_train_batches={options.steps}",
        *options.more,
    ]
    several = [f"trainer.devices={options.ranks}", f"batch_size={options.batch}"]
    variants = {
        "one process": ([f"batch_size={options.ranks * options.batch}"], options.ranks),
        f"{options.ranks} processes": (several, 1),
        f"{options.ranks} processes, sync_batchnorm": ([*several, "trainer.sync_batchnorm=true"], 1),
    }
    rates: dict[str, list[float]] = {name: [] for name in variants}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.repeat):
            for index, (name, (own, threads)) in enumerate(variants.items()):
                rates[name] += train(Path(folder) / f"{index}-{number}", [*shared, *own], threads)
    results = {
        "machine": machine(torch.device("cpu")),
        **{key: getattr(options, key) for key in ("ranks", "width", "batch", "steps", "repeat")},
        "rates": {name: spread(values) for name, values in rates.items()},
    }
    print(table(results))
    write(options.json, results, table(results))


if __name__ == "__main__":
    main()
