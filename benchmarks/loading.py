"""How fast segments become batches: out of the system's memory and from the disk, beside what people write.

    python benchmarks/loading.py --json loading.json      # needs 2.6 GB of disk and 8 GB of memory
    python benchmarks/loading.py --training               # with and without a thread that gathers ahead

The references are a plain copy of as many bytes in memory, and a torch Dataset over memory maps that returns
float32 segments, in a DataLoader. A store of noise is made for it, of clips of 29 s in shards of 256. What
shares a table is measured in turn, so that other work on the machine strikes all alike: on one core, but for
the processes of DataLoader, the thread, and training. Prints medians over the rounds, with the smallest and
the largest; with --json also the tables, as Markdown in a file beside.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from measure import machine, markdown, median_and_range, spread, write
from samplecnn.data.audio import CLIP_SAMPLES, SEGMENT_SAMPLES
from samplecnn.data.batches import Batches, EpochBatches
from samplecnn.data.catalog import Catalog, Clip, Split
from samplecnn.data.store import Part, Store, shard_file
from samplecnn.data.writer import Shard, write_manifest
from samplecnn.hardware import multiplies_bfloat16
from samplecnn.memory import keep_freed_memory
from samplecnn.model.architecture import build

BATCH = 23
SHARD_CLIPS = 256
TAGS = 50
BATCHES = 200  # per round: 0.54 GB
DISK_BATCHES = 30  # of them at most from the disk
WARM_UP = 10  # times fewer batches that are not counted: DataLoader's processes start up
WIDTH, STEPS = 16, 5  # of the network that is trained, and steps per round
Measure = Callable[[], float]  # segments per second


def make_store(folder: Path, parts: Mapping[str, int]) -> Store:
    """Write a store of noise, of so many clips for each part of the split "clean"."""
    folder.mkdir(parents=True)
    count = sum(parts.values())
    rng = np.random.default_rng(0)
    shards = []
    for index, start in enumerate(range(0, count, SHARD_CLIPS)):
        file = folder / shard_file(index)
        ids = [str(number) for number in range(start, min(start + SHARD_CLIPS, count))]
        np.save(file, rng.integers(-32_768, 32_768, len(ids) * CLIP_SAMPLES, dtype=np.int16))
        lengths = [CLIP_SAMPLES] * len(ids)
        shards.append(Shard("", file.stat().st_size, "", ids, lengths, [], [None] * len(ids)))
    clips = tuple(Clip(str(number), f"{number}.mp3", (number % TAGS,)) for number in range(count))
    part_of = tuple(part for part, size in parts.items() for _ in range(size))
    splits = {"clean": Split(part_of, drop_untagged=False)}
    tags = tuple(f"tag {number}" for number in range(TAGS))
    write_manifest(folder, Catalog("benchmark", folder, tags, clips, splits, {}), shards)
    return Store.open(folder)


class Segments(Dataset[tuple[Tensor, Tensor]]):
    """What people write: an item is a segment in float32 with its labels, out of memory maps."""

    def __init__(self, store: Store, part: Part) -> None:
        self.part = part
        self.shards = [np.load(file, mmap_mode="r") for file in store.shards.files]

    def __len__(self) -> int:
        return len(self.part.segment_clip)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        shard, start, samples = self.part.segment_spans[index]
        waveform = self.shards[shard][start : start + samples].astype(np.float32) / 32768
        labels = self.part.labels[self.part.segment_clip[index]].astype(np.float32)
        return torch.from_numpy(waveform), torch.from_numpy(labels)


def rate(batches: Iterator[Any], count: int) -> float:
    """Return segments per second over so many batches, each dropped when the next one comes."""
    begun = time.perf_counter()
    for _ in islice(batches, count):
        pass
    return count * BATCH / (time.perf_counter() - begun)


def shuffled(store: Store, seed: int = 0) -> tuple[Part, EpochBatches]:
    """Return the training part and its batches, of which each round takes the next epoch."""
    part = store.select("clean", None).parts["train"]
    return part, EpochBatches(len(part.segment_clip), BATCH, seed)


def plain_copy(count: int) -> Measure:
    """Return the copy of as many bytes as are gathered in a round, in memory, into one batch."""
    source = np.ones((count, BATCH * SEGMENT_SAMPLES), dtype=np.int16)
    out = np.zeros_like(source[0])

    def copied() -> Iterator[None]:
        for piece in source:
            out[:] = piece
            yield

    return lambda: rate(copied(), count)


def data_loader(store: Store, workers: int, count: int) -> Measure:
    """Return what people write, once its processes are at work."""
    part, _ = shuffled(store)

    def measure() -> float:
        loaded = iter(DataLoader(Segments(store, part), batch_size=BATCH, shuffle=True, num_workers=workers))
        rate(loaded, count // WARM_UP)
        return rate(loaded, count)

    return measure


def memory_measures(store: Store, count: int) -> dict[str, Measure]:
    """Return what is measured in memory, where `store` has been read to."""
    part, sampler = shuffled(store)

    def gathered() -> float:
        sampler.set_epoch(sampler.epoch + 1)
        spans = [part.segment_spans[segments] for segments in islice(sampler, count)]
        shape = BATCH, SEGMENT_SAMPLES
        filled = (store.gather(rows, torch.empty(shape, dtype=torch.int16).numpy()) for rows in spans)
        return rate(filled, count)

    def batches(ahead: int, *, floats: bool = False) -> float:
        sampler.set_epoch(sampler.epoch + 1)
        loaded = iter(Batches(store, part, sampler, ahead=ahead))
        rate(loaded, count // WARM_UP)
        if floats:
            return rate((batch.waveforms.float() / 32768 for batch in loaded), count)
        return rate(loaded, count)

    return {
        "gather": gathered,
        "batches": lambda: batches(0),
        "batches, by a thread": lambda: batches(2),
        "batches, then float32": lambda: batches(0, floats=True),
    }


def disk_measures(store: Store, count: int) -> dict[str, Measure]:
    """Return what is measured with nothing of the store in memory."""
    part, sampler = shuffled(store, seed=1)

    def forget() -> None:
        sampler.set_epoch(sampler.epoch + 1)
        for file in store.shards.files:
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def batches() -> float:
        forget()
        return rate(iter(Batches(Store.open(store.path), part, sampler)), count)

    def maps() -> float:
        forget()
        shards = Segments(store, part).shards
        copies = (
            [shards[shard][start : start + samples].copy() for shard, start, samples in spans]
            for spans in (part.segment_spans[segments] for segments in sampler)
        )
        return rate(copies, count)

    return {"batches": batches, "memory maps": maps}


def training_measures(store: Store) -> dict[str, Measure]:
    """Return training steps on all cores, with batches gathered ahead or not.

    The network is the paper's basic one, made narrow: the faster the step, the more loading can matter.
    """
    part, _ = shuffled(store)
    architecture = {"block": {"name": "basic"}, "multi": True, "width": WIDTH, "dropout": 0.5}
    network = build(architecture, TAGS)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    reduced = torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bfloat16("cpu"))

    def steps(ahead: int) -> float:
        loaded = iter(Batches(store, part, EpochBatches(len(part.segment_clip), BATCH, seed=0), ahead=ahead))

        def stepped() -> Iterator[None]:
            for batch in loaded:
                with reduced:
                    logits = network(batch.waveforms.float() / 32768)
                loss = F.binary_cross_entropy_with_logits(logits.float(), batch.labels)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                yield

        trained = stepped()
        next(trained)
        return rate(trained, STEPS)

    return {"gathered in turn": lambda: steps(0), "gathered ahead by a thread": lambda: steps(2)}


def in_turn(chosen: dict[str, Measure], rounds: int) -> dict[str, dict[str, float]]:
    """Measure all once without counting, then `rounds` times in turn."""
    rates: dict[str, list[float]] = {name: [] for name in chosen}
    for number in range(rounds + 1):
        for name, measure in chosen.items():
            measured = measure()
            if number:
                rates[name].append(measured)
    return {name: spread(measured) for name, measured in rates.items()}


def run(store: Store, count: int, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Measure loading of so many batches; what is said of a table of results is its key."""
    torch.set_num_threads(1)
    copy = plain_copy(count)
    loaders = {f"DataLoader, {n} workers": data_loader(store, n, count) for n in (0, 2)}
    results = {"from disk": in_turn(disk_measures(store, min(count, DISK_BATCHES)), rounds)}
    for clip in range(len(store.clip_ids)):
        store.clip(clip)
    results["in memory, as people have it"] = in_turn({"plain copy": copy, **loaders}, rounds)
    keep_freed_memory()  # as training does
    ours = memory_measures(store, count)
    results["in memory, freed memory kept"] = in_turn({"plain copy": copy, **ours}, rounds)
    return results


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Lay out the results in Markdown; ratios are to the first row of each table."""
    tables = []
    for title, rates in results.items():
        first = next(iter(rates.values()))["median"]
        rows = [
            [name, *median_and_range(rate, ",.0f"), f"{rate['median'] / first:.0%}"]
            for name, rate in rates.items()
        ]
        tables.append(markdown([title, "segments/s", "range", "of the first"], rows))
    return "\n".join(tables)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=2048, help="1.3 MB each (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=BATCHES, help="of a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="repetitions (default: %(default)s)")
    parser.add_argument("--training", action="store_true", help="training steps on this CPU instead")
    parser.add_argument("--folder", type=Path, help="for the store (default: that of temporary files)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    needed = 2 + -(
        -(options.batches + options.batches // WARM_UP) * BATCH // (CLIP_SAMPLES // SEGMENT_SAMPLES)
    )
    if options.clips < needed or options.batches < 1 or options.rounds < 1:
        parser.error(
            f"--batches {options.batches} of {BATCH} segments need --clips {needed} or more; "
            "--batches and --rounds must be 1 or more"
        )
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        parts = {"valid": 1, "test": 1, "train": options.clips - 2}
        store = make_store(Path(temporary) / "store", parts)
        if options.training:
            keep_freed_memory()
            title = f"training on this CPU, width {WIDTH}"
            results = {title: in_turn(training_measures(store), options.rounds)}
        else:
            results = run(store, options.batches, options.rounds)
    print(table(results))
    host = machine(torch.device("cpu"))
    hardware = {"cpu": host.pop("device"), **host, "numpy": version("numpy")}
    counts = {"clips": options.clips, "batch": BATCH, "batches": options.batches, "rounds": options.rounds}
    figures = {"hardware": hardware, **counts, "segments_per_second": results}
    write(options.json, figures, table(results))


if __name__ == "__main__":
    main()
