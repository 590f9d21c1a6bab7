"""Read the weights out of an HDF5 file that Keras 2 wrote: a program of its own, run as a child process.

    python keras_hdf5.py FILE OUT

The HDF5 library may crash, hang or grow on an untrusted file; here it does so alone, within limits that the
process sets itself before the library is loaded. OUT becomes a safetensors file of the arrays by
"layer/weight", with the layers' names and Keras' own description of the model in its metadata. Refused is
what Keras does not write: links to elsewhere, compressed or chunked data, data that is not in the file, other
types. Exits with 1 and a reason on standard error. `keras_file.py` runs it.
"""

import json
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_BYTES = 1 << 30  # of all arrays; a full-size ReSE-2 network takes 108 MB
MEMORY = 3 << 30  # bytes of address space: libraries, the arrays, and their copy on the way out
SECONDS = 120  # of processor time
MAX_LAYERS = 1000
WEIGHT = re.compile(r"[A-Za-z0-9_]+/(kernel|bias|gamma|beta|moving_mean|moving_variance):0")
LAYER = re.compile(r"[A-Za-z0-9_]+")


class RefusedError(Exception):
    """The file is not what Keras writes."""


def limit() -> None:
    """Bound what this process may use, for good."""
    limits = {
        resource.RLIMIT_AS: MEMORY,
        resource.RLIMIT_CPU: SECONDS,
        resource.RLIMIT_FSIZE: MAX_BYTES + (1 << 20),
        resource.RLIMIT_CORE: 0,
    }
    for kind, wanted in limits.items():
        _, hard = resource.getrlimit(kind)
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (allowed, allowed))


def read(path: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the arrays by "layer/weight", and the metadata: ``layers`` (JSON), perhaps ``model_config``."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        group = _child(file, "model_weights", h5py.Group) if "model_weights" in file else file
        written = {key: _text(file, key) or _text(group, key) for key in ("backend", "keras_version")}
        if written["backend"] != "tensorflow":
            raise RefusedError(
                f"its backend is {written['backend']!r}; only kernels of tensorflow can be read"
            )
        if not str(written["keras_version"]).startswith("2."):
            raise RefusedError(
                f"it was written by Keras {written['keras_version']!r}; only those of Keras 2 are read"
            )
        layers = _names(group, "layer_names")
        for layer in layers:
            if not LAYER.fullmatch(layer):
                raise RefusedError(f"there is a layer named {layer[:80]!r}")
        arrays: dict[str, Any] = {}
        for key, dataset in _datasets(group, layers):
            arrays[key] = dataset
            if sum(array.nbytes for array in arrays.values()) > MAX_BYTES:
                raise RefusedError(f"its arrays are larger than {MAX_BYTES >> 20} MiB")
        # Read only now that the size of all is known.
        values = {key: dataset[()] for key, dataset in arrays.items()}
        metadata = {"layers": json.dumps(layers)}
        if (model_config := _text(file, "model_config")) is not None:
            metadata["model_config"] = model_config
    return values, metadata


def _child(group: Any, name: str, kind: type) -> Any:
    """Follow ``name`` step by step: hard links alone stay in the file."""
    import h5py

    node = group
    for step in name.split("/"):
        if not isinstance(node, h5py.Group) or step not in node:
            raise RefusedError(f"{name!r} is missing")
        if not isinstance(node.get(step, getlink=True), h5py.HardLink):
            raise RefusedError(f"{name!r} is a link that may lead out of the file")
        node = node[step]
    if not isinstance(node, kind):
        raise RefusedError(f"{name!r} is not a {kind.__name__.lower()}")
    return node


def _text(node: Any, key: str) -> str | None:
    if key not in node.attrs:
        return None
    value = node.attrs[key]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise RefusedError(f"its attribute {key!r} is not a text")
    return value


def _names(node: Any, key: str) -> list[str]:
    """Return a list of names among the attributes; without weights it is an empty array of floats."""
    if key not in node.attrs:
        raise RefusedError(f"it has no attribute {key!r}: not a file of weights that Keras wrote")
    values = node.attrs[key]
    if getattr(values, "ndim", None) != 1 or len(values) > MAX_LAYERS:
        raise RefusedError(f"its attribute {key!r} is not a list of up to {MAX_LAYERS} names")
    if len(values) and values.dtype.kind not in "SO":
        raise RefusedError(f"its attribute {key!r} does not hold names")
    names = [value.decode("ascii", "replace") if isinstance(value, bytes) else str(value) for value in values]
    if len(set(names)) < len(names):
        raise RefusedError(f"its attribute {key!r} holds a name twice")
    return names


def _datasets(group: Any, layers: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the data sets by "layer/weight", each checked and none read."""
    import h5py

    for layer in layers:
        node = _child(group, layer, h5py.Group)
        for name in _names(node, "weight_names"):
            if not WEIGHT.fullmatch(name):
                raise RefusedError(
                    f"layer {layer!r} has weights {name[:80]!r}, which none of this network has"
                )
            dataset = _child(node, name, h5py.Dataset)
            key = f"{layer}/{name.rpartition('/')[2].removesuffix(':0')}"
            _check(key, dataset)
            yield key, dataset


def _check(key: str, dataset: Any) -> None:
    import h5py

    creation = dataset.id.get_create_plist()
    if dataset.dtype.str not in ("<f4", ">f4"):
        raise RefusedError(f"{key} holds {dataset.dtype}, not float32")
    if not 1 <= dataset.ndim <= 3:
        raise RefusedError(f"{key} has {dataset.ndim} dimensions; weights have 1 to 3")
    if creation.get_layout() != h5py.h5d.CONTIGUOUS or creation.get_nfilters():
        raise RefusedError(
            f"{key} is chunked, compressed or virtual; Keras writes plain data (h5repack -l CONTI)"
        )
    if creation.get_external_count():
        raise RefusedError(f"{key} has its data in another file")
    if dataset.nbytes > MAX_BYTES or dataset.id.get_storage_size() != dataset.nbytes:
        raise RefusedError(f"{key} has shape {dataset.shape}, but not the data for it")


def main() -> int:
    """Read FILE, write OUT."""
    path, out = sys.argv[1:]
    limit()
    try:
        values, metadata = read(path)
        from safetensors.numpy import save

        data = save({key: value.astype("<f4") for key, value in values.items()}, metadata=metadata)
        Path(out).write_bytes(data)
    except Exception as error:  # whatever the HDF5 library makes of a damaged file
        print(" ".join(str(error).split())[:500] or type(error).__name__, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
