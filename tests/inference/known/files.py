"""Files of published networks with random weights, by their authors' names."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from samplecnn.inference.known import keras_hdf5
from samplecnn.inference.known.catalog import KNOWN, Known
from samplecnn.inference.known.convert import Converted
from samplecnn.inference.known.keras import recognised
from samplecnn.inference.known.layouts import LAYOUTS
from samplecnn.model.networks import NETWORKS

SHARED = Path(__file__).parents[4] / "shared"
BASELINES = SHARED / "baselines"
CLIP = SHARED / "mtat/joram-moments_of_clarity-08-solipsism-59-88.mp3"


def weights(network: str, tags: int = 50) -> dict[str, Tensor]:
    """Weights of a network whose convolutions all have two dimensions, as the file has them."""
    torch.manual_seed(0)
    ours = NETWORKS[network](tags=tags).state_dict()
    [layout] = [layout for layout in LAYOUTS if layout.network == network]
    return {layout.theirs(name): weight for name, weight in ours.items()}


def keras_here(path: Path) -> Converted:
    """The network in a file of Keras, read in this process, which saves the start of another."""
    arrays, metadata = keras_hdf5.read(str(path))
    return recognised(path, {name: torch.from_numpy(array) for name, array in arrays.items()}, metadata)


def file_of(content: Any) -> bytes:
    """What ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def at(url: str, name: str = "mtat-fcn", **changes: Any) -> Known:
    """Published weights at another address, without a checksum unless it is given."""
    return replace(KNOWN[name], url=url, **{"bytes": None, "git_blob": None, **changes})
