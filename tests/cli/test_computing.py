"""How the commands that compute a network on a CPU treat its threads and its memory, as real processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from analysis.test_excitation_command import write_run
from samplecnn import mini
from samplecnn.cli import main
from samplecnn.data.prepare import prepare
from samplecnn.threads import COUNTS, SPINNING

UNSET = (*COUNTS, *SPINNING, "OMP_WAIT_POLICY")
# The command, and what it leaves: threads, how they wait, and the MB that a freed tensor of 64 gives back.
COMMAND = """
import os, sys
from pathlib import Path
from samplecnn.cli import main
assert "torch" not in sys.modules  # whose OpenMP reads once how threads wait
import torch
torch.set_num_threads(2)
assert main(sys.argv[1:]) == 0
resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20
tensor = torch.ones(1 << 24)
held = resident()
del tensor
print(torch.get_num_threads(), os.environ.get("OMP_WAIT_POLICY"), held - resident())
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, mini_raw: Path) -> Path:
    """A run whose network was not trained, on the built-in set at its smallest."""
    root = tmp_path_factory.mktemp("stores")
    prepare(mini.catalog(mini_raw, clips=16), root, progress=False)
    return write_run(tmp_path_factory.mktemp("runs") / "se", root, {"name": "se", "alpha": 2})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is kept on Linux alone")
@pytest.mark.parametrize("command", ["tag", "evaluate", "excitation"])
def test_threads_are_limited_and_sleep_and_freed_memory_is_kept(
    run: Path, command: str, tmp_path: Path
) -> None:
    song = tmp_path / "song.wav"
    soundfile.write(song, np.zeros(22050), 22050)
    arguments = ["--model", run, song] if command == "tag" else [run]
    own = {key: value for key, value in os.environ.items() if key not in UNSET}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, command, *map(str, arguments)],
        env=own | {"SLURM_CPUS_PER_TASK": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    threads, waiting, given_back = done.stdout.split()[-3:]
    assert (threads, waiting) == ("1", "passive")
    assert int(given_back) < 32


def test_the_doctor_measures_in_as_many_threads_as_training_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in COUNTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        main(["doctor", "--width", "2", "--block", "basic", "--accelerator", "cpu", "--precision", "32"])
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
