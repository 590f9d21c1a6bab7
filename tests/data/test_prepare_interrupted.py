"""Preparing stores in processes that are stopped, killed or crash, and in several at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.prepared import MakeRaw, content
from samplecnn.data.audio import load, to_int16
from samplecnn.data.datasets import mtat
from samplecnn.data.prepare import prepare
from samplecnn.data.store import Store, StoreError
from samplecnn.data.writer import ShardJob, shard_jobs

# Run by `python -c`: raw folder, root, largest file in bytes (0: any), clips per shard.
PREPARE = """
import resource, signal, sys
from samplecnn.data.datasets import mtat
from samplecnn.data.prepare import prepare
signal.signal(signal.SIGINT, signal.default_int_handler)
if int(sys.argv[3]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
prepare(mtat.catalog(sys.argv[1], "x"), sys.argv[2], workers=1, progress=False,
        shard_clips=int(sys.argv[4]))
"""


def start(raw: Path, root: Path, largest_file: int = 0, shard_clips: int = 2) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREPARE, str(raw), str(root), str(largest_file), str(shard_clips)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def parents(session: int) -> dict[int, int]:
    """Parent by process id of the living processes that a call of `start` has brought about."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, _, its_session = file.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # ended meanwhile
            continue
        if int(its_session) == session and state != "Z":
            found[int(file.parent.name)] = int(parent)
    return found


@pytest.fixture(scope="module")
def long_raw(tmp_path_factory: pytest.TempPathFactory, make_raw: MakeRaw) -> Path:
    """Clips of twenty shards."""
    raw = make_raw(tmp_path_factory.mktemp("long"), {"0/0.mp3": 29.0, "0/1.mp3": 25.0})
    two = [(raw / f"mp3/0/{number}.mp3").read_bytes() for number in range(2)]
    return make_raw(raw, {f"{number % 16:x}/{number}.mp3": two[number % 2] for number in range(40)})


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, long_raw: Path) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("uninterrupted")
    return content(prepare(mtat.catalog(long_raw, "x"), root, progress=False, shard_clips=2))


@contextmanager
def unfinished(raw: Path, root: Path, number: int) -> Iterator[ShardJob]:
    """Have a shard in the hands of this process: others that prepare make the rest, and wait for it."""
    (root / "x").mkdir()
    job = shard_jobs(mtat.catalog(raw, "x"), root / "x", 2)[number]
    with job.locked():
        yield job


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_interrupted_preparation_resumes_to_the_same_bytes(
    tmp_path: Path, long_raw: Path, uninterrupted: dict[str, bytes], signum: signal.Signals
) -> None:
    folder = tmp_path / "x"
    with unfinished(long_raw, tmp_path, 19):
        process = start(long_raw, tmp_path)
        while not (folder / "shard-00002.json").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
        process.send_signal(signum)
        process.communicate(timeout=300)
    assert process.returncode == -signum
    while parents(process.pid):  # or the test's time is up
        time.sleep(0.05)

    with pytest.raises(StoreError, match="not finished"):
        Store.open(folder)
    if signum == signal.SIGINT:
        assert not list(folder.glob("*.tmp"))
    prepare(mtat.catalog(long_raw, "x"), tmp_path, progress=False, shard_clips=2)
    assert content(folder) == uninterrupted


def test_shards_beside_a_whole_preparation(
    tmp_path: Path, long_raw: Path, uninterrupted: dict[str, bytes]
) -> None:
    process = start(long_raw, tmp_path)
    while not (tmp_path / "x").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    for shard in (19, 0, 12, 18, 3):
        prepare(mtat.catalog(long_raw, "x"), tmp_path, workers=1, progress=False, shard_clips=2, shard=shard)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert content(tmp_path / "x") == uninterrupted


def test_full_disk(tmp_path: Path, make_raw: MakeRaw) -> None:
    """A limit on the size of files makes the write fail as a full disk would."""
    seconds = {"0/a.wav": 1.0, "0/b.wav": 1.0, "c/c.wav": 5.0, "d/d.wav": 5.0}
    raw = make_raw(tmp_path / "raw", seconds)
    catalog = mtat.catalog(raw, "x")
    expected = content(prepare(catalog, tmp_path / "whole", progress=False, shard_clips=2))

    process = start(raw, tmp_path, largest_file=200_000)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "StoreError: no room to write" in errors
    assert "2 of 4 clips are prepared. Make room and run it again, it goes on from there" in errors
    folder = tmp_path / "x"
    assert sorted(file.name for file in folder.iterdir()) == ["shard-00000.json", "shard-00000.npy"]

    kept = (folder / "shard-00000.npy").stat().st_mtime_ns
    prepare(catalog, tmp_path, progress=False, shard_clips=2)
    assert content(folder) == expected
    assert (folder / "shard-00000.npy").stat().st_mtime_ns == kept


