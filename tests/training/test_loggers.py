"""What is written down of a run in Weights & Biases."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb

from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import web_page
from samplecnn.training.loggers import _begin


def test_the_page_of_a_run_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B's own part, which needs its server, answers here at once."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    address = "https://wandb.ai/me/samplecnn/runs/abc"
    asked: dict[str, Any] = {}

    def answer(**said: Any) -> SimpleNamespace:
        asked.update(said)
        return SimpleNamespace(url=address)

    monkeypatch.setattr(wandb, "init", answer)
    with pytest.raises(RunError, match="was not recorded by Weights & Biases"):
        web_page(tmp_path)
    _begin(tmp_path, project="samplecnn", entity=None)
    assert web_page(tmp_path) == address
    assert asked["id"] == (tmp_path / "wandb_id.txt").read_text()
