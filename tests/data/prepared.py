"""What tests of preparing share."""

from collections.abc import Callable, Mapping
from pathlib import Path

MakeRaw = Callable[[Path, Mapping[str, float | bytes | None]], Path]


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}
