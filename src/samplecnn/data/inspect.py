"""Looking into a prepared store: is it sound, what is in it, what does a clip look like."""

import difflib
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram
from tqdm import tqdm

from samplecnn.data.catalog import PARTS, digest
from samplecnn.data.store import LABELS, MANIFEST, Store, StoreError
from samplecnn.style import colours, pictures, ramp
from samplecnn.text import printable

CHUNK = 1 << 20  # bytes
FFT, HOP, MELS = 1024, 256, 96  # 46 ms, 12 ms
PICTURES = (".png", ".svg")


def check(store_path: str | Path, progress: bool = True) -> list[str]:
    """Compare a finished store with its manifest, byte by byte; return what is wrong, a sentence each.

    Raises `StoreError` if there is no store, or an unfinished one.
    """
    path = Path(store_path)
    try:
        store = Store.open(path)
    except StoreError as error:
        if not (path / MANIFEST).is_file():
            raise
        return [str(error)]
    manifest = json.loads((path / MANIFEST).read_bytes())
    return [
        *_check_shards(path, manifest["shards"], progress),
        *_check_spans(store),
        *_check_labels(store),
        *_check_manifest(store),
    ]


def _check_shards(path: Path, shards: list[dict[str, Any]], progress: bool) -> list[str]:
    problems = []
    total = sum(shard["bytes"] for shard in shards)
    with tqdm(total=total, unit="B", unit_scale=True, disable=not progress) as bar:
        for shard in shards:
            sha256 = hashlib.sha256()
            with (path / shard["file"]).open("rb") as file:
                while chunk := file.read(CHUNK):
                    sha256.update(chunk)
                    bar.update(len(chunk))
            if sha256.hexdigest() != shard["sha256"]:
                problems.append(f"{shard['file']} has SHA-256 {sha256.hexdigest()}, not {shard['sha256']}")
    return problems


def _check_spans(store: Store) -> list[str]:
    """Clips have to fill each shard from its first sample to its last, in order."""
    problems = []
    for shard, length in enumerate(store.shards.lengths):
        spans = store.clip_spans[store.clip_spans[:, 0] == shard]
        ends = np.concatenate([[0], spans[:, 1] + spans[:, 2]])
        starts = np.concatenate([spans[:, 1], [length]])
        if (wrong := np.flatnonzero(ends != starts)).size:
            first = int(wrong[0])
            problems.append(
                f"{store.shards.files[shard].name}: its clips do not join, sample {ends[first]} is followed"
                f" by sample {starts[first]}"
            )
    return problems


def _check_labels(store: Store) -> list[str]:
    problems = []
    if (wrong := np.argwhere(store.labels > 1)).size:
        clip, tag = wrong[0].tolist()
        value = store.labels[clip, tag]
        problems.append(
            f"{LABELS}: {len(wrong)} labels are neither 0 nor 1, the first {value} (clip"
            f" {store.clip_ids[clip]!r}, tag {store.tags[tag]!r})"
        )
    skipped = store.tag_counts - store.labels.sum(axis=0, dtype=np.int64)
    for tag in np.flatnonzero((skipped < 0) | (skipped > len(store.skipped))).tolist():
        problems.append(
            f"{LABELS}: tag {store.tags[tag]!r} has {store.tag_counts[tag] - skipped[tag]} clips,"
            f" {MANIFEST} counts {store.tag_counts[tag]} with {len(store.skipped)} skipped"
        )
    return problems


def _check_manifest(store: Store) -> list[str]:
    skipped_ids = [clip["id"] for clip in store.skipped]
    columns = {"clip id": [*store.clip_ids, *skipped_ids], "path": store.clip_paths, "tag": store.tags}
    problems = [
        f"{MANIFEST}: {what} {value!r} appears {count} times"
        for what, values in columns.items()
        for value, count in Counter(values).items()
        if count > 1
    ]
    for name, split in store.splits.items():
        if unknown := sorted({str(part) for part in split.parts} - {*PARTS, "None"}):
            problems.append(f"{MANIFEST}: split {name!r} has parts {unknown}: allowed are {PARTS} and None")
    made = {"tags": digest(store.tags)}
    if not store.skipped:  # else the manifest holds less than the catalogue
        splits = {name: (split.parts, split.drop_untagged) for name, split in store.splits.items()}
        made["splits"] = digest(dict(sorted(splits.items())))
        rows = zip(store.clip_ids, store.clip_paths, store.labels, strict=True)
        made["clips"] = digest(
            [(clip_id, path, np.flatnonzero(row).tolist()) for clip_id, path, row in rows],
        )
    problems += [
        f"{MANIFEST}: its {piece} are not those of the catalogue that the store was made from"
        for piece, value in made.items()
        if store.fingerprints.get(piece) != value
    ]
    return problems


def count_clips(store: Store, top: int | None) -> dict[str, list[int]]:
    """Count the clips of each split under the `top` tags (None: all): of train, valid and test."""
    columns = np.argsort(-store.tag_counts, kind="stable")[:top]
    tagged = store.labels[:, columns].any(axis=1)
    counts = {}
    for name, split in store.splits.items():
        counted = tagged | (not split.drop_untagged)
        part_of = np.array(split.parts, dtype=object)
        counts[name] = [int(np.sum(counted & (part_of == part))) for part in PARTS]
    return counts


