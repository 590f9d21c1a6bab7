"""What everything around the training step costs: an epoch of `python train.py` over its bare steps.

    python benchmarks/loop.py
    python benchmarks/loop.py --width 32 --json loop.json -- data.clips=240
    python benchmarks/loop.py --noise 2048 --test-clips 4332        # as many test clips as MagnaTagATune has

Trains a network for a few epochs on the built-in data set, as its own process with everything on (reading
and scaling segments, schedule, optimiser, logging, progress), and then takes the same step with nothing
around it. What stands behind `--` goes to train.py. With `--noise`, the data set is noise of that many
training clips: on a GPU an epoch of the built-in set is over before it has begun. Then the test of the whole
test split is timed too, opening the store and reading the checkpoint included; its first time, when libraries
start up, apart.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from loading import make_store
from measure import in_turns, machine, markdown, median_and_range, spread, write
from samplecnn.hardware import multiplies_bfloat16
from samplecnn.runs.results import read_results
from samplecnn.training.backends.proof import Plan
from samplecnn.training.evaluate import open_subject
from training import STEPS, our_step

ROOT = Path(__file__).parent.parent
TESTS = 3  # that count


def train(run: Path, options: argparse.Namespace, data: Path) -> list[dict[str, float]]:
    """Train in a process of its own; return the rows of its epochs."""
    command = [
        *(sys.executable, str(ROOT / "train.py"), f"block={options.block}", f"width={options.width}"),
        *(f"batch_size={options.batch}", f"trainer.max_epochs={options.epochs}", "schedule=onecycle"),
        *("logger=csv", f"data={'mtat' if options.noise else 'mini'}", f"data.root={data}"),
        *(f"hydra.run.dir={run}", *options.more),
    ]
    subprocess.run(command, check=True, cwd=ROOT)
    with (run / "metrics.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def bare_steps(backend: str, precision: str, options: argparse.Namespace, device: str) -> list[float]:
    """Return segments per second of the step alone, computed as the training said that it did."""
    name, _, graph = backend.partition(" ")
    shape = (options.block, options.width, options.batch, device, precision, Plan(name, bool(graph)))
    threads = torch.get_num_threads()  # as the training's process has by default
    times = in_turns({"bare": (our_step, shape)}, threads=threads, repeat=options.repeat, device=device)[
        "bare"
    ]
    return [STEPS[device] * options.batch / seconds for seconds in times]


def test_seconds(run: Path) -> list[float]:
    """Return the seconds that testing a run takes, the first time and then again."""
    found = []
    for _ in range(1 + TESTS):
        begun = time.perf_counter()
        open_subject(run).scores()
        found.append(time.perf_counter() - begun)
    return found


def table(results: Mapping[str, Any]) -> str:
    """Lay out the step alone and inside of `python train.py`, and say what an epoch and the test take."""
    named = {"the step alone": results["bare"], "`python train.py`": results["trained"]}
    rows = [[name, *median_and_range(rate)] for name, rate in named.items()]
    text = markdown(["", "segments/s", "range"], rows)
    text += f"\nThe loop costs {results['overhead']:.1%}.\n"
    if test := results.get("test"):
        seconds, first = test["seconds"]["min"], test["first_seconds"]
        text += f"Testing {test['clips']} clips takes {seconds:.1f} s, {first:.1f} s the first time.\n"
    return text


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--block", default="se", help="(default: %(default)s)")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch", type=int, default=23)
    parser.add_argument("--epochs", type=int, default=4, help="the first does not count (default: 4)")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--data-root", type=Path, default=ROOT / "data", help="of the built-in data set")
    parser.add_argument("--noise", type=int, metavar="CLIPS", help="1.3 MB each, in a temporary folder")
    parser.add_argument("--test-clips", type=int, default=4332, help="of the noise (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write all figures to this file, the table beside it")
    parser.add_argument("more", nargs="*", metavar="KEY=VALUE", help="for train.py")
    options = parser.parse_args()
    if options.epochs < 2:
        parser.error("--epochs must be 2 or more: the first does not count")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    figures: dict[str, Any] = {"machine": machine(device), "block": options.block}
    with tempfile.TemporaryDirectory() as temporary:
        run, data = Path(temporary) / "run", options.data_root
        if options.noise:
            data = Path(temporary) / "data"
            parts = {"train": options.noise, "valid": max(2, options.noise // 16), "test": options.test_clips}
            make_store(data / "mtat", parts)
        begun = time.perf_counter()
        rows = train(run, options, data)[1:]
        whole = time.perf_counter() - begun
        results = read_results(run)
        if options.noise:
            first, *later = test_seconds(run)
            figures["test"] = {
                "clips": options.test_clips,
                "first_seconds": first,
                "seconds": spread(later),
            }
    precision = "bf16" if multiplies_bfloat16(device.type) else "fp32"
    bare = spread(bare_steps(str(results.backend), precision, options, device.type))
    trained = spread([row["segments_per_second"] for row in rows])
    epoch = spread([row["seconds"] for row in rows])
    overhead = bare["median"] / trained["median"] - 1
    figures |= {"backend": results.backend, "precision": precision, "bare": bare, "trained": trained}
    figures |= {"epoch_seconds": epoch, "overhead": overhead, "peak_bytes": results.peak_memory_bytes}
    figures["command_seconds"] = whole
    print(table(figures))
    print(
        f"An epoch with its validation takes {epoch['median']:.1f} s; the whole command took {whole:.0f} s."
    )
    write(options.json, figures, table(figures))


if __name__ == "__main__":
    main()
