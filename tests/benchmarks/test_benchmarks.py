"""Every benchmark runs to its end at tiny sizes and writes the figures and the table that it promises."""

import json
import os
import select
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from samplecnn.model.architecture import build

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = ["--width", "2", "--batch", "2", "--repeat", "2"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(name: str, folder: Path, *arguments: str, codes: Sequence[int] = (0,)) -> tuple[dict[str, Any], str]:
    """Run a benchmark to one of these exit codes; return its figures and what it printed."""
    file = folder / f"{name}.json"
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--json", str(file), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode in codes, done.stdout[-4000:] + done.stderr[-4000:]
    return json.loads(file.read_text()), done.stdout


def assert_rate(figures: dict[str, float]) -> None:
    assert 0 < figures["min"] <= figures["median"] <= figures["max"]


def assert_rates(figures: dict[str, Any], block: str, variants: set[str]) -> None:
    """What the tables of experiments/speed are built from."""
    assert {"machine", "batch", "width", "ceilings"} < figures.keys()
    assert {"device", "cores", "load", "torch"} < figures["machine"].keys()
    assert all(figures["ceilings"][name] > 0 for name in ("bf16 FLOP/s", "fp32 FLOP/s", "bytes/s"))
    rates = figures[block]["segments_per_second"]
    assert variants <= rates.keys()
    for rate in rates.values():
        assert_rate(rate)
    assert all(figures[block]["limit"][precision] > 0 for precision in ("fp32", "bf16"))


@pytest.mark.parametrize(("block", "precisions"), [("basic", ["fp32", "bf16"]), ("rese2", ["bf16"])])
def test_training(block: str, precisions: list[str], tmp_path: Path) -> None:
    options = ["--blocks", block, "--device", "cpu", "--precisions", *precisions]
    figures, printed = run("training", tmp_path, *TINY, *options)
    variants = {"reference, as it comes", "reference, kept memory"}
    for precision in precisions:
        variants |= {f"ours, {precision}, stem", f"convolutions alone, {precision}"}
    assert_rates(figures, block, variants)
    assert (figures["batch"], figures["width"]) == (2, 2)
    # Forward and backward are three passes; the plain network has more than its convolutions' 2 FLOP a tap.
    counted, ceilings = figures[block]["counted"], figures["ceilings"]
    assert counted["FLOP"] > 3 * 2 * 59049 * 2
    weights = build({"block": {"name": block}, "multi": True, "width": 2, "dropout": 0.5}, 50).parameters()
    assert counted["weights"] == sum(weight.numel() for weight in weights)
    moved = 2 * counted["values"] + (4 * 2 + 4 * 4) * counted["weights"] / 2  # a batch of two in bfloat16
    seconds = max(counted["FLOP"] / ceilings["bf16 FLOP/s"], moved / ceilings["bytes/s"])
    assert figures[block]["limit"]["bf16"] == pytest.approx(1 / seconds)
    table = (tmp_path / "training.md").read_text()
    assert table in printed
    assert "batch 2, width 2; ceilings" in table
    assert sum(line.startswith(f"| {block} | ") for line in table.splitlines()) == len(
        figures[block]["segments_per_second"]
    )
    rows = [line for line in table.splitlines() if "convolutions alone" in line]
    assert [line.endswith("| 100% |") for line in rows] == [True] * len(precisions)


def test_inference(tmp_path: Path) -> None:
    figures, _ = run("inference", tmp_path, *TINY, "--blocks", "se", "--device", "cpu")
    assert_rates(
        figures, "se", {"reference, as it comes", "reference, kept memory", "ours, fp32", "ours, bf16"}
    )


def test_curves(tmp_path: Path) -> None:
    arguments = ["--width", "2", "--batch", "4", "--steps", "5", "--seeds", "6", "--blocks", "se"]
    figures, printed = run("curves", tmp_path, *arguments, "--device", "cpu", codes=(0, 1))
    losses, ends = figures["se"]["losses"], figures["se"]["ends"]
    assert {"plain, fp32", "plain, bf16", "stem, fp32", "stem, bf16"} <= losses.keys() == ends.keys()
    assert all(len(values) == 5 for values in losses.values())
    assert all(len(set(values)) == 6 for values in ends.values())  # each seed has its own network
    # Until its first update a network is the same on all backends.
    assert losses["stem, fp32"][0] == pytest.approx(losses["plain, fp32"][0], rel=1e-4)
    assert figures["se"]["minus_plain"].keys() == ends.keys() - {"plain, fp32"}
    assert f"alike: {figures['se']['alike']}" in printed
    assert (tmp_path / "curves.md").read_text() in printed


def test_curves_of_too_few_seeds_are_refused() -> None:
    command = [sys.executable, str(BENCHMARKS / "curves.py"), "--seeds", "5"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "argument --seeds: '5' is not a number from 6 to 16" in refused.stderr


def test_host(tmp_path: Path) -> None:
    arguments = ["--width", "2", "--batch", "2", "--steps", "8", "--blocks", "se", "--device", "cpu"]
    figures, printed = run("host", tmp_path, *arguments)
    found = figures["se"]["host_us"]
    assert {"plain", "stem"} < found.keys()
    for of_plan in found.values():
        assert_rate(of_plan["step"])
        assert_rate(of_plan["loop"])
    assert (tmp_path / "host.md").read_text() in printed


def test_kernels(tmp_path: Path) -> None:
    arguments = ["--width", "2", "--batch", "2", "--blocks", "se", "--device", "cpu"]
    figures, printed = run("kernels", tmp_path, *arguments)
    for of_plan in figures["se"]["plans"].values():
        assert of_plan["step_us"] > 0
        assert sum(kernel["us"] for kernel in of_plan["kernels"].values()) > 0
    assert "| products |" in printed
    assert (tmp_path / "kernels.md").read_text() in printed


def test_networks(tmp_path: Path) -> None:
    names = ["dieleman", "dieleman_raw"]
    figures, printed = run("networks", tmp_path, "--networks", *names, "--seconds", "5", "--repeat", "2")
    assert list(figures["networks"]) == names
    for found in figures["networks"].values():
        for kind in ("training", "tagging"):
            assert_rate(found[kind])
            assert_rate(found[f"{kind}, se"])
    assert (tmp_path / "networks.md").read_text() in printed
    assert figures["networks"]["dieleman_raw"]["segment_seconds"] == 3.0


def test_loading(tmp_path: Path) -> None:
    figures, _ = run("loading", tmp_path, "--clips", "16", "--batches", "6", "--rounds", "2")
    assert (figures["clips"], figures["batch"], figures["batches"], figures["rounds"]) == (16, 23, 6, 2)
    assert {"cpu", "cores", "load", "torch", "numpy"} < figures["hardware"].keys()
    tables = figures["segments_per_second"]
    expected = {"from disk", "in memory, as people have it", "in memory, freed memory kept"}
    assert tables.keys() == expected
    for rates in tables.values():
        assert len(rates) >= 2
        for rate in rates.values():
            assert_rate(rate)


def test_loading_refuses_too_few_clips(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "loading.py"), "--clips", "4", "--batches", "6"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "--batches 6 of 23 segments need --clips 16 or more" in done.stderr


def test_loop(tmp_path: Path) -> None:
    arguments = ["--noise", "8", "--test-clips", "3", "--epochs", "3", *TINY]
    figures, printed = run("loop", tmp_path, *arguments, "--", "trainer.limit_train_batches=4")
    for name in ("bare", "trained", "epoch_seconds"):
        assert_rate(figures[name])
    assert figures["overhead"] == pytest.approx(figures["bare"]["median"] / figures["trained"]["median"] - 1)
    assert figures["test"]["clips"] == 3
    assert_rate(figures["test"]["seconds"])
    table = (tmp_path / "loop.md").read_text()
    assert table in printed
    assert f"The loop costs {figures['overhead']:.1%}." in table
    assert "Testing 3 clips takes" in table


def test_neighbour(tmp_path: Path) -> None:
    sizes = ["--width", "2", "--clips", "3", "--steps", "3", "--rounds", "1"]
    figures, printed = run(
        "neighbour", tmp_path, *sizes, "--data-root", str(tmp_path / "data"), "data.clips=32"
    )
    for kind in ("epoch", "tagging"):
        assert len(figures["seconds"][kind]) == 6  # three ways, alone and beside
        for name, seconds in figures["seconds"][kind].items():
            assert name.endswith((", alone", ", beside a neighbour"))
            assert kind == "tagging" or seconds["min"] > 0  # of tagging, a difference of two times
    assert (tmp_path / "neighbour.md").read_text() in printed


def test_one_part_of_all_for_a_gpu(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--out", str(tmp_path), "--quick", "--only"]
    done = subprocess.run([*command, "inference"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["parts"]["inference"]["went"] == "done"
    assert "| inference | done |" in (tmp_path / "summary.md").read_text()
    with zipfile.ZipFile(tmp_path / "inference.zip") as archive:
        assert sorted(archive.namelist()) == ["inference.json", "inference.log", "inference.md"]
        assert_rates(json.loads(archive.read("inference.json")), "se", {"ours, bf16"})
    refused = subprocess.run([*command, "all"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "no part 'all': there are quick, checks, backends" in refused.stderr


STOPPED = """
import sys
from pathlib import Path
import gpu
gpu.LIMIT = 5
program = "import sys, time; pipe = open(sys.argv[1], 'wb', 0); pipe.write(b'begun'); time.sleep(60)"
part = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
out = Path(sys.argv[1])
print(gpu.run("part", ["-c", part, program, str(out / "pipe")], out, out))
"""


def test_what_a_stopped_part_has_started_ends_with_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    command = [sys.executable, "-c", STOPPED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=BENCHMARKS)
    assert "stopped after 5 s" in done.stdout
    assert os.read(pipe, 5) == b"begun"
    assert select.select([pipe], [], [], 10)[0]
    assert os.read(pipe, 1) == b""  # the end: nobody has it open
    os.close(pipe)
    assert (tmp_path / "part.zip").is_file()


LAY_OUT = """
import importlib, json, sys
for path in sys.argv[1:]:
    name = path.rpartition("/")[2].removesuffix(".json")
    sys.stdout.write(importlib.import_module(name).table(json.load(open(path))) + "\\f")
"""


def test_the_tables_of_the_page_are_those_of_the_figures() -> None:
    """Laid out anew from the JSON files in experiments/speed, and shown on its page."""
    speed = BENCHMARKS.parent / "experiments" / "speed"
    files = [speed / f"{name}.json" for name in ("training", "curves", "inference", "tagging", "loop")]
    command = [sys.executable, "-c", LAY_OUT, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=BENCHMARKS)
    *tables, rest = done.stdout.split("\f")
    assert rest == ""
    for file, table in zip(files, tables, strict=True):
        assert file.with_suffix(".md").read_text() == table
        assert table in (speed / "README.md").read_text()


def test_ranks(tmp_path: Path) -> None:
    own = ["--steps", "2", "--data", str(tmp_path / "data"), "data.clips=32"]
    figures, printed = run("ranks", tmp_path, *TINY, *own)
    assert set(figures["rates"]) == {"one process", "2 processes", "2 processes, sync_batchnorm"}
    for rate in figures["rates"].values():
        assert_rate(rate)
    assert printed.count("\n| ") >= 3
