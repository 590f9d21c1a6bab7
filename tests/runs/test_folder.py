"""Reading models: whole ones, damaged ones and hostile ones."""

import pickle
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from inference.models import TAGS, description
from samplecnn.model.architecture import build
from samplecnn.model.blocks import BLOCKS, Basic
from samplecnn.model.network import SampleCNN
from samplecnn.runs.config import config_hash
from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import find_checkpoint, load_model, read_config, unfinished
from samplecnn.runs.results import read_results, versions


def checkpoint(path: Path, told: dict[str, Any], network: nn.Module) -> Path:
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"samplecnn": told, "state_dict": state}, path)
    return path


@pytest.mark.parametrize("multi", [True, False])
@pytest.mark.parametrize("kind", BLOCKS)
def test_what_was_saved_is_what_is_loaded(tmp_path: Path, kind: str, multi: bool) -> None:
    told = description(kind, multi=multi)
    network = build(told, len(TAGS)).eval()
    model = load_model(checkpoint(tmp_path / "a.ckpt", told, network))
    assert model.tags == TAGS
    assert model.sample_rate == 22050
    assert not model.network.training
    x = torch.randn(2, 59049)
    with torch.no_grad():
        torch.testing.assert_close(model.network(x), network(x), rtol=0, atol=0)


def test_a_block_of_one_s_own_is_never_imported(tmp_path: Path) -> None:
    told = description(block={"name": "mine"})
    path = checkpoint(tmp_path / "a.ckpt", told, build(told, 3, {"mine": Basic}))
    with pytest.raises(RunError, match=r"unknown block 'mine'.*passed in by the caller"):
        load_model(path)
    network = load_model(path, {"mine": Basic}).network
    assert isinstance(network, SampleCNN)
    assert isinstance(network.blocks[0], Basic)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Path.touch, (self.path,))  # type: ignore[return-value]


@pytest.mark.parametrize("form", ["torch", "legacy", "pickle"])
def test_a_pickle_is_not_run(tmp_path: Path, form: str) -> None:
    trap = tmp_path / "executed"
    content = {"samplecnn": description(), "state_dict": {}, "trap": Payload(trap)}
    path = tmp_path / "hostile.ckpt"
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(RunError, match=r"hostile\.ckpt is not a checkpoint of samplecnn, or is damaged"):
        load_model(path)
    assert not trap.exists()


