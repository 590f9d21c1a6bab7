"""The ONNX file in 8-bit integers."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from inference.conftest import Exported
from samplecnn.errors import UserError
from samplecnn.inference.onnx_export import outputs
from samplecnn.inference.onnx_int8 import quantised, write_int8
from samplecnn.model.network import SEGMENT_SAMPLES
from samplecnn.runs.bundle import ONNX, ONNX_INT8


def music(count: int = 24) -> NDArray[np.float32]:
    """Noise, each segment of another colour, as loud as the others."""
    rng = np.random.default_rng(0)
    spectra = np.fft.rfft(rng.standard_normal((count, SEGMENT_SAMPLES)))
    slopes = np.linspace(0, 1, count)[:, None]
    coloured = np.fft.irfft(spectra * (1 + np.arange(spectra.shape[1])) ** -slopes, SEGMENT_SAMPLES)
    return (0.1 * coloured / coloured.std(axis=1, keepdims=True)).astype(np.float32)


def copied(exported: Exported, folder: Path) -> Path:
    (folder / ONNX).write_bytes((exported.folder / ONNX).read_bytes())
    return folder


def test_convolutions_in_integers(exported: Exported, tmp_path: Path) -> None:
    """But for the first, which hears the waveform."""
    file = write_int8(exported.model, copied(exported, tmp_path), (music(), np.arange(24)))
    assert file.path == tmp_path / ONNX_INT8
    graph = onnx.load(file.path).graph
    made = {name: node for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    kernels = [made[node.input[1]].op_type if node.input[1] in made else "" for node in convolutions]
    assert kernels == ["", *["DequantizeLinear"] * (len(convolutions) - 1)]
    full = onnx.load(tmp_path / ONNX)
    assert onnx.load(file.path).metadata_props == full.metadata_props


@pytest.mark.parametrize(
    ("recordings", "compared"),
    [
        (np.arange(24), slice(1, None, 2)),
        (np.repeat([3, 7], [16, 8]), slice(16, None)),
        (np.zeros(24, dtype=int), slice(12, None)),  # of a single one, the second half
    ],
)
def test_its_agreement_is_of_music_that_it_was_not_calibrated_on(
    exported: Exported, tmp_path: Path, recordings: NDArray[np.int64], compared: slice
) -> None:
    heard = music()
    file = write_int8(exported.model, copied(exported, tmp_path), (heard, recordings))
    expected = outputs(tmp_path / ONNX, heard[compared])
    off = np.abs(outputs(file.path, heard[compared]) - expected)
    assert expected.std(axis=0).max() > 0.01  # they depend on what is heard
    assert 0 < file.difference == pytest.approx(off.mean(), rel=1e-2)
    assert file.difference <= file.tolerance


def test_a_file_that_is_off_is_not_kept(exported: Exported, tmp_path: Path) -> None:
    """Calibrated on next to silence, louder music is cut off."""
    heard = music()
    heard[::2] *= 1e-4
    heard[1::2] *= 10
    with pytest.raises(UserError, match=r"model_int8\.onnx are off by .* in the mean, more than 2e-02"):
        write_int8(exported.model, copied(exported, tmp_path), (heard, np.arange(24)))
    assert [path.name for path in tmp_path.iterdir()] == [ONNX]


def test_too_little_music(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 segments of music to calibrate on: 20 or more are needed"):
        write_int8(exported.model, copied(exported, tmp_path), (music(3), np.arange(3)))


@pytest.mark.parametrize("convolutions", [0, 1])
def test_without_convolutions_behind_the_first(convolutions: int) -> None:
    nodes = [onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="first")] * convolutions
    graph = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], []))
    with pytest.raises(UserError, match="this network has none: export it without --int8"):
        quantised(graph, music(2))
