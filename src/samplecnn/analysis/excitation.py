"""Excitations of the SE blocks per tag: section 5 of Kim, Lee and Nam (2018).

    samplecnn excitation RUN

A tag's mean excitations are those of a segment (`samplecnn.model.excitation`), averaged over all segments of
all test clips that have the tag. (The authors' code takes the mean of the clips' means, which is the same
where all clips have as many segments, as in MagnaTagATune.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from samplecnn import files
from samplecnn.analysis.cooccurrence import TagCounts
from samplecnn.analysis.tabular import write_csv
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.model.excitation import ExcitationError, se_layers, segment_excitations
from samplecnn.model.networks.network import Network
from samplecnn.runs.untrusted import read_arrays
from samplecnn.text import csv_text


@dataclass(frozen=True, eq=False)
class Excitations:
    """Mean excitations per tag over the test part of a split.

    The channels of a block are those of its squeeze-and-excitation; where a block has several, those of one
    after those of the other, in the order in which they run.
    """

    counts: TagCounts
    segments: NDArray[np.int64]  # (tags,): segments of the clips with the tag, over which its mean is taken
    per_tag: dict[int, NDArray[np.float64]]  # block -> (tags, channels)
    overall: dict[int, NDArray[np.float64]]  # block -> (channels,): mean over all segments, tagged or not
    data: str  # name of the data set
    split: str
    split_hash: str  # of which clip is in which part

    @property
    def blocks(self) -> tuple[int, ...]:
        """The blocks with squeeze-and-excitation."""
        return tuple(self.per_tag)

    @property
    def deviation(self) -> dict[int, float]:
        """Standard deviation across the tags, mean over the channels: block -> value (Figure 3).

        Of each channel, the root of the mean squared distance of the tags' mean excitations from their own
        mean (divided by the number of tags, not by one less), as in the authors' code.
        """
        return {block: float(means.std(axis=0).mean()) for block, means in self.per_tag.items()}

    def save(self, path: Path) -> None:
        """Write everything as plain arrays, a whole file or none."""
        arrays: dict[str, Any] = {
            "tags": np.array(self.counts.tags, dtype=np.str_),
            "unused_tags": np.array(self.counts.unused, dtype=np.str_),
            "together": self.counts.together,
            "segments": self.segments,
            "blocks": np.array(self.blocks, dtype=np.int64),
            "deviation": np.array(list(self.deviation.values())),
            "data": self.data,
            "split": self.split,
            "split_hash": self.split_hash,
        }
        for block, means in self.per_tag.items():
            arrays |= {f"block{block}": means, f"block{block}_overall": self.overall[block]}
        with files.writing(path) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Excitations":
        """Read what `save` wrote; ExcitationError for any other file."""
        try:
            file = read_arrays(path)
            tags, unused = (tuple(map(str, file[name])) for name in ("tags", "unused_tags"))
            blocks = [int(block) for block in file["blocks"]]
            read = cls(
                TagCounts(tags, unused, file["together"].astype(np.int64)),
                file["segments"].astype(np.int64),
                {block: file[f"block{block}"].astype(np.float64) for block in blocks},
                {block: file[f"block{block}_overall"].astype(np.float64) for block in blocks},
                *(str(file[name]) for name in ("data", "split", "split_hash")),
            )
            read._check()
        except Exception as error:  # NumPy has no common class for what a damaged file does to it
            raise ExcitationError(f"{path} is not a file of excitations, or is damaged: {error}") from error
        return read

    def _check(self) -> None:
        tags = len(self.counts.tags)
        if not tags or not self.blocks:
            raise ValueError(f"it has {tags} tags and {len(self.blocks)} blocks")
        if self.counts.together.shape != (tags, tags) or self.segments.shape != (tags,):
            raise ValueError(f"its counts are not those of {tags} tags")
        for block, means in self.per_tag.items():
            if means.shape != (tags, *self.overall[block].shape) or means.ndim != 2 or means.size == 0:
                raise ValueError(f"block {block} has excitations of shape {means.shape} for {tags} tags")
            if not (np.isfinite(means).all() and np.isfinite(self.overall[block]).all()):
                raise ValueError(f"block {block} has excitations that are not finite")


def choose_blocks(available: Sequence[int], asked: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return the blocks to show: those asked for, or the first, middle and last, as in Figure 2.

    Raises ExcitationError for a block that has no squeeze-and-excitation or does not exist.
    """
    if asked is None:
        asked = (available[0], available[(len(available) - 1) // 2], available[-1])
    for block in asked:
        if block not in available:
            raise ExcitationError(
                f"no excitations of block {block}: allowed are {', '.join(map(str, available))}"
            )
    return tuple(dict.fromkeys(asked))


def excitations(network: Network, data: SegmentDataModule) -> Excitations:
    """Average the excitations of every SE block per tag, in one pass over the test part of `data`.

    The network computes where its weights are and in their precision; sums are kept in float64, so that
    memory does not grow with the data. Raises ExcitationError as `segment_excitations`, and for a network
    that gives no finite excitations.
    """
    layers = se_layers(network)
    counts = TagCounts.of(data.tags, data.parts["test"].labels)
    used = torch.tensor([data.tags.index(tag) for tag in counts.tags])
    weight = next(network.parameters())
    widths: list[int] = []
    sums = segments = torch.zeros((), dtype=torch.float64)  # (1 + tags, all blocks' channels), (1 + tags,)
    batches = tqdm(data.test_dataloader(), "excitations", unit="batch", disable=None)
    for loaded in batches:
        batch = data.on_after_batch_transfer(data.transfer_batch_to_device(loaded, weight.device, 0), 0)
        seen = segment_excitations(network, batch.waveforms.to(weight.dtype))
        widths = [gates.shape[1] for gates in seen.values()]
        values = torch.cat(list(seen.values()), dim=1).cpu().double()
        # Which segments each mean is taken over: all, and those of each tag.
        members = torch.cat([torch.ones(len(values), 1), loaded.labels.cpu()[:, used]], dim=1).double()
        sums = sums + members.T @ values
        segments = segments + members.sum(dim=0)
    if not sums.isfinite().all():
        raise ExcitationError("the network gives excitations that are not finite: its training diverged")
    means = [block.numpy() for block in (sums / segments[:, None]).split(widths, dim=1)]
    selection = data.selection
    return Excitations(
        counts,
        segments[1:].long().numpy(),
        {block: values[1:] for block, values in zip(layers, means, strict=True)},
        {block: values[0] for block, values in zip(layers, means, strict=True)},
        data.store.name,
        selection.split,
        selection.split_hash,
    )


def write_tables(excited: Excitations, tags: Sequence[str], folder: Path) -> list[Path]:
    """Write what the figures and Table 3 show as CSV into ``folder``; return the files.

    excitation.csv: block, channel (from 0), mean over all segments, mean per tag. deviation.csv: block,
    channels, standard deviation across tags. cooccurrence.csv: clips with the chosen tags together.
    """
    paths = [folder / f"{name}.csv" for name in ("excitation", "deviation", "cooccurrence")]
    header = ("block", "channel", "all segments", *map(csv_text, excited.counts.tags))
    channels = [
        (block, channel, *row)
        for block, overall in excited.overall.items()
        for channel, row in enumerate(np.column_stack([overall, excited.per_tag[block].T]).tolist())
    ]
    write_csv(paths[0], header, channels)
    header = ("block", "channels", "standard deviation")
    write_csv(
        paths[1], header, [(b, excited.overall[b].size, value) for b, value in excited.deviation.items()]
    )
    together = zip(tags, excited.counts.table(tags).tolist(), strict=True)
    write_csv(paths[2], ("tag", *map(csv_text, tags)), [(csv_text(tag), *row) for tag, row in together])
    return paths
