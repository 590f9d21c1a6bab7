"""Weights of published networks, as weights of ours: recognised by their names and shapes, checked, renamed.

    network = convert(Path("best_model.pth")).network

Every weight has to be there and to fit, and nothing else may be there. Two things are not only renamed. The
batch norms of SampleCNNs trained elsewhere have another epsilon: the scale takes up the difference. And the
convolution in front of their last layer hears one step of time: its middle tap is a dense layer.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
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
from samplecnn.runs.folder import Model
from samplecnn.runs.rules import OF_SAMPLECNN
from samplecnn.runs.weights import require_same_names, require_sound
from samplecnn.text import shown

OUR_EPSILON, THEIR_EPSILON = 1e-3, 1e-5  # of the batch norms: Keras', and PyTorch's
MAX_SIZE = 10_000  # of a layer whose size the file decides
# What Keras calls a weight, by our name.
KERAS_LAYER = {"weight": "kernel", "bias": "bias"}
KERAS_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
DROPOUT = 0.5  # before the last layer, in training: what they publish does not depend on it


@dataclass(frozen=True)
class Converted:
    """A published network as one of ours."""

    title: str  # what the file was recognised as
    architecture: Mapping[str, Any]  # as ``samplecnn.model.architecture.build`` takes it
    network: Network  # with its weights, in evaluation mode; what its outputs are, no file says

    def model(self, path: Path, tags: Sequence[str], data: str, split: str) -> Model:
        """Return it as a model; ``tags`` are as many as it has outputs."""
        description = Description(
            **self.architecture,
            tags=tuple(tags),
            data=data,
            split=split,
            segment_samples=self.network.segment_samples,
        )
        return Model(self.network.float(), description, path)


def architecture(network: str, options: Mapping[str, Any], sample_rate: int) -> dict[str, Any]:
    """Return a network as ``samplecnn.model.architecture.build`` takes it."""
    own = {name: value for name, value in options.items() if name not in OF_SAMPLECNN}
    return {
        "model": {"name": network, **own},
        **{name: options.get(name) for name in OF_SAMPLECNN},
        "dropout": DROPOUT,
        "sample_rate": sample_rate,
    }


def without_weights(architecture: Mapping[str, Any], outputs: int) -> Network:
    """Return a network to be filled, on the meta device: nothing is allocated."""
    with torch.device("meta"):
        return build(architecture, outputs)


def convert(path: Path) -> Converted:
    """Return the network in a file of PyTorch's; RunError for any other content."""
    return converted(path, read_tensors(path))


def converted(path: Path, weights: Mapping[str, Tensor]) -> Converted:
    """Return the network of weights that ``read_tensors`` has read from ``path``."""
    layout = recognise(path, weights)
    if f"{layout.last}.weight" not in weights:
        raise RunError(f"{path} lacks {layout.last}.weight: it is {layout.title} without its last layer")
    outputs = outputs_of(path, f"{layout.last}.weight", weights)
    sizes = {name: outputs_of(path, f"{layer}.weight", weights) for name, layer in layout.sizes.items()}
    described = architecture(layout.network, {**layout.options, **sizes}, layout.sample_rate)
    network = without_weights(described, outputs)
    buffers = _spectrogram_buffers(network)
    _require_same_spectrogram(path, weights, buffers)
    own = {
        name: weight
        for name, weight in weights.items()
        if name not in buffers and not (layout.copies and name.startswith(layout.copies))
    }
    ours = renamed(path, own, network, layout.theirs)
    if layout.network == SAMPLECNN:
        _fold_epsilon(ours)
    network.load_state_dict(ours, assign=True)
    return Converted(layout.title, described, network.eval())


def recognise(path: Path, names: Collection[str]) -> Layout:
    """Return which published network has weights of these names; RunError, with ``path``, for none."""
    for layout in LAYOUTS:
        if all(sign in names for sign in layout.signs):
            return layout
    some = ", ".join(shown(name) for name in list(names)[:3])
    known = ", ".join(dict.fromkeys(layout.title for layout in LAYOUTS))
    raise RunError(f"{path} is of no network that is known (it has {some}, ...). Known are: {known}")


def outputs_of(path: Path, name: str, weights: Mapping[str, Tensor]) -> int:
    """Return the size of a layer by the name of its weight; RunError unless it may be one."""
    size = weights[name].shape[0] if name in weights and weights[name].ndim else 0
    if not 1 <= size <= MAX_SIZE:
        raise RunError(f"{path} has {size} outputs of {name!r}; allowed are 1 to {MAX_SIZE:,}")
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
            raise RunError(f"{path} was trained on another spectrogram: {name!r} differs from ours")


def renamed(
    path: Path, found: Mapping[str, Tensor], network: Network, theirs: Callable[[str], str | None]
) -> dict[str, Tensor]:
    """Return the weights ``found`` in a file by their names in the network, and in its shapes.

    ``theirs`` returns what a weight of the network is called in the file; None stands for a count of batches
    that the file does not have. Raises RunError for a weight that is missing, does not fit or is one more,
    and for one that no trained network has.
    """
    expected = network.state_dict()
    names = {name: theirs(name) for name in expected}
    require_same_names(path, found, [name for name in names.values() if name is not None])
    return {
        name: torch.tensor(0) if there is None else _fitted(path, there, found[there], expected[name])
        for name, there in names.items()
    }


def transposed(kernel: Tensor) -> Tensor:
    """Return a kernel of TensorFlow's as PyTorch has it: (..., in, out) becomes (out, in, ...)."""
    return kernel.permute(*reversed(range(kernel.ndim)))


def _fitted(path: Path, name: str, tensor: Tensor, expected: Tensor) -> Tensor:
    """Return a weight in the shape of ours."""
    require_sound(path, name, tensor)
    fitted = tensor
    if tensor.ndim == 3 and expected.ndim == 4:  # a convolution over time alone
        fitted = tensor[:, :, None]
    elif tensor.ndim == 3 and expected.ndim == 2 and tensor.shape[2] in (1, 3):  # hears one step of time
        fitted = tensor[:, :, tensor.shape[2] // 2]
    if fitted.shape != expected.shape or fitted.is_floating_point() != expected.is_floating_point():
        raise RunError(
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
