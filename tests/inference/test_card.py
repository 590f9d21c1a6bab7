"""The model card: what the Hub reads of it, its code as it stands there, and names that are not markup."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard

import samplecnn
from inference.conftest import Exported
from inference.models import TAGS, description
from samplecnn.inference import card
from samplecnn.inference.bundle import write_bundle
from samplecnn.inference.onnx_export import OnnxFile
from samplecnn.runs.description import Description
from samplecnn.runs.folder import Model
from samplecnn.runs.results import Results

RESULTS = Results.read(
    {
        **{
            "block": "se",
            "multi": True,
            "seed": 0,
            "data": "mini",
            "split": "clean",
            "split_hash": "ab" * 32,
        },
        **{"width": 3, "parameters": 1000, "precision": "32-true", "config_hash": "c"},
        **{"epochs": 12, "train_seconds": 90.0, "hardware": "a processor", "interval": "95 % intervals"},
        "test": {
            **{"roc_auc": 0.91, "roc_auc_interval": [0.9, 0.92], "pr_auc": 0.4, "pr_auc_interval": None},
            "undefined": ["piano"],
            "per_tag": {
                "guitar": {"roc_auc": 0.93, "roc_auc_interval": [0.9, 0.95], "pr_auc": 0.5, "positives": 7},
                "piano": {"roc_auc": None, "roc_auc_interval": None, "pr_auc": None, "positives": 0},
                "solo | loud": {"roc_auc": 0.89, "pr_auc": 0.3, "positives": 3},
            },
        },
    }
)


def made(
    name: str, *, results: Results | None = RESULTS, license_id: str | None = None, **changes: Any
) -> str:
    network = Description.read(description("se", **changes), "made")
    return card.write(network, name, source="trained with samplecnn", results=results, license_id=license_id)


def test_what_the_hub_reads() -> None:
    read: Any = ModelCard(made("my model", license_id="mit")).data
    assert (read.library_name, read.pipeline_tag, read.license) == (
        "samplecnn",
        "audio-classification",
        "mit",
    )
    assert read.model_name == "my model"
    assert [(result.metric_type, result.metric_value) for result in read.eval_results or []] == [
        ("roc_auc", 0.91),
        ("pr_auc", 0.4),
    ]
    (first, _) = read.eval_results or []
    assert (first.dataset_type, first.dataset_split) == ("mini", "test")
    assert first.dataset_name == "samplecnn's built-in set (clean)"
    untested: Any = ModelCard(made("my model", results=None))
    assert untested.data.eval_results is None
    assert "Not tested by this project." in untested.content
    assert "No licence of the weights is stated." in untested.content


def test_the_results() -> None:
    text = made("my model")
    assert "| **mean** | 0.9100 [0.9000, 0.9200] | 0.4000 | |" in text
    assert "| guitar | 0.9300 [0.9000, 0.9500] | 0.5000 | 7 |" in text
    assert "| piano | undefined | undefined | 0 |" in text
    assert text.index("| guitar |") < text.index("| solo \\| loud |") < text.index("| piano |")
    assert "12 epochs in 1.5 minutes" in text


def test_names_are_no_markup() -> None:
    """Neither Markdown nor YAML nor HTML comes out of a file's names."""
    evil = ["[x](javascript:1)", "<script>alert(1)</script>", "a | b | c"]
    name = 'x"\n---\nlicense: evil\n# big'
    text = made(name, results=None, tags=evil, split=name, data="a: b")
    read: Any = ModelCard(text).data
    assert read.license is None
    assert text.count("\n---\n") == 1
    assert "<script" not in text
    assert "](javascript" not in text
    assert "\n# big" not in text
    assert r"a \| b \| c" in text


def code_of(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("seconds", [1.0, 2.7, 7.5])
def test_the_code_on_the_card_runs(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Both pieces, in the bundle's folder, for recordings shorter and longer than a segment."""

    def copied(_: Model, folder: Path) -> list[OnnxFile]:
        for file in exported.files:
            shutil.copyfile(file.path, folder / file.path.name)
        return exported.files

    write_bundle(exported.model, tmp_path / "bundle", source="made for a test", onnx=copied)
    text = (tmp_path / "bundle" / "README.md").read_text()
    for file in exported.files:
        assert f"| `{file.path.name}` | 18 | {file.bytes:,} |" in text
    monkeypatch.chdir(tmp_path / "bundle")
    waveform = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * 22050)).astype(np.float32)
    with_samplecnn, with_onnx = code_of(text)
    namespaces: list[dict[str, Any]] = [{"waveform": waveform, "sample_rate": 22050} for _ in range(2)]
    for code, names in zip((with_samplecnn, with_onnx), namespaces, strict=True):
        exec(code, names)
    expected = samplecnn.load(".", precision="32").predict(waveform, 22050)
    np.testing.assert_allclose(namespaces[1]["probabilities"], expected, atol=1e-4, rtol=0)
    np.testing.assert_allclose(namespaces[0]["probabilities"], expected, atol=1e-2, rtol=0)
    assert tuple(namespaces[1]["tags"]) == namespaces[0]["tagger"].tags


def test_tags_are_listed() -> None:
    assert f"Tags: {TAGS[0]}, {TAGS[1]}, solo \\| loud." in made("x")
