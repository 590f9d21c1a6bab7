"""Training reads a store four times as large as the memory that it may use.

The limit is set and measured in a process of its own. `RLIMIT_AS`, set once everything is imported, makes
the kernel refuse any further memory and any mapping of a file beyond a few MB; and the highest resident size
of its whole life, interpreter and libraries included, has to stay below a quarter of the store. What the
kernel keeps of the files in its own cache is no part of the process and goes whenever memory is needed.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from samplecnn.data.audio import CLIP_SAMPLES
from samplecnn.data.catalog import Catalog, Clip, Split
from samplecnn.data.store import shard_file
from samplecnn.data.writer import Shard, write_manifest

LIMIT = 1000 << 20  # bytes: PyTorch and Lightning alone take 300 to 600 MB
SHARD_CLIPS = 256

# Run by `python -c`: store; whether the limit comes before it is opened, or after the first batch.
EPOCH = """
import resource, sys
from pathlib import Path
import numpy as np
import torch
from samplecnn.data.datamodule import SegmentDataModule
status = lambda key: 1024 * int(Path("/proc/self/status").read_text().split(key + ":")[1].split()[0])
def limit():
    room = status("VmSize") + (64 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
if sys.argv[2] == "first":
    np.random.default_rng(0).permutation(10), torch.zeros(10).sum()  # load what is loaded on first use
    limit()
data = SegmentDataModule(sys.argv[1], batch_size=23, top=None)
loader = data.train_dataloader()
next(iter(loader))
if sys.argv[2] == "later":
    limit()
read = sum(batch.waveforms.nbytes for batch in loader)
print(read, status("VmHWM"))
"""


def sparse_store(folder: Path, size: int) -> Path:
    """A store of silence whose shards take no room on the disk."""
    folder.mkdir()
    count = size // (2 * CLIP_SAMPLES) // SHARD_CLIPS * SHARD_CLIPS + SHARD_CLIPS
    clips = tuple(Clip(str(number), f"{number}.mp3", (number % 3,)) for number in range(count))
    parts = ("valid", "test", *("train" for _ in range(count - 2)))
    shards = []
    for index in range(count // SHARD_CLIPS):
        file = folder / shard_file(index)
        with file.open("wb") as out:
            header = {"descr": "<i2", "fortran_order": False, "shape": (SHARD_CLIPS * CLIP_SAMPLES,)}
            np.lib.format.write_array_header_1_0(out, header)
            out.truncate(out.tell() + 2 * SHARD_CLIPS * CLIP_SAMPLES)
        ids = [clip.id for clip in clips[index * SHARD_CLIPS : (index + 1) * SHARD_CLIPS]]
        shards.append(Shard("", file.stat().st_size, "", ids, [CLIP_SAMPLES] * SHARD_CLIPS, [], []))
    splits = {"clean": Split(parts, drop_untagged=False)}
    write_manifest(folder, Catalog("sparse", folder, ("a", "b", "c"), clips, splits, {}), shards)
    return folder


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc/self/status")
@pytest.mark.parametrize("when", ["first", pytest.param("later", marks=pytest.mark.slow)])
def test_an_epoch_over_a_store_four_times_as_large_as_memory(tmp_path: Path, when: str) -> None:
    store = sparse_store(tmp_path / "sparse", 4 * LIMIT)
    assert sum(file.stat().st_size for file in store.glob("*.npy")) >= 4 * LIMIT
    command = [sys.executable, "-c", EPOCH, str(store), when]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert told.returncode == 0, told.stderr
    read, peak = map(int, told.stdout.split())
    assert read > 0.9 * 4 * LIMIT
    assert peak < LIMIT
