"""An ONNX export takes seconds: one for all."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from inference.models import description, network
from samplecnn.inference.known.tags import AUTHORS_TAGS
from samplecnn.inference.onnx_export import OnnxFile, write_onnx
from samplecnn.runs.description import Description
from samplecnn.runs.folder import Model


@dataclass(frozen=True)
class Exported:
    model: Model
    folder: Path
    files: list[OnnxFile]  # model.onnx and model_fp16.onnx


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("onnx")
    told = description("se", width=8, tags=list(AUTHORS_TAGS))
    model = Model(network(told), Description.read(told, "made"), Path("made"))
    return Exported(model, folder, write_onnx(model, folder, half=True))
