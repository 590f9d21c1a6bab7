"""What a training shows in a terminal, in a log, and in a grid."""

import os
import pty
import re
import subprocess
import sys
import termios

from e2e.conftest import ROOT, TINY, World

LONG = ["width=8", "trainer.max_epochs=2", "logger=none"]


def in_a_terminal(world: World, *arguments: str) -> str:
    """Return what ``python train.py`` writes to a terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (40, 160))
    command = [sys.executable, str(ROOT / "train.py"), *arguments, *world.data]
    process = subprocess.Popen(
        command, cwd=world.folder, env=world.environment, stdout=theirs, stderr=theirs, stdin=theirs
    )
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 1 << 16):
            written += part
    except OSError:  # how a terminal ends on Linux
        pass
    os.close(ours)
    assert process.wait() == 0, written[-4000:]
    return written.decode()


def test_the_bar_of_a_grid(world: World) -> None:
    """It names cell and epoch, and what is left of all epochs; lines of the log stand above it."""
    sweep = world.folder / "sweeps" / "watched"
    arguments = ["-m", "seed=1,2", *LONG, "trainer.limit_train_batches=12", f"hydra.sweep.dir={sweep}"]
    shown = in_a_terminal(world, *arguments)
    for cell, seed in (("cell 1 of 2", 1), ("cell 2 of 2", 2)):
        assert re.search(rf"\] {cell}: seed={seed}", shown)
        for epoch in (0, 1):
            assert f"{cell}, epoch {epoch}:" in shown
    assert re.search(r"left=\d+ s", shown)
    said = [line for line in re.split(r"[\r\n]+", shown) if "an epoch; 2 epochs in" in line]
    assert len(said) == 2
    assert all(re.fullmatch(r"(\x1b\[\w)*\[\d\d:\d\d:\d\d\] about \d+ s an epoch; .*", line) for line in said)


def test_without_a_terminal(world: World) -> None:
    """The log says it once, also in the run's own file; a finished cell keeps its number."""
    sweep = world.folder / "sweeps" / "unwatched"
    arguments = ["-m", "seed=1,2", *LONG, *TINY[1:], *world.data, f"hydra.sweep.dir={sweep}"]
    first = world.run("train.py", *arguments)
    assert len(re.findall(r"about \d+ s an epoch; 2 epochs in \d+ s", first.stdout)) == 2
    assert "an epoch; 2 epochs in" in (sweep / "0" / "train.log").read_text()
    assert "it/s" not in first.stdout + first.stderr
    again = world.run("train.py", *arguments)
    for number in (1, 2):
        assert re.search(rf"cell {number} of 2: seed={number}\n.*has finished before", again.stdout)


def test_the_threads_that_a_job_may_use_are_used_and_named(world: World) -> None:
    own = {key: value for key, value in world.environment.items() if key != "OMP_NUM_THREADS"}
    run = world.folder / "runs" / "one-core"
    command = [sys.executable, str(ROOT / "train.py"), *world.data, *TINY, "trainer.max_epochs=1"]
    done = subprocess.run(
        [*command, "logger=none", f"hydra.run.dir={run}"],
        cwd=world.folder,
        env=own | {"SLURM_CPUS_PER_TASK": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d batches an epoch, on .+, 1 thread\n", done.stdout)
