"""The ONNX file with its convolutions in 8-bit integers: onnxruntime's static quantisation.

What goes into a convolution is scaled by the range that it has on some music. The first layer stays in float:
eight bits of a waveform are not enough for soft passages. Weights take seven bits of the eight, with which
processors without instructions for this (VNNI) do not overflow.
"""

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from samplecnn.errors import UserError
from samplecnn.inference.onnx_export import INPUT, Music, OnnxFile, save_checked
from samplecnn.runs.bundle import ONNX, ONNX_INT8
from samplecnn.runs.folder import Model

if TYPE_CHECKING:
    import onnx

FEWEST = 20  # segments of music
INT8_TOLERANCE = 2e-2  # on the mean difference from PyTorch's probabilities, on music not calibrated on


def write_int8(model: Model, folder: Path, music: Music) -> OnnxFile:
    """Write ``model_int8.onnx`` beside the ``model.onnx`` of a folder.

    The segments of every other recording calibrate, the rest are what the agreement with PyTorch is measured
    on; of a single recording, its first half and its second. Raises UserError for fewer than 20 segments, and
    where probabilities are off by more than ``INT8_TOLERANCE`` in the mean: no file is left then.
    """
    import onnx

    segments, recordings = music
    if len(segments) < FEWEST:
        raise UserError(f"{len(segments)} segments of music to calibrate on: {FEWEST} or more are needed")
    compared = np.unique(recordings, return_inverse=True)[1] % 2 == 1
    if not compared.any():
        compared = np.arange(len(segments)) >= len(segments) // 2
    graph = quantised(onnx.load(folder / ONNX), segments[~compared])
    return save_checked(graph, model, folder / ONNX_INT8, INT8_TOLERANCE, segments[compared])


def quantised(graph: "onnx.ModelProto", music: NDArray[np.float32]) -> "onnx.ModelProto":
    """Return a copy whose convolutions, but for the first, compute in integers scaled for some music.

    Raises UserError where there is none but the first.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.segments = iter(music)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            segment = next(self.segments, None)
            return None if segment is None else {INPUT: segment[None]}

    first, *others = [node.name for node in graph.graph.node if node.op_type == "Conv"] or [None]
    if not others:
        raise UserError(
            "only convolutions behind the first are computed in 8-bit integers, and this network has none: "
            "export it without --int8"
        )
    quiet = logging.getLogger()
    level = quiet.level
    quiet.setLevel(logging.ERROR)  # it recommends a preparation that these graphs have had
    try:
        with tempfile.TemporaryDirectory() as temporary:
            out = Path(temporary) / ONNX_INT8
            quantize_static(
                graph,
                out,
                Reader(),
                op_types_to_quantize=["Conv", "MaxPool"],
                nodes_to_exclude=[first],
                per_channel=True,
                reduce_range=True,
            )
            made = onnx.load(out)
    finally:
        quiet.setLevel(level)
    made.producer_name, made.producer_version = "samplecnn", ""
    del made.metadata_props[:]
    made.metadata_props.extend(graph.metadata_props)
    return made
