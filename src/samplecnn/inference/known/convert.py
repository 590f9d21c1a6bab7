"""Weights of published networks, as weights of ours: recognised by their names and shapes, checked, renamed.

    model = convert(Path("best_model.pth"))
    network = model.build()

Every weight has to be there and to fit, and nothing else may be there. Two things are not only renamed. The
batch norms of SampleCNNs trained elsewhere have another epsilon: the scale takes up the difference. And the
convolution in front of their last layer hears one step of time: its middle tap is a dense layer.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from samplecnn.inference.known.layouts import LAYOUTS, Layout
from samplecnn.inference.known.torch_file import read_tensors
from samplecnn.model.architecture import SAMPLECNN, build
from samplecnn.model.networks.harmonic import HarmonicSpectrogram
from samplecnn.model.networks.network import Network
from samplecnn.model.networks.spectrogram import LogMel
from samplecnn.runs.description import Description
from samplecnn.runs.errors import RunError
from samplecnn.runs.rules import OF_SAMPLECNN
from samplecnn.runs.weights import require_same_names, require_sound
from samplecnn.text import shown

OUR_EPSILON, THEIR_EPSILON = 1e-3, 1e-5  # of the batch norms: Keras', and PyTorch's
MAX_SIZE = 10_000  # of a layer whose size the file decides
DROPOUT = 0.5  # before the last layer, in training: what they publish does not depend on it


class ConversionError(RunError):
    """A file is of no network that is known, or not a sound one."""


@dataclass(frozen=True)
class Converted:
    """A published network as one of ours."""

    title: str  # what the file was recognised as
    network: str  # SAMPLECNN or a key of NETWORKS
    options: Mapping[str, Any]  # of the network
    weights: Mapping[str, Tensor]  # by their names in it
    outputs: int  # tags; which they are, no file says
    sample_rate: int  # Hz

    @property
    def segment_samples(self) -> int:
        """How many samples it hears at once."""
        return self._without_weights().segment_samples

    def describe(self, tags: Sequence[str], data: str, split: str) -> Description:
        """Return what a bundle says of the network; ``tags`` are as many as it has outputs."""
        return Description(
            **architecture(self.network, self.options, self.sample_rate),
            tags=tuple(tags),
            data=data,
            split=split,
            segment_samples=self.segment_samples,
        )

    def build(self) -> Network:
        """Return the network, in evaluation mode."""
        network = self._without_weights()
        network.load_state_dict(dict(self.weights), assign=True)
        return network.eval()

    def _without_weights(self) -> Network:
        with torch.device("meta"):
            return build(architecture(self.network, self.options, self.sample_rate), self.outputs)


def architecture(network: str, options: Mapping[str, Any], sample_rate: int) -> dict[str, Any]:
    """Return a network as ``samplecnn.model.architecture.build`` takes it."""
    own = {name: value for name, value in options.items() if name not in OF_SAMPLECNN}
    return {
        "model": {"name": network, **own},
        **{name: options.get(name) for name in OF_SAMPLECNN},
        "dropout": DROPOUT,
        "sample_rate": sample_rate,
    }


def convert(path: Path) -> Converted:
    """Return the network in a file of PyTorch's; RunError for any other content."""
    return converted(path, read_tensors(path))


