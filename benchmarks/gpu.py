"""Everything that needs a GPU, in one call: checks first, then timings.

    python benchmarks/gpu.py --out gpu                   # everything
    python benchmarks/gpu.py --out gpu --only checks curves training
    python benchmarks/gpu.py --out gpu --quick           # tiny sizes: only to see that everything runs

Nothing of this has run on a GPU yet. By estimate all of it takes 25 to 35 minutes on an H200, most of which
Triton compiles kernels on the CPU: `checks` 4 minutes, `paths` 2, `curves` 2, `training` 5, `inference` 2,
`loading` 2, `loop` and `loop-basic` 3 each, `precision` 4, and `shapes` the rest. Each part is a process of
its own with a time limit; one that fails does not keep the others from running. Output and figures go to
files in the folder, PART.log and PART.json, and how each part went to summary.json. Without a GPU the same
parts run on the CPU, where the checks that need one skip themselves.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from measure import machine, markdown, write

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
MODEL_TESTS = "tests/model"
KERNEL_TESTS = [f"{MODEL_TESTS}/test_triton.py", f"{MODEL_TESTS}/test_triton_compile.py"]
Command = tuple[list[str], int]  # with its time limit in seconds


def checks(quick: bool) -> dict[str, Command]:
    """Return what must pass: golden arrays on all paths, kernels, graphs, resident data."""
    pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    tests = ["tests/golden", MODEL_TESTS, "tests/training/test_graph.py", "tests/data/test_resident.py"]
    if quick:  # what would take Triton's interpreter minutes
        tests += [word for file in KERNEL_TESTS for word in ("--deselect", file)]
    return {
        "checks": ([*pytest, "-m", "not slow", *tests], 600),
        "paths": (
            [*pytest, f"{MODEL_TESTS}/test_triton_network.py", *(["-k", "basic"] if quick else [])],
            400,
        ),
    }


def timings(out: Path, data: Path, quick: bool) -> dict[str, Command]:
    """Return what is measured, and the losses that are compared."""

    def bench(name: str, *more: str, part: str | None = None) -> list[str]:
        return [str(BENCHMARKS / f"{name}.py"), "--json", str(out / f"{part or name}.json"), *more]

    repeat = ["--repeat", "1" if quick else "7"]
    narrow = ["--width", "2"] if quick else []
    small = [*narrow, "--blocks", "se"] if quick else []
    batch = ["--batch", "4"] if quick else []
    steps = ["--steps", "3", *batch, *narrow] if quick else ["--blocks", "se", "rese2"]
    clips = ["--clips", "16", "--batches", "6", "--rounds", "1"] if quick else ["--rounds", "7"]
    noise = ["--noise", "8", "--test-clips", "4", "--epochs", "2"] if quick else ["--noise", "2048"]
    demo = [str(ROOT / "train.py"), "-m", "experiment=demo", f"data.root={data}", "logger=none"]
    tiny = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "width=2"] if quick else []
    precisions = "32,bf16-mixed,16-mixed" if torch.cuda.is_available() else "32"
    return {
        "curves": (bench("curves", *steps), 300),
        "training": (bench("training", *small, *batch, *repeat), 600),
        "inference": (bench("inference", *small, "--batch", "2" if quick else "256", *repeat), 300),
        "loading": (bench("loading", *clips), 300),
        "loop": (bench("loop", *noise, *narrow, *batch, *repeat), 400),
        "loop-basic": (
            bench("loop", "--block", "basic", *noise, *narrow, *batch, *repeat, part="loop-basic"),
            400,
        ),
        # The same AUC within its interval: all precisions, with and without the fast paths.
        "precision": (
            [
                *demo,
                f"trainer.precision={precisions}",
                "fast=true,false",
                f"hydra.sweep.dir={out / 'precision'}",
                *tiny,
            ],
            500,
        ),
    }


def last_checks(quick: bool) -> dict[str, Command]:
    """Return the checks that take longest: kernels on more shapes and in all types."""
    one = ["-k", "without_triton"] if quick else ["-m", "slow"]
    return {"shapes": (["-m", "pytest", "-q", *KERNEL_TESTS, *one], 1500)}


def run(name: str, command: Command, out: Path) -> tuple[str, float]:
    """Run a part, its output to a file, and print the end of that; return how it went and its seconds."""
    arguments, limit = command
    begun = time.perf_counter()
    file = out / f"{name}.log"
    with file.open("w") as log:
        try:
            code = subprocess.run(
                [sys.executable, *arguments], cwd=ROOT, stdout=log, stderr=log, timeout=limit
            ).returncode
            went = "done" if code == 0 else f"failed ({code})"
        except subprocess.TimeoutExpired:
            went = f"stopped after {limit} s"
    print(f"{name}: {went}", flush=True)
    print("\n".join(file.read_text(errors="replace").splitlines()[-40:]), flush=True)
    return went, time.perf_counter() - begun


def table(results: Mapping[str, Any]) -> str:
    """Lay out how each part went."""
    rows = [[name, part["went"], f"{part['seconds']:.0f} s"] for name, part in results["parts"].items()]
    return f"{results['machine']['device']}\n\n" + markdown(["part", "", "took"], rows)


def main() -> None:
    """Run the parts and say how each went."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for output and figures")
    parser.add_argument("--data-root", type=Path, default=ROOT / "data", help="where prepared stores are")
    parser.add_argument("--only", nargs="+", help="some of the parts")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only to see that everything runs")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    quick = options.quick
    known = checks(quick) | timings(out, options.data_root.resolve(), quick) | last_checks(quick)
    chosen = options.only or list(known)
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"no part {unknown[0]!r}: there are {', '.join(known)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    figures: dict[str, Any] = {"machine": machine(device), "quick": quick, "parts": {}}
    for name in chosen:
        went, seconds = run(name, known[name], out)
        figures["parts"][name] = {"went": went, "seconds": seconds}
        write(out / "summary.json", figures, table(figures))  # after each: the call may be cut short
    print(table(figures))
    sys.exit(any(part["went"] != "done" for part in figures["parts"].values()))


if __name__ == "__main__":
    main()