def test_damaged_files(tmp_path: Path) -> None:
    told = description()
    whole = checkpoint(tmp_path / "whole.ckpt", told, build(told, 3)).read_bytes()
    for name, content in {
        "empty": b"",
        "text": b"this is not a checkpoint\n",
        "truncated": whole[: len(whole) // 2],
        "noise": np.random.default_rng(0).bytes(5000),
    }.items():
        path = tmp_path / f"{name}.ckpt"
        path.write_bytes(content)
        with pytest.raises(RunError, match=f"{name}.ckpt is not a checkpoint of samplecnn"):
            load_model(path)
    with zipfile.ZipFile(tmp_path / "archive.ckpt", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(RunError, match="not a checkpoint of samplecnn"):
        load_model(tmp_path / "archive.ckpt")


def test_an_onnx_file_is_for_other_programs(tmp_path: Path) -> None:
    (tmp_path / "model_int8.onnx").write_bytes(b"")
    with pytest.raises(RunError, match=r"int8\.onnx is an ONNX file, .* the folder with model\.safetensors"):
        load_model(tmp_path / "model_int8.onnx")


def test_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    torch.save({"state_dict": nn.Linear(2, 2).state_dict()}, tmp_path / "other.ckpt")
    with pytest.raises(RunError, match="does not say what it is of"):
        load_model(tmp_path / "other.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(RunError, match="does not say what it is of"):
        load_model(tmp_path / "list.ckpt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "has format 99; this version reads 1"),
        ({"width": 4}, r"has 'stem_conv.weight' with shape \[3, 1, 1, 3\]; the network needs \[4, 1, 1, 3\]"),
        ({"width": 10**9}, "not a complete model"),  # and takes no memory to find out
        ({"block": {"name": "se", "alpha": 1e6}}, "with shape .*; the network needs"),
        ({"block": {"name": "se", "alpha": -1}}, "alpha must be greater than 0"),
        ({"block": {"name": "basic"}}, "has weights that the network does not have: 'blocks.0.se"),
        ({"block": {"name": "os.system"}}, "unknown block 'os.system'"),
        ({"block": "se"}, "a.ckpt: block='se' must be an object with a name"),
        ({"tags": ["guitar"]}, "with shape .*; the network needs"),
        ({"tags": None}, "tags=None must be a list of 1 to 10,000 different names"),
        ({"width": "wide"}, "a.ckpt: width='wide' must be a whole number of at least 1"),
    ],
)
def test_a_description_that_does_not_fit(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    network = build(description(), 3)
    path = checkpoint(tmp_path / "a.ckpt", description(**changes), network)
    with pytest.raises(RunError, match=message):
        load_model(path)


def test_missing_weights_and_parts(tmp_path: Path) -> None:
    told = description()
    network = build(told, 3)
    state = {f"network.{k}": v for k, v in network.state_dict().items() if "head_fc2" not in k}
    torch.save({"samplecnn": told, "state_dict": state}, tmp_path / "a.ckpt")
    with pytest.raises(RunError, match=r"lacks weights of the network: 'head_fc2"):
        load_model(tmp_path / "a.ckpt")
    torch.save({"samplecnn": told}, tmp_path / "b.ckpt")
    with pytest.raises(RunError, match="state_dict"):
        load_model(tmp_path / "b.ckpt")


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run folder or checkpoint"):
        find_checkpoint(tmp_path / "nothing")
    with pytest.raises(RunError, match=r"no checkpoints/best\.ckpt"):
        find_checkpoint(tmp_path)
    with pytest.raises(RunError, match=r"no config\.yaml"):
        read_config(tmp_path)
    with pytest.raises(RunError, match=r"has not finished \(samplecnn train resume="):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text('{"test": ')
    with pytest.raises(RunError, match=r"is not JSON, or damaged: .*train the run again"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(RunError, match="holds a list"):
        read_results(tmp_path)


def test_a_run_that_has_not_finished_is_said_to_be(tmp_path: Path) -> None:
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    best.parent.mkdir(parents=True)
    best.touch()
    assert unfinished(best) is None  # a checkpoint that lies about
    (tmp_path / "run" / "config.yaml").touch()
    (other := tmp_path / "run" / "models" / "best.ckpt").parent.mkdir()
    other.touch()
    assert unfinished(other) is None  # of whoever else has a config.yaml
    for path in (tmp_path / "run", best):
        assert "run has not finished training: this is its best model so far" in str(unfinished(path))
    (tmp_path / "run" / "results.json").touch()
    assert unfinished(tmp_path / "run") is unfinished(best) is None


def test_config_hash_is_of_what_is_computed() -> None:
    config = {
        "block": {"name": "se", "alpha": 16},
        "seed": 0,
        "data": {"name": "mini", "raw": "x", "root": "y", "catalog": {"raw": "x"}},
        "logger": {"name": "wandb"},
        "trainer": {"max_epochs": 3, "log_every_n_steps": 50},
        "resume": None,
    }
    same = {
        **config,
        "data": {"name": "mini", "raw": "elsewhere", "root": "z", "catalog": {"raw": "elsewhere"}},
        "logger": {"name": "none"},
        "resume": "run",
    }
    assert config_hash(same) == config_hash(config)
    for change in ({"seed": 1}, {"block": {"name": "se", "alpha": 8}}, {"trainer": {"max_epochs": 4}}):
        assert config_hash({**config, **change}) != config_hash(config)
    assert config["logger"] == {"name": "wandb"}  # untouched


def test_versions_name_the_commit() -> None:
    told = versions()
    assert told["torch"] == torch.__version__.partition("+")[0]
    head = ["git", "rev-parse", "HEAD"]
    git = subprocess.run(head, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    if git.returncode == 0:  # not in an unpacked archive
        assert told["commit"].removesuffix("-dirty") == git.stdout[:12]