def converted(path: Path, weights: Mapping[str, Tensor]) -> Converted:
    """Return the network of weights that ``read_tensors`` has read from ``path``."""
    layout = recognise(path, weights)
    if f"{layout.last}.weight" not in weights:
        raise ConversionError(
            f"{path} lacks {layout.last}.weight: it is {layout.title} without its last layer"
        )
    sizes = {
        name: outputs_of(path, f"{layer}.weight", weights)
        for name, layer in {"tags": layout.last, **layout.sizes}.items()
    }
    tags = sizes.pop("tags")
    options = {**layout.options, **sizes}
    with torch.device("meta"):
        network = build(architecture(layout.network, options, layout.sample_rate), tags)
    expected = network.state_dict()
    theirs = {name: layout.theirs(name) for name in expected}
    buffers = _spectrogram_buffers(network)
    _require_same_spectrogram(path, weights, buffers)
    own = [name for name in weights if name not in buffers and not _is_copy(layout, name)]
    require_same_names(path, own, theirs.values())
    ours = {
        name: fitted(path, theirs[name], weights[theirs[name]], tensor) for name, tensor in expected.items()
    }
    if layout.network == SAMPLECNN:
        _fold_epsilon(ours)
    return Converted(layout.title, layout.network, options, ours, tags, layout.sample_rate)


def recognise(path: Path, names: Collection[str]) -> Layout:
    """Return which published network has weights of these names; ConversionError, with ``path``, for none."""
    for layout in LAYOUTS:
        if all(sign in names for sign in layout.signs):
            return layout
    some = ", ".join(shown(name) for name in list(names)[:3])
    known = ", ".join(dict.fromkeys(layout.title for layout in LAYOUTS))
    raise ConversionError(f"{path} is of no network that is known (it has {some}, ...). Known are: {known}")


def outputs_of(path: Path, name: str, weights: Mapping[str, Tensor]) -> int:
    """Return the size of a layer by the name of its weight; ConversionError unless it may be one."""
    size = weights[name].shape[0] if name in weights and weights[name].ndim else 0
    if not 1 <= size <= MAX_SIZE:
        raise ConversionError(f"{path} has {size} outputs of {name!r}; allowed are 1 to {MAX_SIZE:,}")
    return size


def _spectrogram_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Return what files hold of the spectrogram, by its name there: it is computed, not learned."""
    mel = getattr(network, "spectrogram", None)
    if isinstance(mel, LogMel):
        return {"spec.spectrogram.window": mel.spectrogram.window, "spec.mel_scale.fb": mel.filters.T}
    if isinstance(mel, HarmonicSpectrogram):
        return {"hstft.spec.window": mel.spectrogram.window}
    return {}


def _require_same_spectrogram(
    path: Path, weights: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
) -> None:
    for name in buffers.keys() & weights.keys():
        found, ours = weights[name], buffers[name]
        if found.numel() and (
            found.shape != ours.shape or not torch.allclose(found.to(ours), ours, atol=1e-3)
        ):
            raise ConversionError(f"{path} was trained on another spectrogram: {name!r} differs from ours")


def _is_copy(layout: Layout, name: str) -> bool:
    return layout.copies is not None and name.startswith(layout.copies)


def fitted(path: Path, name: str, tensor: Tensor, expected: Tensor) -> Tensor:
    """Return a weight in the shape of ours."""
    require_sound(path, name, tensor)
    fitted = tensor
    if tensor.ndim == 3 and expected.ndim == 4:  # a convolution over time alone
        fitted = tensor[:, :, None]
    elif tensor.ndim == 3 and expected.ndim == 2 and tensor.shape[2] in (1, 3):  # hears one step of time
        fitted = tensor[:, :, tensor.shape[2] // 2]
    if fitted.shape != expected.shape or fitted.is_floating_point() != expected.is_floating_point():
        raise ConversionError(
            f"{path} has {name!r} with shape {list(tensor.shape)} and type {tensor.dtype}; "
            f"the network needs {list(expected.shape)} and {expected.dtype}"
        )
    return fitted.contiguous()


def _fold_epsilon(weights: dict[str, Tensor]) -> None:
    """Let batch norms of our epsilon compute what theirs did with another."""
    for name, variance in weights.items():
        if name.endswith(".running_var"):
            scale = name.removesuffix("running_var") + "weight"
            factor = ((variance.double() + OUR_EPSILON) / (variance.double() + THEIR_EPSILON)).sqrt()
            weights[scale] = (weights[scale] * factor).to(variance.dtype)
