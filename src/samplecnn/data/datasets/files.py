"""Folders of audio: which files there are, which are one file by links, and which hold the same audio."""

import contextlib
import filecmp
import hashlib
import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from samplecnn.data.audio_files import passed_over, walk
from samplecnn.data.catalog import NO_TEXT, CatalogError

log = logging.getLogger(__name__)

SAMPLE = 1 << 16  # bytes in the middle of a file, compared first


def audio_files(folder: Path) -> list[str]:
    """List all audio below `folder`: relative paths, sorted; logs how many other files there are.

    Raises `CatalogError` for names that are no text.
    """
    found = walk(folder)
    paths = _below(folder, found.files)
    for path in paths:
        if NO_TEXT.search(path):
            raise CatalogError(f"{folder}: file name {path!r} is not readable text: rename it")
    if found.passed_over:
        log.warning("%s: %s", folder, passed_over(found.passed_over))
    return paths


def _below(folder: Path, files: Sequence[Path]) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in files)


def find_missing(folder: Path, paths: Sequence[str], table: Path) -> list[str]:
    """Look for files that a table names and that are not there; return all paths as they are on the disk.

    One whose name differs in Unicode form only (ü in one character or two) is found. Others are said, with
    the file that may be meant.
    """
    missing = [path for path in paths if not (folder / path).is_file()]
    if not missing:
        return list(paths)
    near = {_loosely(path): path for path in _below(folder, walk(folder).files)}
    meant = {path: near[_loosely(path)] for path in missing if _loosely(path) in near}
    same = {path: file for path, file in meant.items() if _composed(path) == _composed(file)}
    if gone := [path for path in missing if path not in same]:
        path = next((path for path in gone if path in meant), gone[0])
        hint = f"; is {meant[path]!r} meant?" if path in meant else ""
        log.warning(
            "%d of %d files of %s are not there and will be skipped, such as %r%s",
            *(len(gone), len(paths), table, path, hint),
        )
    return [same.get(path, path) for path in paths]


def _composed(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _loosely(path: str) -> str:
    """A path without what people and programs change: case, spaces, Unicode form, the name's ending."""
    plain = unicodedata.normalize("NFKC", str(PurePosixPath(path).with_suffix(""))).casefold()
    return re.sub(r"\s", "", plain)


def file_identity(file: Path) -> object:
    """Return a value that is equal for two paths that lead to one file by links."""
    status = file.stat() if file.is_file() else None
    return (status.st_dev, status.st_ino) if status and status.st_ino else file


def same_audio(folder: Path, paths: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Find files with the same content: the index of each one beside that of the first such file.

    Reads little: only files of the same size, and of these a block in the middle; all of them if that is
    the same. The same music in another encoding is not found.
    """
    of_size: dict[int, list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        if (folder / path).is_file():
            of_size[(folder / path).stat().st_size].append(index)
    for size, indices in of_size.items():
        if size == 0 or len(indices) == 1:
            continue
        firsts: dict[bytes, int] = {}
        for index in indices:
            file = folder / paths[index]
            # A file that cannot be read: the preparation says so, and leaves it out.
            with contextlib.suppress(OSError):
                with file.open("rb") as opened:
                    opened.seek(max(0, size - SAMPLE) // 2)
                    digest = hashlib.sha256(opened.read(SAMPLE)).digest()
                first = firsts.setdefault(digest, index)
                if first != index and filecmp.cmp(folder / paths[first], file, shallow=False):
                    yield index, first
