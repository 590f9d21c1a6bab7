"""Checkpoints that claim more than they hold: refused before memory is taken for them."""

import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.models import description, network
from samplecnn.runs.checkpoint import read_checkpoint
from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import load_model

WIDE = 5000  # channels: 0.9 GB of weights


def state(told: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {f"network.{name}": tensor for name, tensor in network(told).state_dict().items()}


def expanded(path: Path) -> None:
    """All shapes as described, every tensor a single number that is repeated."""
    from samplecnn.model.architecture import build

    told = description("basic", width=WIDE)
    with torch.device("meta"):
        shapes = build(told, 3).state_dict()
    tiny = {
        f"network.{name}": torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
        for name, tensor in shapes.items()
    }
    torch.save({"samplecnn": told, "state_dict": tiny}, path)


def compressed(path: Path) -> None:
    """The archive's entries deflated, a thousand zeros to a byte."""
    whole = io.BytesIO()
    torch.save({"samplecnn": description(), "state_dict": {"network.x": torch.zeros(50_000_000)}}, whole)
    with (
        zipfile.ZipFile(whole) as archive,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as small,
    ):
        for entry in archive.infolist():
            small.writestr(entry.filename, archive.read(entry))


def lying(path: Path) -> None:
    """An archive whose table says of an entry that it is larger than the file."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data/0", bytes(1000))
        archive.filelist[0].file_size = archive.filelist[0].compress_size = 3 << 30


def named(what: str, argument: int) -> Callable[[Path], None]:
    """A pickle that asks for ``what(argument)``, which PyTorch itself would call."""
    module, _, name = what.rpartition(".")

    def write(path: Path) -> None:
        call = f"c{module}\n{name}\n".encode() + b"(\x8a\x05" + argument.to_bytes(5, "little") + b"tR"
        data = b"\x80\x02}(X\x09\x00\x00\x00samplecnn}X\x01\x00\x00\x00x" + call + b"u."
        with zipfile.ZipFile(path, "w") as archive:
            for entry, content in (("data.pkl", data), ("version", b"3\n"), ("byteorder", b"little")):
                archive.writestr(f"a/{entry}", content)

    return write


BOMBS = {
    "expanded": (expanded, "claims .* bytes of weights, and has"),
    "compressed": (compressed, "it is compressed"),
    "lying": (lying, "it says to hold more than its size"),
    "bytearray": (named("builtins.bytearray", 3 << 30), "it names builtins.bytearray"),
    "tensor": (named("torch.FloatTensor", 1 << 30), "it names torch.FloatTensor"),
}
CHILD = """
import resource, sys
from samplecnn.runs.folder import load_model
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        load_model(path)
    except Exception as error:
        print(type(error).__name__, error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_small_files_take_little_memory(tmp_path: Path) -> None:
    for name, (make, _) in BOMBS.items():
        make(tmp_path / name)
        assert (tmp_path / name).stat().st_size < 10 << 20
    paths = [str(tmp_path / name) for name in BOMBS]
    done = subprocess.run([sys.executable, "-c", CHILD, *paths], capture_output=True, text=True, check=True)
    *refusals, grown = done.stdout.strip().splitlines()
    for said, path, (_, reason) in zip(refusals, paths, BOMBS.values(), strict=True):
        assert said.startswith(f"RunError {path}")
        assert re.search(reason, said), said
    kilobyte = 1 if sys.platform == "darwin" else 1024
    assert int(grown) * kilobyte < 100 << 20


def test_tensors_that_share_their_memory(tmp_path: Path) -> None:
    told = description()
    shared = torch.zeros(100_000)
    weights = {
        name: shared[: tensor.numel()].view(tensor.shape) if tensor.is_floating_point() else tensor
        for name, tensor in state(told).items()
    }
    torch.save({"samplecnn": told, "state_dict": weights}, tmp_path / "a.ckpt")
    assert load_model(tmp_path / "a.ckpt").tags  # they fit into the file: no more than it fills


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.update({"network.head_fc2.bias": [1, 2, 3]}), r"'head_fc2.bias' with shape \[1, 2, 3\]"),
        (
            lambda s: s.update({"network.head_fc2.bias": torch.zeros(3).to_sparse()}),
            "it names torch._utils._rebuild_sparse_tensor",
        ),
        (
            lambda s: s.update({"network.head_fc2.bias": torch.zeros(3, device="meta")}),
            "it names torch._utils",
        ),
    ],
)
def test_what_is_no_plain_tensor(tmp_path: Path, change: Callable[[Any], object], words: str) -> None:
    told = description()
    weights = state(told)
    change(weights)
    torch.save({"samplecnn": told, "state_dict": weights}, tmp_path / "a.ckpt")
    with pytest.raises(RunError, match=words):
        load_model(tmp_path / "a.ckpt")


def test_weights_do_not_hang_on_the_file(tmp_path: Path) -> None:
    """A run that goes on training replaces its checkpoint under whoever has read it."""
    told = description()
    torch.save({"samplecnn": told, "state_dict": state(told)}, tmp_path / "a.ckpt")
    model = load_model(tmp_path / "a.ckpt")
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    (tmp_path / "a.ckpt").write_bytes(bytes((tmp_path / "a.ckpt").stat().st_size))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.network.state_dict().items())


def test_damage_anywhere_is_one_sentence(tmp_path: Path) -> None:
    told = description()
    torch.save({"samplecnn": told, "state_dict": state(told)}, tmp_path / "whole.ckpt")
    whole = (tmp_path / "whole.ckpt").read_bytes()
    generator = torch.Generator().manual_seed(0)
    for size in torch.randint(len(whole), (20,), generator=generator).tolist():
        (tmp_path / "cut.ckpt").write_bytes(whole[:size])
        with pytest.raises(
            RunError, match=r"cut\.ckpt is not a checkpoint of samplecnn, or is damaged"
        ) as refused:
            read_checkpoint(tmp_path / "cut.ckpt")
        assert "\n" not in str(refused.value)
