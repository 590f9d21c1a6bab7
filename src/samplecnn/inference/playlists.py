"""A playlist per tag: M3U8 files with the paths of the songs that have it, relative to where they lie."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from samplecnn.files import write
from samplecnn.text import printable, unique

UNFIT = re.compile(r'[\x00-\x1f/\\:*?"<>|]|^[. ]')  # for the name of a file, here or elsewhere
LONGEST = 200  # bytes of a name: file systems take 255, with what stands behind it


def write_playlists(songs: Mapping[Path, Mapping[str, float]], folder: Path) -> list[Path]:
    """Write ``TAG.m3u8`` for every tag that a song has; return the files.

    ``songs`` have the probabilities of the tags that were decided for them; in a playlist they are in the
    order of these, the highest first. The folder is made. Other files in it stay.
    """
    by_tag: dict[str, list[tuple[float, Path]]] = {}
    for song, tags in songs.items():
        for tag, probability in tags.items():
            by_tag.setdefault(tag, []).append((probability, song))
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    names = unique(
        UNFIT.sub("_", printable(tag)).encode()[:LONGEST].decode(errors="ignore") for tag in sorted(by_tag)
    )
    for name, (tag, members) in zip(names, sorted(by_tag.items()), strict=True):
        ranked = sorted(members, key=lambda member: (-member[0], str(member[1])))
        lines = [os.fsencode(_line(path, folder)) for _, path in ranked]
        head = f"#EXTM3U\n#PLAYLIST:{printable(tag)}\n".encode()
        file = folder / f"{name}.m3u8"
        write(file, head + b"".join(line + b"\n" for line in lines if b"\n" not in line))
        written.append(file)
    return written


def _line(path: Path, folder: Path) -> str:
    relative = os.path.relpath(path.absolute(), folder.absolute())
    return f"./{relative}" if relative.startswith("#") else relative
