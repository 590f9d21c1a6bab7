"""Zip archives, whole or in parts, unpacked without believing what they say.

Nothing is written outside the folder, and never more than was allowed: an entry is what it decompresses to,
not what its header claims. A name, a kind or a size that has no place in a data set refuses the archive.
"""

import io
import logging
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from samplecnn.data.view import View
from samplecnn.errors import UserError

log = logging.getLogger(__name__)

CHUNK = 1 << 20  # bytes
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, bytes that are no text
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others decompress to any size in one step
ENCRYPTED = 0x1  # flag bit of an entry
LOCAL_HEADER = 30  # bytes in front of an entry's content, without its name
DAMAGED = (
    EOFError,
    UnicodeDecodeError,
    OverflowError,
    RuntimeError,  # zipfile, also of a compression or version that it does not know
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class ArchiveError(UserError):
    """An archive that is damaged, or not what a data set is expected in: names archive and entry."""


def unpack(
    parts: Sequence[Path],
    folder: Path,
    *,
    max_bytes: int,
    max_files: int,
    suffixes: Collection[str],
    progress: bool = True,
) -> list[str]:
    """Unpack a zip archive, given as its parts in order; return the files' paths.

    Only files with one of the `suffixes` (lower case, with the dot) are written, each of them whole or not
    at all. Files that a call before has written are kept if size and CRC are right. Nothing is written before
    all entries were looked at.

    Raises `ArchiveError` for entries with absolute paths, `..`, backslashes, drive letters or control
    characters, links and devices, encrypted, overlapping and repeated entries, more than `max_files` entries
    (folders included) or `max_bytes` decompressed, for damaged archives, and if a file cannot be written.
    """
    name = str(parts[0]) if len(parts) == 1 else f"{parts[0]} to {parts[-1].name}"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / ".unpacking.tmp"
    written, others = [], 0
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(part.open("rb")) for part in parts]
            whole = View([(file, 0, part.stat().st_size) for file, part in zip(files, parts, strict=True)])
            opened = stack.enter_context(zipfile.ZipFile(io.BufferedReader(whole)))
            bar = stack.enter_context(tqdm(desc=parts[0].name, unit="file", disable=not progress))
            for info, path in _checked(opened, max_bytes, max_files):
                if path.suffix.lower() not in suffixes:
                    others += 1
                    continue
                target = _target(folder, path)
                if not _is_there(target, info):
                    _write(opened, info, temporary)
                    temporary.replace(target)
                written.append(str(path))
                bar.update()
    except ArchiveError as error:
        raise ArchiveError(f"{name}: {error}") from error
    except DAMAGED as error:
        raise ArchiveError(f"{name}: damaged or no zip archive ({error}): get it again") from error
    except OSError as error:
        raise ArchiveError(
            f"cannot unpack {name} to {folder} ({error.strerror}: {error.filename or temporary})."
            " What is unpacked is kept: run it again, it goes on from there"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    if others:
        log.info("%s: %d files that are no %s were left out", name, others, ", ".join(sorted(suffixes)))
    return written


def _checked(
    archive: zipfile.ZipFile, max_bytes: int, max_files: int
) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """List the files of an archive in which every entry is allowed, by their place in it."""
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    if len(infos) > max_files:
        raise ArchiveError(f"more than {max_files:,} entries, the most that is allowed")
    paths: dict[PurePosixPath, zipfile.ZipInfo] = {}
    total = end = 0  # bytes decompressed; the end of the entry before
    for info in infos:
        path = _path(info.orig_filename)
        total += info.file_size
        if path in paths:
            raise ArchiveError(f"entry {info.filename!r} is there twice")
        if total > max_bytes:
            raise ArchiveError(
                f"entry {info.filename!r} brings it to {total:,} bytes, allowed are {max_bytes:,}"
            )
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ArchiveError(f"entry {info.filename!r} is a link or a device: allowed are files")
        if info.flag_bits & ENCRYPTED:
            raise ArchiveError(f"entry {info.filename!r} is encrypted")
        if info.compress_type not in METHODS:
            raise ArchiveError(
                f"entry {info.filename!r} is compressed by method {info.compress_type}:"
                " allowed are 0 (stored) and 8 (deflated)"
            )
        if info.header_offset < end:
            raise ArchiveError(f"entry {info.filename!r} overlaps with another one")
        end = info.header_offset + LOCAL_HEADER + info.compress_size
        paths[path] = info
    return [(info, path) for path, info in paths.items() if not info.is_dir()]


def _path(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if not path.name or UNSAFE.search(name):
        raise ArchiveError(f"entry {name!r}: allowed are names without control characters")
    if path.is_absolute() or ".." in path.parts or "\\" in name or re.match("[A-Za-z]:", name):
        raise ArchiveError(
            f"entry {name!r}: allowed are paths below the folder, with forward slashes and without '..'"
        )
    return path


def _target(folder: Path, path: PurePosixPath) -> Path:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    # A link that lay in the folder before would lead out of it.
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise ArchiveError(f"entry {str(path)!r}: {target.parent} leads out of {folder}")
    return target


def _is_there(target: Path, info: zipfile.ZipInfo) -> bool:
    if not target.is_file() or target.stat().st_size != info.file_size:
        return False
    crc = 0
    with target.open("rb") as content:
        while block := content.read(CHUNK):
            crc = zlib.crc32(block, crc)
    return crc == info.CRC


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: Path) -> None:
    with archive.open(info) as content, file.open("wb") as out:  # zipfile gives no more than is claimed
        shutil.copyfileobj(content, out, CHUNK)
        if out.tell() != info.file_size:
            raise ArchiveError(
                f"entry {info.filename!r} is not of the {info.file_size:,} bytes it claims: damaged"
            )
