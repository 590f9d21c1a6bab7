"""Everything that needs a GPU, in one call of some minutes: checks first, then timings.

    python benchmarks/gpu.py --out gpu                   # everything
    python benchmarks/gpu.py --out gpu --only checks training

Each part is a process of its own with a time limit; one that fails does not keep the others from running.
Their output and figures go to files in the folder. Without a GPU it runs the same parts on the CPU, where
the checks that need one skip themselves. Not run on a GPU yet.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

from measure import tell

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"


def parts(out: Path, data: Path, quick: bool) -> dict[str, tuple[list[str], int]]:
    """Return the commands, each with its time limit in seconds."""

    def bench(name: str, *more: str) -> list[str]:
        return [str(BENCHMARKS / f"{name}.py"), "--json", str(out / f"{name}.json"), *more]

    repeat = ["--repeat", "1" if quick else "7"]
    small = ["--width", "2", "--blocks", "se"] if quick else []
    tests = ["tests/golden", "tests/model", "tests/training/test_graph.py", "tests/data/test_resident.py"]
    epochs = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "width=2"] if quick else []
    demo = [str(ROOT / "train.py"), "-m", "experiment=demo", f"data.root={data}", "logger=none"]
    return {
        "checks": (["-m", "pytest", "-q", *tests], 420),
        "training": (bench("training", *small, *repeat), 300),
        "inference": (bench("inference", *small, "--batch", "2" if quick else "256", *repeat), 200),
        "loading": (bench("loading", "--rounds", repeat[1]), 200),
        "loop": (
            bench("loop", "--data-root", str(data), "--epochs", "2" if quick else "6", *repeat)
            + (["--width", "2", "--", "trainer.limit_train_batches=2"] if quick else []),
            300,
        ),
        # Same AUC within its interval: three precisions, with and without the fast paths.
        "precision": (
            [
                *demo,
                "trainer.precision=32,bf16-mixed,16-mixed" if torch.cuda.is_available() else "seed=0",
                "fast=true,false",
                f"hydra.sweep.dir={out / 'precision'}",
                *epochs,
            ],
            420,
        ),
    }


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
    known = parts(out, options.data_root.resolve(), options.quick)
    chosen = options.only or list(known)
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"no part {unknown[0]!r}: there are {', '.join(known)}")
    rows, failed = [], False
    for name in chosen:
        arguments, limit = known[name]
        begun = time.perf_counter()
        with (out / f"{name}.log").open("w") as log:
            try:
                code = subprocess.run(
                    [sys.executable, *arguments], cwd=ROOT, stdout=log, stderr=log, timeout=limit
                ).returncode
                went = "done" if code == 0 else f"failed ({code})"
            except subprocess.TimeoutExpired:
                went = f"stopped after {limit} s"
        failed |= went != "done"
        rows.append([name, went, f"{time.perf_counter() - begun:.0f} s"])
        print(f"{name}: {went}", flush=True)
        tail = (out / f"{name}.log").read_text(errors="replace").splitlines()[-40:]
        print("\n".join(tail), flush=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU (no GPU here)"
    tell(f"on {device}; output in {out}", ["part", "", "took"], rows)
    sys.exit(failed)


if __name__ == "__main__":
    main()
