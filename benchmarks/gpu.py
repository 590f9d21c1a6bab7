"""Everything that needs a GPU, part by part: checks first, then timings.

    python benchmarks/gpu.py --out gpu                           # everything
    python benchmarks/gpu.py --out gpu --only checks proofs-se   # some of the parts
    python benchmarks/gpu.py --out gpu --wheels wheels           # where packages are missing: from a folder
    python benchmarks/gpu.py --out gpu --quick                   # tiny sizes: to see that everything runs

A part is a process of its own that gets LIMIT seconds at most; one that fails does not keep the others from
running. Output and figures of each go to one archive in the folder, PART.zip, and how each went to
summary.json. This package need not be installed. Without a GPU the same parts run on the CPU, where the
checks that need one skip themselves.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "src"))  # it need not be installed

from measure import machine, markdown, write  # noqa: E402

LIMIT = 540  # seconds of a part
BENCHMARKS = ROOT / "benchmarks"
MODEL_TESTS = "tests/model"
KERNEL_TESTS = [f"{MODEL_TESTS}/test_triton.py", f"{MODEL_TESTS}/test_triton_compile.py"]
FOLDERS = ("training", "inference", "analysis", "cli", "data", "runs", "e2e")
Command = list[str]
# pytest-benchmark warns where xdist is installed too, and warnings are errors.
PYTEST = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:benchmark"]


def side_by_side() -> list[str]:
    """Return how pytest uses all cores, where it can."""
    count = str(min(12, len(os.sched_getaffinity(0))))
    return ["-n", count, "--dist", "loadfile"] if find_spec("xdist") else []


def checks(quick: bool) -> dict[str, Command]:
    """Return what must pass: golden arrays, kernels, graphs, resident data; proofs; the memory checker."""
    of_graphs = ("graph", "graph_update", "graphed_training")
    graphs = [f"tests/training/backends/test_{name}.py" for name in of_graphs]
    tests = ["tests/golden", *graphs, "tests/data/test_resident.py", MODEL_TESTS]
    if quick:  # what would take Triton's interpreter minutes
        tests += [word for file in KERNEL_TESTS for word in ("--deselect", file)]
    network = f"{MODEL_TESTS}/test_triton_network.py"
    doctor = [
        "-m",
        "samplecnn",
        "doctor",
        "--json",
        *(["--width", "2", "--batch-size", "2"] if quick else []),
    ]
    memory = [*PYTEST, network, "-k", "basic"]
    if checker := shutil.which("compute-sanitizer"):
        run = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
        memory = ["-c", run, checker, "--error-exitcode", "9", sys.executable]
        memory += [f"{MODEL_TESTS}/triton_network.py", "basic", "rese2"]
    return {
        "quick": [*PYTEST, "tests/golden", "-k", "se"],
        "checks": [*PYTEST, *side_by_side(), "-m", "not slow", *tests],
        "backends": [*PYTEST, network, *(["-k", "basic"] if quick else [])],
        **{f"proofs-{block}": [*doctor, "--block", block] for block in ("basic", "se", "rese2")},
        "memory": memory,
    }


def timings(out: Path, data: Path, quick: bool) -> dict[str, Command]:
    """Return what is measured, and the losses that are compared."""

    def bench(name: str, *more: str, part: str | None = None) -> list[str]:
        return [str(BENCHMARKS / f"{name}.py"), "--json", str(out / f"{part or name}.json"), *more]

    repeat = ["--repeat", "1" if quick else "7"]
    narrow = ["--width", "2"] if quick else []
    small = [*narrow, "--blocks", "se"] if quick else []
    se = [*narrow, "--blocks", "se"]
    batch = ["--batch", "4"] if quick else []
    steps = ["--steps", "3", *batch, *narrow] if quick else ["--seeds", "6"]
    clips = ["--clips", "16", "--batches", "6", "--rounds", "1"] if quick else ["--rounds", "7"]
    noise = ["--noise", "8", "--test-clips", "4", "--epochs", "2"] if quick else ["--noise", "2048"]
    demo = [str(ROOT / "train.py"), "-m", "experiment=demo", f"data.root={data}", "logger=none"]
    tiny = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "width=2"] if quick else []
    precisions = "32,bf16-mixed,16-mixed" if torch.cuda.is_available() else "32"
    return {
        **{
            f"curves-{block}": bench("curves", "--blocks", block, *steps, part=f"curves-{block}")
            for block in ("se", "rese2")
        },
        **{
            f"training-{block}": bench(
                "training", *narrow, "--blocks", block, *batch, *repeat, part=f"training-{block}"
            )
            for block in ("basic", "se", "rese2")
        },
        "training-92": bench("training", *se, *(batch or ["--batch", "92"]), *repeat, part="training-92"),
        "kernels": bench("kernels", *small, *batch),
        "host": bench("host", *se, *batch, "--steps", "8" if quick else "100"),
        "loop": bench("loop", *noise, *narrow, *batch, *repeat),
        "loop-basic": bench("loop", "--block", "basic", *noise, *narrow, *batch, *repeat, part="loop-basic"),
        "inference": bench("inference", *small, "--batch", "2" if quick else "256", *repeat),
        "loading": bench("loading", *clips),
        # The same AUC within its interval: all precisions, with and without the fast backends.
        "precision": [
            *demo,
            f"trainer.precision={precisions}",
            "fast=true,false",
            f"hydra.sweep.dir={out / 'precision'}",
            *tiny,
        ],
    }


def last_checks(quick: bool) -> dict[str, Command]:
    """Return the checks that take longest: kernels on more shapes and in all types, and all other tests."""
    one = ["-k", "update_compiles"] if quick else ["-m", "slow"]
    tests = [*PYTEST, *side_by_side(), "-m", "not slow", *(["-k", "names"] if quick else [])]
    folders = {f"tests-{name}": [*tests, f"tests/{name}"] for name in FOLDERS}
    return {"shapes": [*PYTEST, *KERNEL_TESTS, *one], **folders}


def install(wheels: Path, site: Path) -> None:
    """Unpack wheels into a folder for the parts; nothing is fetched, and the environment stays as it is."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--target",
        str(site),
    ]
    subprocess.run([*pip, *map(str, sorted(wheels.glob("*.whl")))], check=True)


