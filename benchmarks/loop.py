"""What everything around the training step costs: an epoch of `python train.py` over its bare steps.

    python benchmarks/loop.py
    python benchmarks/loop.py --width 32 --json loop.json -- data.clips=240

Trains the SE network for a few epochs on the built-in data set, as its own process with everything on
(reading and scaling segments, schedule, optimiser, logging, progress), and then takes the same step with
nothing around it, before and after. What stands behind `--` goes to train.py.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from measure import in_turns, machine, spread, tell, write
from samplecnn.hardware import multiplies_bfloat16
from samplecnn.training.paths import Plan
from samplecnn.training.runs import read_results
from training import STEPS, our_step

ROOT = Path(__file__).parent.parent


def train(
    run: Path, width: int, batch: int, epochs: int, data: Path, more: list[str]
) -> list[dict[str, float]]:
    """Train in a process of its own; return the rows of its epochs."""
    command = [
        *(sys.executable, str(ROOT / "train.py"), "block=se", f"width={width}", f"batch_size={batch}"),
        *(f"trainer.max_epochs={epochs}", "schedule=onecycle", "logger=csv", f"data.root={data}"),
        *(f"hydra.run.dir={run}", *more),
    ]
    subprocess.run(command, check=True, cwd=ROOT)
    with (run / "metrics.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch", type=int, default=23)
    parser.add_argument("--epochs", type=int, default=4, help="the first does not count (default: 4)")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--data-root", type=Path, default=ROOT / "data")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("more", nargs="*", metavar="KEY=VALUE", help="for train.py")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run"
        begun = time.perf_counter()
        rows = train(run, options.width, options.batch, options.epochs, options.data_root, options.more)[1:]
        whole = time.perf_counter() - begun
        results = read_results(run)
    path, _, graph = str(results["path"]).partition(" ")
    precision = "bf16" if multiplies_bfloat16(device.type) else "fp32"
    shape = ("se", options.width, options.batch, device.type, precision, Plan(path, bool(graph)))
    times = in_turns(
        {"bare": (our_step, shape)}, threads=len(os.sched_getaffinity(0)), repeat=options.repeat
    )["bare"]
    bare = spread([STEPS[device.type] * options.batch / seconds for seconds in times])
    trained = spread([row["segments_per_second"] for row in rows])
    epoch = spread([row["seconds"] for row in rows])
    overhead = bare["median"] / trained["median"] - 1
    tell(
        f"SE, width {options.width}, batch {options.batch}, {precision}, {results['path']}",
        ["", "segments/s", "range"],
        [
            ["the step alone", f"{bare['median']:.1f}", f"{bare['min']:.1f}-{bare['max']:.1f}"],
            ["python train.py", f"{trained['median']:.1f}", f"{trained['min']:.1f}-{trained['max']:.1f}"],
        ],
    )
    print(f"The loop around the step costs {overhead:.1%}.")
    print(
        f"An epoch with its validation takes {epoch['median']:.1f} s; the whole command took {whole:.0f} s."
    )
    told = {"machine": machine(device), "path": results["path"], "precision": precision, "bare": bare}
    write(options.json, {**told, "trained": trained, "epoch_seconds": epoch, "overhead": overhead})


if __name__ == "__main__":
    main()
