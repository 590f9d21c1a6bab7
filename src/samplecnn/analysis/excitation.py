"""Excitations of the SE blocks per tag: section 5 of Kim, Lee and Nam (2018).

    samplecnn excitation RUN

The excitations of a segment are the outputs of the sigmoids in a block's squeeze-and-excitation, one per
channel. A tag's mean excitations are their mean over all segments of all test clips that have the tag. (The
authors' code takes the mean over the clips' means, which is the same where all clips have as many segments,
as in MagnaTagATune.) Sums are taken in float64, the network computes in the precision of its weights.

Figure 3 is `Excitations.deviation`, Table 3 is `Excitations.together`, Figure 2 is drawn by `figures.py`.
"""

import csv
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.model.blocks import SqueezeExcitation
from samplecnn.model.network import SampleCNN

ARRAYS = ("tags", "unused_tags", "segments", "together", "blocks", "data", "split", "split_hash")


class ExcitationError(ValueError):
    """Excitations that cannot be had: what is wrong and what is allowed."""


@dataclass(frozen=True, eq=False)
class Excitations:
    """Mean excitations per tag over the test part of a split.

    Blocks are numbered from 1, as in the paper. A block's channels are those of its squeeze-and-excitation;
    of several in one block, one after the other in the order in which they run.
    """

    tags: tuple[str, ...]  # those with clips in the test part
    unused_tags: tuple[str, ...]  # those without: they have no excitations
    segments: NDArray[np.int64]  # (tags,): segments of clips with the tag
    together: NDArray[np.int64]  # (tags, tags): clips with both tags; the diagonal counts a tag's clips
    per_tag: dict[int, NDArray[np.float64]]  # block -> (tags, channels)
    overall: dict[int, NDArray[np.float64]]  # block -> (channels,): mean over all segments, whatever their tags
    data: str  # name of the store
    split: str
    split_hash: str  # of which clip is in which part

    @property
    def clips(self) -> NDArray[np.int64]:
        """Clips with each tag: `(tags,)`."""
        return self.together.diagonal()

    @property
    def deviation(self) -> dict[int, float]:
        """Standard deviation across the tags of their mean excitations, block -> mean over channels (Figure 3).

        The population's (divided by the number of tags), as in the authors' code.
        """
        return {block: float(means.std(axis=0).mean()) for block, means in self.per_tag.items()}

    def save(self, path: Path) -> None:
        """Write all of it as plain arrays, a whole file or none; `load` reads it again."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in ARRAYS if name != "blocks"}
        arrays |= {name: np.array(arrays[name], dtype=np.str_) for name in ("tags", "unused_tags")}
        arrays["blocks"] = np.array(list(self.per_tag), dtype=np.int64)
        for block, means in self.per_tag.items():
            arrays |= {f"block{block}": means, f"block{block}_overall": self.overall[block]}
        temporary = path.with_name(path.name + ".tmp")
        with temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Excitations":
        """Read what `save` wrote; ExcitationError for any other file."""
        try:
            with np.load(path, allow_pickle=False) as file:
                blocks = [int(block) for block in file["blocks"]]
                loaded = cls(
                    tags=tuple(map(str, file["tags"])),
                    unused_tags=tuple(map(str, file["unused_tags"])),
                    segments=file["segments"],
                    together=file["together"],
                    per_tag={block: file[f"block{block}"] for block in blocks},
                    overall={block: file[f"block{block}_overall"] for block in blocks},
                    **{name: str(file[name]) for name in ("data", "split", "split_hash")},
                )
            tags = len(loaded.tags)
            shapes = [loaded.together.shape == (tags, tags), loaded.segments.shape == (tags,), *(...)]
        except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            raise ExcitationError(f"{path} is not a file of excitations, or is damaged: {error}") from error
        return loaded
