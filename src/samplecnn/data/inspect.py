"""Looking into a prepared store: is it sound, what is in it, what does a clip look like."""

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram
from tqdm import tqdm

from samplecnn.data.catalog import Catalog, CatalogError, Clip
from samplecnn.data.store import LABELS, MANIFEST, Store, StoreError
from samplecnn.style import colours, pictures, ramp
from samplecnn.text import counted, printable, shown

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
        *_check_shards(store, manifest["shards"], progress),
        *_check_spans(store),
        *_check_labels(store),
        *_check_manifest(store),
    ]


def _check_shards(store: Store, shards: list[dict[str, Any]], progress: bool) -> list[str]:
    problems = []
    total = sum(shard["bytes"] for shard in shards)
    with tqdm(total=total, unit="B", unit_scale=True, disable=not progress) as bar:
        for file, shard in zip(store.shards.files, shards, strict=True):
            sha256 = hashlib.sha256()
            with file.open("rb") as opened:
                while chunk := opened.read(CHUNK):
                    sha256.update(chunk)
                    bar.update(len(chunk))
            if (found := sha256.hexdigest()) != (expected := shard.get("sha256")):
                problems.append(f"{file.name} has SHA-256 {found}, {MANIFEST} says {shown(expected)}")
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
    rows = zip(store.clip_ids, store.clip_paths, store.labels, strict=True)
    clips = tuple(Clip(clip_id, path, tuple(np.flatnonzero(row).tolist())) for clip_id, path, row in rows)
    try:
        made = Catalog(store.name, store.path, store.tags, clips, store.splits, {}).fingerprints()
    except CatalogError as error:
        return [f"{MANIFEST}: {error}"]
    # Where clips were skipped, the manifest holds less than the catalogue.
    comparable = ["tags"] if store.skipped else ["tags", "clips", "splits"]
    return [
        f"{MANIFEST}: its {piece} are not those of the catalogue that the store was made from"
        for piece in comparable
        if store.fingerprints.get(piece) != made[piece]
    ]


def info(store: Store, split: str, top: int | None) -> Group:
    """Lay out what a store holds under a split and its `top` tags as tables for a terminal.

    Names of files and tags do not steer it. Raises `StoreError` for more tags than there are, and as
    `Store.select` does.
    """
    if top is not None and top > len(store.tags):
        raise StoreError(f"top is {top}: store {store.path} has {len(store.tags)} tags")
    selection = store.select(split, top)
    parts = selection.parts.values()

    def hours(lengths: np.ndarray) -> str:
        return f"{int(lengths.sum()) / store.sample_rate / 3600:.2f}"

    sizes = Table()
    for head in (f"split {printable(split)}", *selection.parts, "whole store"):
        sizes.add_column(Text(head))
    sizes.add_row("clips", *(f"{len(part.clips):,}" for part in parts), f"{len(store.clip_ids):,}")
    sizes.add_row("segments", *(f"{len(part.segment_clip):,}" for part in parts), "")
    sizes.add_row("hours", *(hours(store.lengths[part.clips]) for part in parts), hours(store.lengths))
    size = sum(file.stat().st_size for file in store.path.iterdir() if file.is_file())
    sizes.add_row(
        "on disk", *("" for _ in parts), f"{size / 1e9:.2f} GB, {counted(len(store.shards), 'shard')}"
    )
    tags = Table("tag", *selection.parts)
    for column, tag in enumerate(selection.tags):
        tags.add_row(Text(printable(tag)), *(f"{part.labels[:, column].sum(dtype=int):,}" for part in parts))
    if not store.skipped:
        return Group(sizes, tags)
    skipped = Table(f"skipped ({len(store.skipped)})", "reason")
    for clip in store.skipped:
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
