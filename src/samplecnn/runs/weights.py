"""A network's weights in a safetensors file: plain bytes with a table in front; untrusted input.

No more is read than the network's weights and a table can take, and in one go: what is checked is what is
used, whatever happens to the file meanwhile. The library that reads the table checks that it fits the bytes.
"""

import hashlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from samplecnn.runs.errors import RunError
from samplecnn.text import shown

MAX_TABLE = 1 << 20  # bytes; a full-size ReSE-2 network's takes 20 kB
MAX_FILE = 4 << 30  # bytes; a full-size ReSE-2 network takes 108 MB
VARIANCES = ("running_var", "moving_variance")  # of batch norms, in PyTorch and in Keras


def encode(weights: Mapping[str, Tensor]) -> bytes:
    """Return the bytes of a file; the same weights always give the same bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    return safetensors.torch.save(plain, metadata={"format": "pt"})


def sha256(data: bytes) -> str:
    """Return the SHA-256 of ``data``, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path, expected: Mapping[str, Tensor], checksum: str) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    ``expected`` are tensors of the shapes and types that it has to hold, on the meta device: nothing is
    allocated before the file's size was compared. ``checksum`` is the file's SHA-256. Raises RunError for
    any other content, and for weights that no network can have: NaN, infinity, a negative variance.
    """
    needed = sum(tensor.numel() * tensor.itemsize for tensor in expected.values())
    if needed > MAX_FILE:
        raise RunError(f"{path} would hold {needed:,} bytes of weights, more than {MAX_FILE:,}")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > needed + MAX_TABLE:
            raise RunError(f"{path} has {size:,} bytes: the network's weights take {needed:,}")
        data = file.read(size)
    if sha256(data) != checksum:
        state = "truncated" if size < needed else "damaged or was changed"
        raise RunError(f"{path} is {state}: its SHA-256 is {sha256(data)}, and should be {checksum}")
    try:
        tensors = safetensors.torch.load(data)
    except Exception as error:  # what a table may say raises whatever its reader's layers do
        raise RunError(f"{path} is not a sound safetensors file: {error}") from error
    require_same_shapes(path, tensors, expected)
    for name, tensor in tensors.items():
        if tensor.dtype != expected[name].dtype:
            raise RunError(f"{path} has {name!r} of {tensor.dtype}; the network needs {expected[name].dtype}")
        require_sound(path, name, tensor)
    return tensors


def require_same_names(path: Path, found: Collection[str], expected: Collection[str]) -> None:
    """Raise RunError unless a file's weights have the names of the network's."""
    for names, what in (
        (set(expected) - set(found), "lacks weights of the network"),
        (set(found) - set(expected), "has weights that the network does not have"),
    ):
        if names:
            some = ", ".join(shown(name) for name in sorted(names)[:3])
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise RunError(f"{path} {what}: {some}{more}")


def require_same_shapes(path: Path, found: Mapping[str, Any], expected: Mapping[str, Tensor]) -> None:
    """Raise RunError unless a file's weights have the names and shapes of the network's."""
    require_same_names(path, found, expected)
    for name, tensor in expected.items():
        theirs = found[name]
        shape = list(theirs.shape) if isinstance(theirs, Tensor) else shown(theirs)
        if shape != list(tensor.shape):
            ours = list(tensor.shape)
            raise RunError(f"{path} has {name!r} with shape {shape}; the network needs {ours}")


def require_sound(path: Path, name: str, tensor: Tensor) -> None:
    """Raise RunError for what no trained network has: NaN, infinity, a negative variance."""
    if not tensor.is_floating_point():
        return
    if not tensor.isfinite().all():
        raise RunError(f"{path} has NaN or infinite weights in {name!r}")
    if name.endswith(VARIANCES) and (tensor < 0).any():
        raise RunError(f"{path} has a negative variance in {name!r}")
