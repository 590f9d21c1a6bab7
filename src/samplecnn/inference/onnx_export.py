"""A network as an ONNX file: waveforms (batch, samples) to probabilities (batch, tags), any batch.

Batch norms are folded into the layers in front of them. What is written is run in onnxruntime and compared
with PyTorch before it is called done. How a recording is cut and averaged stands in the file's metadata
(`framing`).
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samplecnn.data.audio import SEGMENT_SAMPLES
from samplecnn.errors import UserError, require_libraries
from samplecnn.model.backends.fold import fold
from samplecnn.model.network import PLAIN, sample_cnns, use
from samplecnn.runs.bundle import ONNX, ONNX_HALF, ONNX_INT8
from samplecnn.runs.folder import Model

if TYPE_CHECKING:
    import onnx

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")  # of the extra "onnx"
OPSET = 18
IR_VERSION = 8  # what came with opset 18: runtimes since 2023 read it
MAX_BYTES = 2 << 30  # of one protocol buffer
TOLERANCE = 1e-4  # on probabilities of the probes, against PyTorch in single precision
# In decibels the quietest bins of a spectrogram are rounding errors, which are others in another library.
SPECTROGRAM_TOLERANCE = 5e-3
# With weights in half precision, on the probes. Trained networks of width 32 were off by 0.001 there and on
# music; one of random weights by 0.02 on noise.
HALF_TOLERANCE = 1e-2
OTHERWISE = {  # what to do where a file is off by too much
    ONNX_HALF: " (export without the half-size file)",
    ONNX_INT8: " (export without it, or calibrate on other music)",
}
BATCH = 10  # segments at once, where a file is compared
INPUT, OUTPUT = "waveforms", "probabilities"
Music = tuple[NDArray[np.float32], NDArray[np.int64]]  # segments (n, samples), the recording of each (n,)
AVERAGING = "The probability of a tag for a recording is the mean over its segments."


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file that has been compared with PyTorch."""

    path: Path
    opset: int
    bytes: int
    difference: float  # between probabilities in onnxruntime and in PyTorch
    tolerance: float  # what it may be
    agreement: str  # what the difference is: "within", the largest one, or "in the mean within"


def framing(samples: int) -> str:
    """Say how a recording is cut for a network that hears so many samples at once."""
    return (
        "Mix to mono, resample, samples as float32 in [-1, 1] (16-bit ones divided by 32768). Cut into "
        f"segments of {samples} samples, one after the other; leave out the end that fills none; fill a "
        "recording shorter than one with zeros at its end."
    )


def write_onnx(
    model: Model, folder: Path, *, half: bool = False, music: Music | None = None
) -> list[OnnxFile]:
    """Write ``model.onnx`` into ``folder``; with ``half`` also ``model_fp16.onnx``, with ``music`` a third.

    ``model_fp16.onnx`` keeps its weights in half precision and computes in single, on any runtime: half the
    size. ``model_int8.onnx`` is that of `onnx_int8.py`, which is calibrated on the music.
    Raises UserError where a library is missing, the file would be too large, or the probabilities are off by
    more than they may be: no file is left then.
    """
    require_libraries("onnx", *LIBRARIES)
    size = 4 * sum(tensor.numel() for tensor in model.network.parameters())
    if size > MAX_BYTES:
        raise UserError(f"the weights are {size:,} bytes; an ONNX file holds up to {MAX_BYTES:,}")
    graph = _graph(model)
    tolerance = TOLERANCE if sample_cnns(model.network) else SPECTROGRAM_TOLERANCE
    written = [save_checked(graph, model, folder / ONNX, tolerance)]
    if half:
        written.append(save_checked(halved(graph), model, folder / ONNX_HALF, HALF_TOLERANCE))
    if music is not None:
        from samplecnn.inference.onnx_int8 import write_int8

        written.append(write_int8(model, folder, music))
    return written


class _Probabilities(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, waveforms: Tensor) -> Tensor:
        """``(batch, samples) -> (batch, tags)``."""
        return self.network(waveforms).sigmoid()


