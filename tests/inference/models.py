"""Small networks with statistics as if trained, and the files that they are kept in."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from golden.reference import narrow
from samplecnn.model.architecture import build
from samplecnn.model.network import SampleCNN
from samplecnn.model.norm import BatchNorm
from samplecnn.runs.bundle import CONFIG, WEIGHTS
from samplecnn.runs.folder import Model, load_model

TAGS = ("guitar", "piano", "solo | loud")


def description(kind: str = "se", **changes: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "block": {"name": kind, **narrow(kind)},
        "multi": True,
        "width": 3,
        "dropout": 0.5,
        "tags": list(TAGS),
        "sample_rate": 22050,
        "data": "mini",
        "split": "clean",
        "split_hash": "ab" * 32,
        **changes,
    }


def network(told: dict[str, Any], seed: int = 0, **blocks: type[nn.Module]) -> SampleCNN:
    """A network with weights and statistics as after training: what it says depends on what it hears."""
    generator = torch.Generator().manual_seed(seed)
    made = build(told, len(told["tags"]), blocks).eval()
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, BatchNorm):
                module.weight.uniform_(-1.0, 1.5, generator=generator)
                module.bias.uniform_(-0.5, 0.5, generator=generator)
                module.register_forward_pre_hook(_take_statistics)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)
                assert module.bias is not None
                module.bias.normal_(0, 0.1, generator=generator)
        made(noise())
    for module in made.modules():
        module._forward_pre_hooks.clear()
    assert isinstance(made, SampleCNN)
    return made


def _take_statistics(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    assert isinstance(norm, BatchNorm)
    channels = inputs[0].transpose(0, 1).flatten(1)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(channels.mean(dim=1))
    norm.running_var.copy_(channels.var(dim=1).clamp(min=1e-3))


def checkpoint(path: Path, kind: str = "se", **changes: Any) -> Path:
    told = description(kind, **changes)
    state = {f"network.{name}": tensor for name, tensor in network(told).state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"samplecnn": told, "state_dict": state}, path)
    return path


def model(tmp_path: Path, kind: str = "se", **changes: Any) -> Model:
    return load_model(checkpoint(tmp_path / "made.ckpt", kind, **changes))


def noise(segments: int = 3) -> Tensor:
    """Segments of different loudness and colour."""
    white = torch.randn(segments, 59049, generator=torch.Generator().manual_seed(1))
    return torch.stack([(0.3 / (i + 1)) * row.roll(i) + 0.1 * i * row for i, row in enumerate(white)])


def rewrite(folder: Path, **changes: Any) -> None:
    """Change keys of a bundle's config.json; ``model__width=5`` reaches into an object, ... removes a key."""
    told = json.loads((folder / CONFIG).read_text())
    for key, value in changes.items():
        *parents, name = key.split("__")
        node = told
        for parent in parents:
            node = node[parent]
        if value is ...:
            del node[name]
        else:
            node[name] = value
    (folder / CONFIG).write_text(json.dumps(told))


def put_weights(folder: Path, data: bytes) -> None:
    """Put other bytes in the place of a bundle's weights, and say so in its config.json."""
    (folder / WEIGHTS).write_bytes(data)
    rewrite(folder, weights__sha256=hashlib.sha256(data).hexdigest())


def with_table(data: bytes, table: bytes) -> bytes:
    """Give a safetensors file another table."""
    (length,) = struct.unpack("<Q", data[:8])
    return struct.pack("<Q", len(table)) + table + data[8 + length :]


def table_of(data: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", data[:8])
    table: dict[str, Any] = json.loads(data[8 : 8 + length])
    return table


def encode(weights: dict[str, Tensor]) -> bytes:
    return save({name: tensor.contiguous() for name, tensor in weights.items()})
