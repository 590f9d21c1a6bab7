"""A Lightning checkpoint as untrusted input: no code is run, and no memory taken that the file does not fill.

A checkpoint is a zip archive of a pickle and the bytes of the tensors. The pickle may name what our own
checkpoints name, and nothing else; tensors stay in the file until their shapes have been compared.
"""

import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from samplecnn.runs.description import Description
from samplecnn.runs.errors import RunError
from samplecnn.runs.weights import require_same_shapes
from samplecnn.text import printable, shown

DESCRIPTION, STATE = "samplecnn", "state_dict"
NETWORK = "network."  # in front of the names of the network's tensors in the state
MAX_PICKLE = 32 << 20  # bytes; a checkpoint's takes 100 kB
MAX_REASON = 300  # characters
# What a pickle may name. PyTorch allows a few more, which could be asked for any amount of memory.
ALLOWED = re.compile(
    r"collections (OrderedDict|defaultdict)|torch\._utils _rebuild_(tensor_v2|parameter)"
    r"|torch (Size|device|\w+Storage|b?float\d+|u?int\d+|bool)|torch\.serialization _get_layout"
)


def read_checkpoint(path: Path, *, mapped: bool = True) -> dict[str, Any]:
    """Return a checkpoint's plain values and tensors; RunError for anything else, pickled code included.

    Tensors that are ``mapped`` stay in the file, which must not change while they are used.
    """
    try:
        _check_archive(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except OSError:
        raise
    except Exception as error:  # torch.load has no common class for what a damaged file does to it
        reason = printable(str(error).strip().partition("\n")[0][:MAX_REASON])
        raise RunError(f"{path} is not a checkpoint of samplecnn, or is damaged: {reason}") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(DESCRIPTION), dict):
        raise RunError(f"{path} is not a checkpoint of samplecnn: it does not say what it is of")
    return checkpoint


def describe(path: Path, checkpoint: Mapping[str, Any]) -> Description:
    """Return what a checkpoint says of its network; RunError for what is not allowed."""
    return Description.read(checkpoint[DESCRIPTION], str(path))


def network_weights(
    path: Path, checkpoint: Mapping[str, Any], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the network's weights, in single precision and in memory of their own.

    ``expected`` are tensors of the network's shapes, on the meta device. Raises RunError where names or
    shapes differ, and for tensors that claim more than the file holds.
    """
    state = checkpoint.get(STATE)
    if not isinstance(state, dict):
        raise RunError(f"{path} is not a complete model: it has no {STATE}")
    texts = {str(name): value for name, value in state.items()}
    found = {name.removeprefix(NETWORK): value for name, value in texts.items() if name.startswith(NETWORK)}
    require_same_shapes(path, found, expected)
    for name in expected:
        if found[name].layout != torch.strided or found[name].device.type != "cpu":
            raise RunError(f"{path} has {name!r} as no plain tensor")
    claimed = sum(found[name].numel() * found[name].itemsize for name in expected)
    if claimed > (size := path.stat().st_size):
        raise RunError(f"{path} claims {claimed:,} bytes of weights, and has {size:,}")
    return {name: found[name].to(tensor.dtype, copy=True) for name, tensor in expected.items()}


def _check_archive(path: Path) -> None:
    """Raise an error unless the file is an archive that holds what it says, and names nothing unknown."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it is compressed")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("it says to hold more than its size")
        for entry in entries:
            if not entry.filename.endswith(".pkl"):
                continue
            if entry.file_size > MAX_PICKLE:
                raise ValueError(f"{shown(entry.filename)} has more than {MAX_PICKLE >> 20} MiB")
            for operation, argument, _ in pickletools.genops(archive.read(entry)):
                if operation.name in ("GLOBAL", "INST") and not ALLOWED.fullmatch(str(argument)):
                    raise ValueError(f"it names {str(argument).replace(' ', '.')}")