def _graph(model: Model) -> "onnx.ModelProto":
    """Return the network as ONNX, free of what the exporter notes of this machine."""
    network = fold(model.network)
    use(network, PLAIN)
    example = torch.zeros(2, model.segment_samples)
    with _quiet():
        try:
            program = torch.onnx.export(
                _Probabilities(network).eval(),
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().partition("\n")[0]
            raise UserError(f"{network.title} cannot be exported to ONNX: {reason}") from error
    assert program is not None
    graph = program.model_proto
    # Source lines with their paths, shapes of everything in between.
    for noted in (*graph.graph.node, *graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        del noted.metadata_props[:]
    del graph.graph.metadata_props[:]
    del graph.graph.value_info[:]
    graph.ir_version = IR_VERSION
    graph.producer_name, graph.producer_version = "samplecnn", ""
    for key, value in metadata(model).items():
        graph.metadata_props.add(key=key, value=value)
    return graph


def metadata(model: Model) -> dict[str, str]:
    """Return what a program has to know to use the file: texts by name, ``tags`` a JSON list."""
    return {
        "tags": json.dumps(model.tags, ensure_ascii=False),
        "sample_rate": str(model.sample_rate),
        "segment_samples": str(model.segment_samples),
        "framing": framing(model.segment_samples),
        "averaging": AVERAGING,
    }


def halved(graph: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return a copy whose matrices and kernels are in half precision, each cast back before its use.

    Raises UserError for weights beyond 65,504.
    """
    import onnx
    from onnx import numpy_helper

    halved = onnx.ModelProto()
    halved.CopyFrom(graph)
    casts = []
    for weight in halved.graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or len(weight.dims) < 2:
            continue
        name, values = weight.name, numpy_helper.to_array(weight)
        if np.abs(values).max() > np.finfo(np.float16).max:
            raise UserError(f"{name} has weights that half precision cannot hold")
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *halved.graph.node]
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    return halved


def save_checked(
    graph: "onnx.ModelProto",
    model: Model,
    path: Path,
    tolerance: float,
    music: NDArray[np.float32] | None = None,
) -> OnnxFile:
    """Write a graph, and compare its probabilities with the model's.

    The largest difference on a few sounds has to be within ``tolerance``; with ``music``, segments
    (n, samples), it is the mean difference on these. Raises UserError where it is not, and leaves no file.
    """
    import onnx

    onnx.checker.check_model(graph)
    path.write_bytes(graph.SerializeToString())
    waveforms = probes(model.segment_samples) if music is None else music
    with torch.inference_mode():
        expected = model.network(torch.from_numpy(waveforms)).sigmoid().numpy()
    differences = np.abs(outputs(path, waveforms) - expected)
    if music is None:
        alone = np.abs(outputs(path, waveforms[:1]) - expected[:1])  # a batch of another size
        difference = float(max(differences.max(), alone.max()))
    else:
        difference = float(differences.mean())
    if not difference <= tolerance:
        path.unlink()
        off = f"by up to {difference:.1e}" if music is None else f"by {difference:.1e} in the mean"
        raise UserError(
            f"the probabilities of {path.name} are off {off}, more than {tolerance:.0e}: nothing is written"
            + OTHERWISE.get(path.name, "")
        )
    agreement = "within" if music is None else "in the mean within"
    opset = graph.opset_import[0].version
    return OnnxFile(path, opset, path.stat().st_size, difference, tolerance, agreement)


def outputs(path: Path, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities (batch, tags) that onnxruntime makes of waveforms (batch, samples)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    batches = np.array_split(waveforms, -(-len(waveforms) // BATCH))
    return np.concatenate([session.run([OUTPUT], {INPUT: batch})[0] for batch in batches])


def probes(samples: int = SEGMENT_SAMPLES) -> NDArray[np.float32]:
    """Return segments to compare on, (5, samples): noise loud and soft, a sweep, clicks, silence."""
    noise = np.random.default_rng(0).standard_normal((2, samples)) * [[0.2], [0.01]]
    time = np.arange(samples) / samples
    sweep = np.sin(2 * np.pi * 10_000 * time**2)
    clicks = (np.arange(samples) % 5000 == 0).astype(float)
    return np.stack([*noise.clip(-1, 1), sweep, clicks, np.zeros(samples)]).astype(np.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says of itself."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level, registration.level = registration.level, logging.ERROR  # torchvision is not installed
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)`", FutureWarning)
            warnings.filterwarnings(
                "ignore", "The tensor attributes .* were assigned during export"
            )  # a GRU's
            yield
    finally:
        registration.setLevel(level)
