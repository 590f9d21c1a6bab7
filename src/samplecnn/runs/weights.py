"""A network's weights in a safetensors file: plain bytes with a table in front; untrusted input.

The table is compared with what the network expects before the file is read: names, shapes, types and size.
Reading is in one go, so that what is checked is what is used, whatever happens to the file meanwhile.
"""

import hashlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from samplecnn.runs.errors import RunError
from samplecnn.runs.untrusted import strict_json
from samplecnn.text import shown

PREFIX = 8  # bytes that hold the length of the table
MAX_TABLE = 1 << 20  # bytes; a full-size ReSE-2 network's takes 20 kB
MAX_FILE = 4 << 30  # bytes; a full-size ReSE-2 network takes 108 MB
TYPES = {torch.float32: "F32", torch.int64: "I64"}


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
    allocated before they have been compared. ``checksum`` is the file's SHA-256. Raises RunError for
    any other content, and for weights that no network can have: NaN, infinity, a negative variance.
    """
    needed = sum(tensor.numel() * tensor.itemsize for tensor in expected.values())
    if needed > MAX_FILE:
        raise RunError(f"{path} would hold {needed:,} bytes of weights, more than {MAX_FILE:,}")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        table, start = _table(path, file, size)
        _compare(path, table, expected)
        if size != start + needed:
            state = "truncated" if size < start + needed else "longer than its table says"
            raise RunError(f"{path} is {state}: it has {size:,} bytes, not {start + needed:,}")
        file.seek(0)
        data = file.read(size)
    if sha256(data) != checksum:
        raise RunError(
            f"{path} is damaged or was changed: its SHA-256 is {sha256(data)}, and should be {checksum}"
        )
    try:
        tensors = safetensors.torch.load(data)
    except SafetensorError as error:
        raise RunError(f"{path} is not a sound safetensors file: {error}") from error
    for name, tensor in tensors.items():
        require_sound(path, name, tensor)
    return tensors


def _table(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """Return the table of an open file, and where it ends."""
    length = int.from_bytes(file.read(PREFIX), "little")
    if size < PREFIX or length > size - PREFIX:
        raise RunError(f"{path} is truncated or not a safetensors file: it has {size:,} bytes")
    if length > MAX_TABLE:
        raise RunError(f"{path} has a table of {length:,} bytes; up to {MAX_TABLE:,} are read")
    try:
        table = strict_json(file.read(length))
    except ValueError as error:
        raise RunError(f"{path} is not a safetensors file: its table is damaged ({error})") from error
    if not isinstance(table, dict):
        raise RunError(f"{path} is not a safetensors file: its table is a {type(table).__name__}")
    table.pop("__metadata__", None)
    return table, PREFIX + length


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


def _compare(path: Path, table: Mapping[str, Any], expected: Mapping[str, Tensor]) -> None:
    require_same_names(path, table, expected)
    for name, tensor in expected.items():
        entry = table[name] if isinstance(table[name], dict) else {}
        for key, ours in (("dtype", TYPES.get(tensor.dtype)), ("shape", list(tensor.shape))):
            theirs = entry.get(key)
            if theirs != ours:
                raise RunError(
                    f"{path} has {name!r} with {key} {shown(theirs).strip(chr(39))}; the network needs {ours}"
                )


def require_sound(path: Path, name: str, tensor: Tensor) -> None:
    """Raise RunError for what no trained network has: NaN, infinity, a negative variance."""
    if not tensor.is_floating_point():
        return
    if not tensor.isfinite().all():
        raise RunError(f"{path} has NaN or infinite weights in {name!r}")
    if name.endswith("running_var") and (tensor < 0).any():
        raise RunError(f"{path} has a negative variance in {name!r}")
