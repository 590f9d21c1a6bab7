"""Mean excitations per tag without hooks, batches or sums: what the real ones are compared with."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from samplecnn.analysis.excitation import Excitations
from samplecnn.data.audio import SEGMENT_SAMPLES
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.model.blocks import SE, ReSE1, SqueezeExcitation
from samplecnn.model.network import SampleCNN

Blocks = list[NDArray[np.float64]]  # of the nine blocks, (channels,) each


class Averages(NamedTuple):
    per_tag: Mapping[str, Blocks]  # of the tags that have clips
    overall: Blocks
    segments: Mapping[str, int]


def gates_by_hand(layer: SqueezeExcitation, x: Tensor) -> Tensor:
    """Section 2.1.1 by hand: `(batch, channels, 1, time) -> (batch, channels)`."""
    hidden = torch.relu(x.mean(dim=(2, 3)) @ layer.fc1.weight.T + layer.fc1.bias)
    return 1 / (1 + torch.exp(-(hidden @ layer.fc2.weight.T + layer.fc2.bias)))


def segment_by_hand(model: SampleCNN, segment: NDArray[np.int16]) -> Blocks:
    """Excitations of one segment `(59049,)` in a network in double precision of se or rese1 blocks."""
    x = torch.from_numpy(segment / 32768)[None, None, None, :]
    found = []
    with torch.no_grad():
        x = F.relu(model.stem_bn(model.stem_conv(x)))
        for block in model.blocks:
            assert isinstance(block, SE | ReSE1)
            assert block.se is not None
            inner = block.bn1(block.conv1(x))
            if isinstance(block, SE):
                inner = F.relu(block.pool(inner))
            found.append(gates_by_hand(block.se, inner).numpy()[0])
            x = block(x)
    return found


def averages_by_hand(model: SampleCNN, data: SegmentDataModule) -> Averages:
    """Read one clip after the other and keep all of its segments' excitations."""
    part = data.parts["test"]
    of_tag: dict[str, list[Blocks]] = {}
    everything: list[Blocks] = []
    for clip, labels in zip(part.clips.tolist(), part.labels, strict=True):
        samples = data.store.clip(clip)
        for number in range(max(1, len(samples) // SEGMENT_SAMPLES)):
            segment = np.zeros(SEGMENT_SAMPLES, dtype=np.int16)
            heard = samples[number * SEGMENT_SAMPLES :][:SEGMENT_SAMPLES]
            segment[: len(heard)] = heard
            everything.append(segment_by_hand(model, segment))
            for tag, label in zip(data.tags, labels, strict=True):
                if label:
                    of_tag.setdefault(tag, []).append(everything[-1])

    def mean(found: list[Blocks]) -> Blocks:
        return [np.mean([blocks[place] for blocks in found], axis=0) for place in range(9)]

    per_tag = {tag: mean(found) for tag, found in of_tag.items()}
    return Averages(per_tag, mean(everything), {tag: len(found) for tag, found in of_tag.items()})


def assert_same(got: Excitations, wanted: Averages, tolerance: float) -> None:
    """Compares everything but the counts of clips."""
    assert set(got.counts.tags) == set(wanted.per_tag)
    assert got.blocks == tuple(range(1, 10))
    assert dict(zip(got.counts.tags, got.segments.tolist(), strict=True)) == wanted.segments
    for block in got.blocks:
        np.testing.assert_allclose(got.overall[block], wanted.overall[block - 1], rtol=0, atol=tolerance)
        for tag, means in zip(got.counts.tags, got.per_tag[block], strict=True):
            np.testing.assert_allclose(means, wanted.per_tag[tag][block - 1], rtol=0, atol=tolerance)
