"""How fast audio becomes a store: decoding, resampling, and all of it, beside what people commonly write.

    python benchmarks/prepare.py                        # clips that are made for it
    python benchmarks/prepare.py --audio DIR            # MP3s of your own
    python benchmarks/prepare.py --json prepare.json

The reference is a plain loop: soundfile, torchaudio's resampling with the same kernel, a float32 .npy per
clip, in one process and one thread. Prints medians over the repetitions, with the smallest and the largest;
with --json also the table, as Markdown in a file beside.
"""

import argparse
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torchaudio.functional import resample

from measure import machine, markdown, median_and_range, spread, write
from samplecnn.data import audio
from samplecnn.data.catalog import Catalog, Clip, Split
from samplecnn.data.prepare import prepare
from samplecnn.data.resampling import KAISER_BEST

RATE = 16_000  # Hz, mono, as in MagnaTagATune
SECONDS = 29.124
MTAT_CLIPS = 25_863
INTERVAL = 0.05  # seconds between two looks at the memory in use


def make_clips(folder: Path, count: int) -> list[Path]:
    """Write MP3s of chords and noise, as long as MTAT's clips."""
    files = []
    time_axis = np.arange(round(SECONDS * RATE)) / RATE
    for number in range(count):
        rng = np.random.default_rng(number)
        pitches, starts = rng.uniform(80, 4000, 12), rng.uniform(0, 2 * np.pi, 12)
        tones = sum(
            np.sin(2 * np.pi * hertz * time_axis + start)
            for hertz, start in zip(pitches, starts, strict=True)
        )
        noise = np.convolve(rng.normal(size=len(time_axis)), np.ones(8) / 8, mode="same")
        files.append(folder / f"{number}.mp3")
        soundfile.write(files[-1], 0.03 * tones + 0.1 * noise, RATE)
    return files


def catalog(folder: Path, files: Sequence[Path]) -> Catalog:
    """Make a catalogue of some files in a folder."""
    clips = tuple(Clip(str(number), file.name, (0,)) for number, file in enumerate(files))
    splits = {"all": Split(("train",) * len(clips), drop_untagged=False)}
    return Catalog("benchmark", folder, ("tag",), clips, splits, {})


def reference(files: Sequence[Path], out: Path) -> None:
    """What people commonly write."""
    for file in files:
        waveform, rate = soundfile.read(file, dtype="float32", always_2d=True)
        mono = torch.from_numpy(waveform.mean(axis=1))
        resampled = resample(mono, rate, audio.SAMPLE_RATE, **KAISER_BEST)
        np.save(out / f"{file.stem}.npy", resampled[: audio.CLIP_SAMPLES].numpy())


class PeakMemory(threading.Thread):
    """The most memory that this process and all that it starts have to themselves meanwhile, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self._ended = threading.Event()

    def __enter__(self) -> "PeakMemory":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Look every few milliseconds."""
        while not self._ended.wait(INTERVAL):
            sizes, parents = {}, {}
            for status in Path("/proc").glob("[0-9]*/status"):
                try:
                    lines = dict(
                        line.split(":", 1) for line in status.read_text().splitlines() if ":" in line
                    )
                    sizes[int(lines["Pid"])] = 1024 * int(lines["RssAnon"].split()[0])
                    parents[int(lines["Pid"])] = int(lines["PPid"])
                except (OSError, KeyError):  # ended meanwhile, or of the kernel
                    continue
            own = {os.getpid()}
            while more := {child for child, parent in parents.items() if parent in own} - own:
                own |= more
            self.bytes = max(self.bytes, sum(sizes.get(process, 0) for process in own))


def rate(work: Callable[[], object], clips: int, repeat: int) -> dict[str, float]:
    """Return clips per second of some work on `clips` clips, after a first time that does not count."""
    work()
    rates = []
    for _ in range(repeat):
        begun = time.perf_counter()
        work()
        rates.append(clips / (time.perf_counter() - begun))
    return spread(rates)


