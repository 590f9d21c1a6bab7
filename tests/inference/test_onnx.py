"""ONNX files in onnxruntime against PyTorch and against the authors' network."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from golden.reference import load, set_weights
from inference.conftest import Exported
from inference.models import description, network, noise
from samplecnn.errors import UserError
from samplecnn.inference.known.tags import AUTHORS_TAGS
from samplecnn.inference.onnx_export import OnnxFile, halved, save_checked, write_onnx
from samplecnn.model.architecture import build
from samplecnn.model.blocks import BLOCKS, Basic
from samplecnn.runs.bundle import ONNX, ONNX_HALF
from samplecnn.runs.description import Description
from samplecnn.runs.folder import Model


def run(path: Path, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probabilities"], {"waveforms": waveforms})[0])


def in_pytorch(model: Model, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return model.network(torch.from_numpy(waveforms)).sigmoid().numpy()


def off(file: OnnxFile, model: Model, batch: int) -> float:
    """How far the file is from PyTorch on sounds other than those of its own check."""
    waveforms = noise(5).numpy()
    expected = in_pytorch(model, waveforms)
    assert expected.std(axis=0).max() > 0.01  # they depend on what is heard
    return float(np.abs(run(file.path, waveforms[:batch]) - expected[:batch]).max())


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch(exported: Exported, batch: int) -> None:
    full, half = exported.files
    assert (full.tolerance, half.tolerance) == (1e-4, 1e-2)
    assert full.difference < 1e-5 < half.difference < 1e-2
    assert off(full, exported.model, batch) <= 1e-4
    # Random weights pass rounding on more than trained ones do.
    assert 1e-5 < off(half, exported.model, batch) < 5e-2


def test_what_is_in_the_files(exported: Exported) -> None:
    full, half = exported.files
    assert (full.path.name, half.path.name) == (ONNX, ONNX_HALF)
    for file in exported.files:
        assert file.path.stat().st_size == file.bytes
        graph = onnx.load(file.path)
        onnx.checker.check_model(graph, full_check=True)
        assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 18)]
        assert (file.opset, graph.ir_version) == (18, 8)
        told = {entry.key: entry.value for entry in graph.metadata_props}
        assert tuple(json.loads(told["tags"])) == exported.model.tags
        assert (told["sample_rate"], told["segment_samples"]) == ("22050", "59049")
        assert "mean over its segments" in told["averaging"]
        assert "divided by 32768" in told["framing"]
        # Nothing of the machine that exported it.
        assert not any(text in file.path.read_bytes() for text in (b"site-packages", b"samplecnn/", b".py"))
        operations = {node.op_type for node in graph.graph.node}
        assert "BatchNormalization" not in operations
        assert ("Cast" in operations) == (file is half)
    assert half.bytes < 0.6 * full.bytes


def test_weights_that_half_precision_cannot_hold(exported: Exported) -> None:
    graph = onnx.load(exported.files[0].path)
    weight = next(w for w in graph.graph.initializer if len(w.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1e6, weight.name))
    with pytest.raises(UserError, match="weights that half precision cannot hold"):
        halved(graph)


def test_a_file_that_is_off_is_not_kept(exported: Exported, tmp_path: Path) -> None:
    graph = onnx.load(exported.files[0].path)
    weight = next(w for w in graph.graph.initializer if len(w.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    with pytest.raises(UserError, match=r"probabilities of a\.onnx are off by up to .*, more than 1e-04"):
        save_checked(graph, exported.model, tmp_path / "a.onnx", 1e-4)
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_is_missing(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r'onnxscript is not installed: pip install "samplecnn\[onnx\]"'):
        write_onnx(exported.model, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("levels", ["multi", "nomulti"])
@pytest.mark.parametrize("kind", BLOCKS)
def test_every_architecture(tmp_path: Path, kind: str, levels: str) -> None:
    """The networks of the authors."""
    told = description(kind, multi=levels == "multi", width=8, tags=list(AUTHORS_TAGS))
    made, arrays = build(told, 50), load(f"net_{kind}_{levels}")
    set_weights(made, arrays)
    model = Model(made.eval(), Description.read(told, "made"), Path("golden"))
    (file,) = write_onnx(model, tmp_path)
    assert off(file, model, 5) <= 1e-4
    np.testing.assert_allclose(run(file.path, load("waveform")["x"]), arrays["output"], atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["se", "rese2"])
def test_full_size(tmp_path: Path, kind: str) -> None:
    told = description(kind, block={"name": kind, "alpha": 16}, width=128)
    model = Model(network(told), Description.read(told, "made"), Path("made"))
    full, half = write_onnx(model, tmp_path, half=True)
    assert off(full, model, 5) <= 1e-4
    assert off(half, model, 5) <= 5e-2
    parameters = sum(tensor.numel() for tensor in model.network.parameters())
    assert full.bytes == pytest.approx(4 * parameters, rel=0.01)
    assert half.bytes == pytest.approx(2 * parameters, rel=0.01)


class Average(Basic):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.pool: Any = nn.AvgPool2d((1, 3))


@pytest.mark.slow
def test_a_block_of_one_s_own(tmp_path: Path) -> None:
    told = description(block={"name": "average"})
    model = Model(network(told, average=Average), Description.read(told, "made"), Path("made"))
    (file,) = write_onnx(model, tmp_path)
    assert off(file, model, 5) <= 1e-4
