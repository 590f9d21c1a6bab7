"""What a model of one's own can do, published ones can: the page, and ONNX."""

import json
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pytest
import torch

import samplecnn
from inference.known.files import BASELINES, CLIP
from inference.page.conftest import serving
from samplecnn.data import audio
from samplecnn.inference.bundle import write_bundle
from samplecnn.inference.known.importing import import_file
from samplecnn.inference.onnx_export import write_onnx

pytestmark = pytest.mark.skipif(
    not BASELINES.exists(), reason="published weights (shared/baselines) are not beside this checkout"
)
NAMES = ("fcn", "crnn", "musicnn")


def test_side_by_side_on_the_page(tmp_path: Path) -> None:
    models = {}
    for name in NAMES:
        imported = import_file(BASELINES / f"mtat_{name}.pth")
        write_bundle(imported.model, tmp_path / name, source=imported.source)
        models[name] = samplecnn.load(tmp_path / name, precision="32")
    with serving(models) as server, httpx.Client(base_url=server.url, timeout=300, trust_env=False) as client:
        sound = client.post("/api/sounds", content=CLIP.read_bytes()).json()["id"]
        for name, tagger in models.items():
            answer = client.get(f"/api/sounds/{sound}/tags", params={"model": name})
            lines = [json.loads(line) for line in answer.text.splitlines()]
            shown = [row for line in lines for row in line.get("probabilities", ())]
            expected = tagger.timeline(CLIP).probabilities
            np.testing.assert_allclose(shown, expected, rtol=0, atol=1e-3)  # rounded to be sent


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_onnx(name: str, tmp_path: Path) -> None:
    model = import_file(BASELINES / f"mtat_{name}.pth").model
    write_onnx(model, tmp_path)
    clip = audio.load(CLIP, rate=16_000)[: model.segment_samples][None]
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    (got,) = session.run(None, {session.get_inputs()[0].name: clip})
    with torch.no_grad():
        expected = model.network(torch.from_numpy(clip)).sigmoid()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
