"""The tensors in a file of ``torch.save``, read without unpickling; untrusted input.

    old files     five pickles one after the other (magic number, version, machine, object, keys of the
                  storages), then for each key the number of values and the values
    newer files   a zip archive: PREFIX/data.pkl holds the object, PREFIX/data/KEY the values of a storage

The pickles are taken apart by `pickled.py`.
"""

import math
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

from torch import Tensor

from samplecnn.inference.known.pickled import Foreign, Stream, View
from samplecnn.runs.errors import RunError
from samplecnn.text import printable, shown

MAX_FILE = 512 << 20  # bytes; a short-chunk network with residual connections takes 48 MB
MAGIC = 0x1950A86A20F9469CFC6C  # of old files
VERSION = 1001


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict by name, or of the ``state_dict`` in a checkpoint.

    Raises RunError, which names the file, for anything that is not one.
    """
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise RunError(f"{path} has more than {MAX_FILE >> 20} MiB: not a network that is known")
    try:
        views, rows = _read_zip(data) if data.startswith(b"PK") else _read_old(data)
        if sum(math.prod(view.shape) * view.storage.dtype.itemsize for view in views.values()) > MAX_FILE:
            raise ValueError(f"its tensors share values, and apart have more than {MAX_FILE >> 20} MiB")
        return {name: view.of(rows[view.storage.key]) for name, view in views.items()}
    except Exception as error:  # bytes that make no sense raise anything; the sentences below are ValueErrors
        reason = printable(str(error)[:300]) if type(error) is ValueError else "it is damaged"
        raise RunError(f"{path} cannot be read as weights of PyTorch: {reason}") from error


def _views(found: Any) -> dict[str, View]:
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not found:
        raise ValueError(f"it holds {_kind(found)}, not weights by name")
    for name, view in found.items():
        if not isinstance(view, View):
            raise ValueError(f"{shown(name)} is {_kind(view)}, not a tensor")
    return found


def _kind(value: Any) -> str:
    return f"an object of {value.name!r}" if isinstance(value, Foreign) else f"a {type(value).__name__}"


def _read_zip(data: bytes) -> tuple[dict[str, View], dict[str, Tensor]]:
    """Return the tensors of a newer file, and the values of its storages by key."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickled = next((name for name in entries if name.split("/")[1:] == ["data.pkl"]), None)
        if pickled is None:
            raise ValueError("the archive has no data.pkl")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise ValueError("the archive is compressed")
        if sum(entry.file_size for entry in entries.values()) > len(data):
            raise ValueError("the archive says it holds more than it can")
        prefix = pickled.removesuffix("data.pkl")
        if f"{prefix}byteorder" in entries and archive.read(f"{prefix}byteorder") != b"little":
            raise ValueError("its values are big-endian")
        stream = Stream(BytesIO(archive.read(pickled)))
        views = _views(stream.value())
        rows = {key: s.row(archive.read(f"{prefix}data/{key}")) for key, s in stream.storages.items()}
    return views, rows


def _read_old(data: bytes) -> tuple[dict[str, View], dict[str, Tensor]]:
    """Return the tensors of an old file, and the values of its storages by key."""
    file = BytesIO(data)
    if (Stream(file).value(), Stream(file).value()) != (MAGIC, VERSION):
        raise ValueError("it is not a file of torch.save")
    if Stream(file).value().get("little_endian") is not True:
        raise ValueError("its values are big-endian")
    stream = Stream(file)
    views = _views(stream.value())
    rows = {}
    for key in Stream(file).value():
        storage = stream.storages[key]
        if int.from_bytes(file.read(8), "little") != storage.count:
            raise ValueError(f"it is truncated, or storage {key} has two sizes")
        rows[key] = storage.row(file.read(storage.count * storage.dtype.itemsize))
    return views, rows