def info(store_path: str | Path, split: str, top: int | None) -> dict[str, Any]:
    """Count what a store holds under a split and its `top` tags, as plain values.

    Raises `StoreError` for more tags than there are, and as `Store.open` and `Store.select` do.
    """
    store = Store.open(store_path)
    if top is not None and top > len(store.tags):
        raise StoreError(f"top is {top}: store {store.path} has {len(store.tags)} tags")
    selection = store.select(split, top)
    return {
        "name": store.name,
        "clips": len(store.clip_ids),
        "hours": int(store.lengths.sum()) / store.sample_rate / 3600,
        "bytes": sum(file.stat().st_size for file in store.path.iterdir() if file.is_file()),
        "shards": len(store.shards),
        "all_tags": len(store.tags),
        "splits": list(store.splits),
        "split": split,
        "split_hash": selection.split_hash,
        "parts": {
            name: {
                "clips": len(part.clips),
                "segments": len(part.segment_clip),
                "hours": int(store.lengths[part.clips].sum()) / store.sample_rate / 3600,
                "tags": dict(zip(selection.tags, part.labels.sum(axis=0, dtype=int).tolist(), strict=True)),
            }
            for name, part in selection.parts.items()
        },
        "skipped": [dict(clip) for clip in store.skipped],
    }


def render(content: dict[str, Any]) -> Group:
    """Lay out what `info` returns as tables for a terminal, which names of files and tags do not steer."""
    parts: dict[str, dict[str, Any]] = content["parts"]
    sizes = Table()
    for head in (f"split {printable(content['split'])}", *parts, "whole store"):
        sizes.add_column(Text(head))
    sizes.add_row("clips", *(f"{part['clips']:,}" for part in parts.values()), f"{content['clips']:,}")
    sizes.add_row("segments", *(f"{part['segments']:,}" for part in parts.values()), "")
    sizes.add_row("hours", *(f"{part['hours']:.2f}" for part in parts.values()), f"{content['hours']:.2f}")
    count = content["shards"]
    gigabytes = f"{content['bytes'] / 1e9:.2f} GB, {count} shard{'s' if count != 1 else ''}"
    sizes.add_row("on disk", *("" for _ in parts), gigabytes)
    tags = Table("tag", *parts)
    for tag in parts["train"]["tags"]:
        tags.add_row(Text(printable(tag)), *(f"{part['tags'][tag]:,}" for part in parts.values()))
    if not content["skipped"]:
        return Group(sizes, tags)
    skipped = Table(f"skipped ({len(content['skipped'])})", "reason")
    for clip in content["skipped"]:
        skipped.add_row(*(Text(printable(clip[key])) for key in ("path", "reason")))
    return Group(sizes, tags, skipped)


def plot(store_path: str | Path, clip_id: str, out: Path) -> None:
    """Draw waveform and mel spectrogram of a clip to a .png or .svg file.

    Raises `StoreError` for an unknown clip and another kind of file, `PlotsMissingError` without matplotlib.
    """
    if out.suffix.lower() not in PICTURES:
        raise StoreError(f"cannot draw to {out}: allowed are files that end in {' or '.join(PICTURES)}")
    store = Store.open(store_path)
    if clip_id not in store.clip_ids:
        near = difflib.get_close_matches(clip_id, store.clip_ids) or store.clip_ids[:3]
        raise StoreError(
            f"no clip {clip_id!r} in store {store.path}: the nearest of {len(store.clip_ids)} are"
            f" {', '.join(near)}"
        )
    index = store.clip_ids.index(clip_id)
    waveform = torch.from_numpy(store.clip(index)).float() / 32768
    mel = MelSpectrogram(store.sample_rate, n_fft=FFT, hop_length=HOP, n_mels=MELS)
    decibels = AmplitudeToDB(top_db=80)(mel(waveform))  # (mels, frames)
    seconds = len(waveform) / store.sample_rate
    tags = [store.tags[tag] for tag in np.flatnonzero(store.labels[index])]
    parts = [f"{name}: {split.parts[index] or 'left out'}" for name, split in store.splits.items()]

    title = f"clip {clip_id} ({', '.join(parts)})\n{', '.join(tags) or 'no tags'}"
    with pictures(title):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 5), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        above.set_title(title, wrap=True)
        ink = colours("ink")[0]
        above.plot(np.arange(len(waveform)) / store.sample_rate, waveform.numpy(), color=ink, linewidth=0.3)
        above.set_ylabel("amplitude")
        extent = (0, seconds, 0, MELS)
        image = below.imshow(decibels.numpy(), origin="lower", aspect="auto", extent=extent, cmap=ramp())
        below.set_xlabel("seconds")
        below.set_ylabel("mel band")
        figure.colorbar(image, ax=below, label="dB")
        figure.savefig(out)