def end_to_end(folder: Path, files: Sequence[Path], root: Path, workers: int, repeat: int) -> dict[str, Any]:
    """Prepare all files, and a quarter of them: the difference has no start-up in it."""

    def once(some: Sequence[Path]) -> tuple[float, int]:
        shutil.rmtree(root, ignore_errors=True)
        with PeakMemory() as peak:
            begun = time.perf_counter()
            prepare(catalog(folder, some), root, workers=workers, progress=False)
            return time.perf_counter() - begun, peak.bytes

    quarter = files[: len(files) // 4]
    once(quarter)  # starts the server that workers fork from
    pairs = [(once(quarter), once(files)) for _ in range(repeat)]
    return {
        "clips_per_second": spread(
            [(len(files) - len(quarter)) / (many - few) for (few, _), (many, _) in pairs]
        ),
        "start_seconds": spread([few - (many - few) / 3 for (few, _), (many, _) in pairs]),
        "peak_bytes": {
            "quarter": max(peak for (_, peak), _ in pairs),
            "all": max(peak for _, (_, peak) in pairs),
        },
    }


def run(folder: Path, files: Sequence[Path], scratch: Path, workers: int, repeat: int) -> dict[str, Any]:
    """Measure everything, single steps in one thread."""
    torch.set_num_threads(1)
    few = files[:32]
    decoded = [audio.decode(file, max_seconds=audio.CLIP_SECONDS) for file in few]
    (scratch / "reference").mkdir()
    results: dict[str, Any] = {
        "reference": rate(lambda: reference(few, scratch / "reference"), len(few), repeat),
        "decode": rate(
            lambda: [audio.decode(file, max_seconds=audio.CLIP_SECONDS) for file in few], len(few), repeat
        ),
        "resample": rate(lambda: [audio.resample(*pair) for pair in decoded], len(few), repeat),
        "end_to_end": {
            count: end_to_end(folder, files, scratch / "store", count, repeat)
            for count in range(1, workers + 1)
        },
    }
    one = results["end_to_end"][1]["clips_per_second"]["median"]
    for count, measured in results["end_to_end"].items():
        measured["scaling"] = measured["clips_per_second"]["median"] / (count * one)
        measured["mtat_minutes"] = MTAT_CLIPS / measured["clips_per_second"]["median"] / 60
    return results


def table(results: dict[str, Any]) -> str:
    """Lay out the results in Markdown."""
    base = results["reference"]["median"]
    single = {
        "plain reference": results["reference"],
        "decoding alone, one core": results["decode"],
        "resampling alone, one core": results["resample"],
    }
    rows = [
        [name, *median_and_range(rate), f"{rate['median'] / base:.1f}", ""] for name, rate in single.items()
    ]
    for workers, measured in results["end_to_end"].items():
        name = f"into the store, {workers} worker{'s' * (str(workers) != '1')}"
        rate = measured["clips_per_second"]
        memory = " / ".join(f"{size / 1e6:.0f} MB" for size in measured["peak_bytes"].values())
        rows.append([name, *median_and_range(rate), f"{rate['median'] / base:.1f}", memory])
    return (
        markdown(["", "clips/s", "range", "over the reference", "peak memory"], rows)
        + f"\nWith all workers {measured['scaling']:.0%} of as many times one; MagnaTagATune's {MTAT_CLIPS:,}"
        f" clips would take {measured['mtat_minutes']:.1f} min.\n"
        "Peak memory is that of all processes, for a quarter of the clips / for all of them.\n"
    )


def hardware() -> dict[str, Any]:
    """Say what this was measured on and with."""
    host = machine(torch.device("cpu"))
    packages = ("torchaudio", "soundfile", "numpy")
    return {"cpu": host.pop("device"), **host, **{name: version(name) for name in packages}}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--audio", type=Path, help="folder of MP3 files (default: clips made for it)")
    parser.add_argument("--clips", type=int, default=256, help="clips to prepare (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=cores, help="most workers (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    if options.clips < 8 or options.workers < 1 or options.repeat < 1:
        parser.error("at least 8 clips, 1 worker and 1 repetition are needed")
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        raw = scratch / "raw"
        raw.mkdir()
        few = sorted(options.audio.glob("*.mp3")) if options.audio else make_clips(scratch, 24)
        if not few:
            parser.error(f"{options.audio} has no .mp3 files")
        files = [raw / f"{number}.mp3" for number in range(options.clips)]
        for number, file in enumerate(files):  # as many as wanted, from those there are
            shutil.copy(few[number % len(few)], file)
        results = run(raw, files, scratch, options.workers, options.repeat)
    counts = {"clips": options.clips, "repeat": options.repeat}
    print(table(results))
    write(options.json, {"hardware": hardware(), **counts, **results}, table(results))


if __name__ == "__main__":
    main()
