"""MagnaTagATune from the web: annotations and archive fetched, checked and unpacked into one folder.

folder/annotations_final.csv, folder/mp3/0/... to folder/mp3/f/...
folder/mp3.zip.001 to .003 (or mp3.zip): may be deleted when folder/fetched is there
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samplecnn.data.archive import unpack
from samplecnn.data.download import DownloadError, Remote, fetch
from samplecnn.files import locked

log = logging.getLogger(__name__)

ANNOTATIONS = "annotations_final.csv"
FETCHED = "fetched"  # written last: archive and annotations are there and unpacked


@dataclass(frozen=True)
class Source:
    """Where the data set comes from; `archives` are alternatives, each one a file or all of its parts."""

    annotations: Remote
    archives: tuple[tuple[Remote, ...], ...]


# MD5 and sizes are those that others have published (docs/data.md); the university itself publishes none.
_CITY = (
    "https://mirg.city.ac.uk/datasets/magnatagatune/",
    "http://mi.soi.city.ac.uk/datasets/magnatagatune/",
)
_COPY = (
    "https://huggingface.co/datasets/confit/magnatagatune/resolve/042e24c2c26a71168dd35edc3bc0cb47b2f3c3cd/",
)


def _remote(name: str, mirrors: Sequence[str], *, md5: str | None = None, size: int | None = None) -> Remote:
    return Remote(name, tuple(mirror + name for mirror in mirrors), size, md5)


SOURCE = Source(
    _remote(ANNOTATIONS, _CITY + _COPY, md5="f04fa01752a8cc64f6e1ca142a0fef1d", size=21_517_373),
    (
        (
            _remote("mp3.zip.001", _CITY, md5="179c91c8c2a6e9b3da3d4e69d306fd3b"),
            _remote("mp3.zip.002", _CITY, md5="acf8265ff2e35c6ff22210e46457a824"),
            _remote("mp3.zip.003", _CITY, md5="582dc649cabb8cd991f09e14b99349a5"),
        ),
        # An MD5 of the joined parts is published, but not that this copy is the same file. Each clip's CRC is
        # compared all the same.
        (_remote("mp3.zip", _COPY, size=2_972_769_864),),
    ),
)
MAX_BYTES = 8_000_000_000  # unpacked; the clips are 3 GB
MAX_FILES = 30_000


def fetch_raw(folder: Path, source: Source = SOURCE, *, progress: bool = True, pause: float = 1.0) -> None:
    """Fetch and unpack what `folder` does not have yet; go on where a call before was interrupted.

    Files put there by hand are used if they are the published ones. Of several calls at a time one does the
    work and the others wait. The archive stays, and may be deleted afterwards.

    Raises `DownloadError`, `ArchiveError` for an archive that is not as expected, and OSError where `folder`
    cannot be made.
    """
    finished = folder / FETCHED
    if finished.is_file():  # before the lock: it may lie on a read-only disk
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "fetch.lock", waiting=f"another process fetches into {folder}: waiting for it"):
            if finished.is_file():
                return
            log.info("fetching MagnaTagATune into %s (3 GB; can be interrupted)", folder)
            fetch(source.annotations, folder, progress=progress, pause=pause)
            archive = _fetch_archive(source, folder, progress, pause)
            unpack(
                archive,
                folder / "mp3",
                max_bytes=MAX_BYTES,
                max_files=MAX_FILES,
                suffixes={".mp3"},
                progress=progress,
            )
            os.sync()  # the clips before the mark
            finished.touch()
    except DownloadError as error:
        by_hand = "Or name a folder that has annotations and audio already: data.raw=DIR"
        raise DownloadError(f"{error}\n{by_hand}") from error
    log.info("%s is complete; the archive in it is needed no more", folder)


def _fetch_archive(source: Source, folder: Path, progress: bool, pause: float) -> list[Path]:
    """Return the parts of the first alternative that can be had; one that is there already comes first."""
    problems = []
    for parts in sorted(
        source.archives, key=lambda parts: any(not (folder / p.name).is_file() for p in parts)
    ):
        try:
            return [fetch(part, folder, progress=progress, pause=pause) for part in parts]
        except DownloadError as error:
            problems.append(str(error))
    raise DownloadError("\n".join(problems))