def run(name: str, command: Command, out: Path, site: Path) -> tuple[str, float]:
    """Run a part, its output to a file, and print the end of that; return how it went and its seconds."""
    begun = time.perf_counter()
    file = out / f"{name}.log"
    paths = [str(ROOT / "src"), str(site), os.environ.get("PYTHONPATH", "")]
    own = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with file.open("w") as log:
        part = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=own, stdout=log, stderr=log, start_new_session=True
        )
        try:
            code = part.wait(LIMIT)
            went = "done" if code == 0 else f"failed ({code})"
        except subprocess.TimeoutExpired:
            went = f"stopped after {LIMIT} s"
        finally:  # with what it has started, which would go on beside the next
            with suppress(ProcessLookupError):
                os.killpg(part.pid, signal.SIGKILL)
            part.wait()
    print(f"{name}: {went}", flush=True)
    print("\n".join(file.read_text(errors="replace").splitlines()[-40:]), flush=True)
    with zipfile.ZipFile(out / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        made = [file, out / f"{name}.json", out / f"{name}.md", *(out / name).rglob("*.json")]
        for path in filter(Path.is_file, made):
            archive.write(path, path.relative_to(out))
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
    parser.add_argument("--wheels", type=Path, help="folder of wheels of what is not installed")
    parser.add_argument("--only", nargs="+", help="some of the parts")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only to see that everything runs")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    quick = options.quick
    site = out / "site"
    if options.wheels:
        install(options.wheels, site)
        sys.path.insert(1, str(site))
    known = checks(quick) | timings(out, options.data_root.resolve(), quick) | last_checks(quick)
    chosen = options.only or list(known)
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"no part {unknown[0]!r}: there are {', '.join(known)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    figures: dict[str, Any] = {"machine": machine(device), "quick": quick, "parts": {}}
    for name in chosen:
        went, seconds = run(name, known[name], out, site)
        figures["parts"][name] = {"went": went, "seconds": seconds}
        write(out / "summary.json", figures, table(figures))  # after each: the call may be cut short
    print(table(figures))
    sys.exit(any(part["went"] != "done" for part in figures["parts"].values()))


if __name__ == "__main__":
    main()