# A script, because decoders import it too: for some rates, libsndfile is made to do something else.
SCRIPT = """
import os, signal, sys, time
from pathlib import Path
import soundfile

opened = soundfile.SoundFile.__init__

def instead(self, *arguments, **options):
    opened(self, *arguments, **options)
    if self.samplerate == 11_111:
        os.kill(os.getpid(), signal.SIGSEGV)
    if self.samplerate == 11_112:
        os.abort()
    if self.samplerate == 11_113:
        Path(sys.argv[2], f"at-one-{os.getpid()}").touch()
        while len(list(Path(sys.argv[2]).glob("at-one-*"))) < 2:
            time.sleep(0.01)

soundfile.SoundFile.__init__ = instead
if __name__ == "__main__":
    from samplecnn.data.datasets import mtat
    from samplecnn.data.prepare import prepare

    raw, root, shard_clips = sys.argv[1:]
    prepare(mtat.catalog(raw, "x"), root, workers=2, shard_clips=int(shard_clips))
"""


def start_script(tmp_path: Path, raw: Path, shard_clips: int) -> subprocess.Popen[str]:
    script, root = tmp_path / "script.py", tmp_path / "root"
    script.write_text(SCRIPT)
    root.mkdir()
    command = [sys.executable, str(script), str(raw), str(root), str(shard_clips)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def run_script(tmp_path: Path, raw: Path, shard_clips: int) -> str:
    process = start_script(tmp_path, raw, shard_clips)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


def test_worker_that_is_killed_is_reported(tmp_path: Path, make_raw: MakeRaw) -> None:
    """While it is at a file, of which it makes no end."""
    raw = make_raw(tmp_path / "raw", {f"{part}/{number}.wav": 0.1 for part in "0cd" for number in range(6)})
    soundfile.write(raw / "mp3/0/1.wav", np.zeros(11_113), 11_113)
    process = start_script(tmp_path, raw, shard_clips=4)
    while not (at_work := list((tmp_path / "root").glob("at-one-*"))):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.kill(int(at_work[0].name.removeprefix("at-one-")), signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "0/1.wav: its decoder was ended (SIGKILL): out of memory, or by somebody." in errors
    assert "Run it again, perhaps with fewer workers: it goes on where it stopped" in errors
    prepare(mtat.catalog(raw, "x"), tmp_path / "root", progress=False, shard_clips=4)
    assert len(Store.open(tmp_path / "root/x").clip_ids) == 18


def test_clips_that_crash_the_decoder_are_left_out(tmp_path: Path, make_raw: MakeRaw) -> None:
    raw = make_raw(tmp_path / "raw", {f"{part}/{number}.wav": 1.0 for part in "0cd" for number in range(3)})
    crashes = {"0/1.wav": (11_111, "SIGSEGV"), "0/2.wav": (11_112, "SIGABRT"), "d/2.wav": (11_111, "SIGSEGV")}
    for path, (rate, _) in crashes.items():
        soundfile.write(raw / "mp3" / path, np.zeros(rate), rate)
    shown = run_script(tmp_path, raw, shard_clips=4)
    store = Store.open(tmp_path / "root/x")
    assert {clip["path"]: clip["reason"] for clip in store.skipped} == {
        path: f"crashes the decoder ({name})" for path, (_, name) in crashes.items()
    }
    assert store.clip_paths == ("0/0.wav", "c/0.wav", "c/1.wav", "c/2.wav", "d/0.wav", "d/1.wav")
    np.testing.assert_array_equal(store.clip(5), to_int16(load(raw / "mp3/d/1.wav")))
    assert "9/9" in shown  # of the progress bar
    assert "10/9" not in shown


def test_all_workers_are_at_a_single_shard(tmp_path: Path, make_raw: MakeRaw) -> None:
    """Two clips wait for each other in two processes; the size is estimated beforehand by others."""
    raw = make_raw(tmp_path / "raw", {f"{part}/{number}.wav": 0.1 for part in "0cd" for number in range(6)})
    for path in ("0/1.wav", "0/3.wav"):
        soundfile.write(raw / "mp3" / path, np.zeros(11_113), 11_113)
    run_script(tmp_path, raw, shard_clips=256)
    assert len(list((tmp_path / "root").glob("at-one-*"))) == 2


def test_other_shards_are_made_while_another_process_is_at_one(
    tmp_path: Path, long_raw: Path, uninterrupted: dict[str, bytes]
) -> None:
    with unfinished(long_raw, tmp_path, 3) as job:
        process = start(long_raw, tmp_path)
        while len(list((tmp_path / "x").glob("shard-*.json"))) < 19:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        assert process.poll() is None  # it waits for the last one
        assert job.finished() is None
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert content(tmp_path / "x") == uninterrupted


def test_three_processes_share_the_shards(
    tmp_path: Path, long_raw: Path, uninterrupted: dict[str, bytes]
) -> None:
    """One that is killed costs the others nothing."""
    with unfinished(long_raw, tmp_path, 19):
        processes = [start(long_raw, tmp_path) for _ in range(3)]
        while not (tmp_path / "x/shard-00004.json").exists():
            time.sleep(0.002)
        os.killpg(processes[0].pid, signal.SIGKILL)
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == (-signal.SIGKILL if process is processes[0] else 0), errors
    assert content(tmp_path / "x") == uninterrupted
