"""Small files that may come from anywhere: read whole, with bounds, and as plain values only.

Every fault is a ``RunError`` that names the file, but for those of arrays. No class that a file names is
made, no reference to the environment or to other values is followed.
"""

import json
import math
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml
from numpy.typing import NDArray

from samplecnn.runs.errors import RunError
from samplecnn.text import printable, shown

MAX_YAML = 256 << 10  # bytes; a run's configuration takes 2 kB
MAX_JSON = 16 << 20  # bytes; results with 10,000 tags take 2 MB
MAX_ARRAYS = (
    1 << 30
)  # bytes, unpacked; predictions of the Million Song Dataset's 28,435 test clips take 20 MB
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # as NumPy packs; others unpack to any size in one step
MAX_DEPTH = 20  # of nested YAML; a configuration has 4 levels
MAX_ALIASES = 10


def read_bytes(path: Path, limit: int) -> bytes:
    """Return a file's content; RunError for more than ``limit`` bytes."""
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        size = f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit >> 10} KiB"
        raise RunError(f"{path} has more than {size}: not such a file of ours")
    return data


def read_arrays(path: Path, limit: int = MAX_ARRAYS) -> dict[str, NDArray[Any]]:
    """Return the arrays of an NPZ file, whose sizes are looked at first.

    Raises ValueError for one of more than ``limit`` bytes, unpacked, or that is not packed as NumPy does it,
    and for a damaged one whatever its layers do.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if (size := sum(member.file_size for member in members)) > limit:
        raise ValueError(f"it unpacks to {size:,} bytes, more than {limit:,}")
    if any(member.compress_type not in PACKED for member in members):
        raise ValueError("it is packed otherwise than by NumPy, stored or deflated")
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def read_json(path: Path, limit: int = MAX_JSON) -> Any:
    """Return what a JSON file holds; RunError for anything that `strict_json` refuses."""
    data = read_bytes(path, limit)
    try:
        return strict_json(data)
    except ValueError as error:
        raise RunError(f"{path} is not JSON, or damaged: {error}") from error


def strict_json(data: bytes) -> Any:
    """Parse UTF-8 JSON; ValueError also for repeated keys, NaN, infinities and hundreds of levels."""

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            [(repeated, _)] = Counter(name for name, _ in pairs).most_common(1)
            raise ValueError(f"{repeated[:80]!r} appears twice")
        return table

    def finite(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise ValueError(f"{text[:20]} is not a finite number")
        return value

    try:
        text = data.decode("utf-8")
        return json.loads(text, object_pairs_hook=distinct, parse_float=finite, parse_constant=finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


class _Loader(yaml.SafeLoader):
    """Reads YAML as Hydra does: 1e-3 is a number, a date is a text, and a key that is repeated an error."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return what a mapping holds."""
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if repeated := [key for key, count in keys.items() if count > 1]:
            problem = f"found duplicate key {repeated[0]}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys and plain values of a YAML file.

    Raises RunError for a file that is too large, too deep or full of aliases, for anything but texts,
    numbers, true, false, null, lists and objects of these, and for an interpolation (``${...}``): what it
    stands for would come from this machine.
    """
    data = read_bytes(path, MAX_YAML)
    try:
        text = data.decode("utf-8")
        _check_events(text)
        found: Any = yaml.load(text, _Loader)  # noqa: S506 a SafeLoader
        if not isinstance(found, dict):
            raise ValueError("it does not hold keys and values")
        _check_plain(found, "")
    except RecursionError as error:
        raise RunError(f"{path} cannot be read: it refers to itself") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise RunError(f"{path}{where} cannot be read: {printable(reason)}") from error
    return found


def _check_events(text: str) -> None:
    """Raise ValueError for what would take long or much memory to load; nothing is loaded yet."""
    depth = aliases = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        aliases += isinstance(event, yaml.AliasEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"it has more than {MAX_DEPTH} levels")
        if aliases > MAX_ALIASES:
            raise ValueError(f"it has more than {MAX_ALIASES} aliases")


def _check_plain(value: Any, key: str) -> None:
    """Raise ValueError for a key or value that is not plain. Loops through aliases end in RecursionError."""
    if isinstance(value, dict):
        for name, below in value.items():
            if not isinstance(name, str):
                raise ValueError(f"the key {shown(name)} is not a text")
            _check_plain(below, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for below in value:
            _check_plain(below, key)
    elif isinstance(value, str):
        if "${" in value:
            raise ValueError(f"{key}={shown(value)} is an interpolation, which a run's files do not have")
    elif value is not None and not isinstance(value, int | float):
        raise ValueError(f"{key} is a {type(value).__name__}, not a text or number")
