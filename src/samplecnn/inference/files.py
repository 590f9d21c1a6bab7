"""Which files to tag: those named, and all audio below folders that are named."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

# What libsndfile reads, and what people keep music in that it does not read: better reported than left out.
READ = {".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd"}
READ |= {".w64", ".wav", ".wave"}
NOT_READ = {".aac", ".ape", ".m4a", ".wma", ".wv"}


def audio_files(named: Iterable[Path]) -> Iterator[Path]:
    """Yield the files named, as they are, and in place of a folder all audio files in it at any depth.

    Those of a folder come in the order of their names. Files with other endings, those that begin with a dot
    and what a link to a folder holds are passed over in folders. Raises ValueError for a folder without audio
    files, naming the endings that count.
    """
    for path in named:
        if not path.is_dir():
            yield path
            continue
        found = list(_below(path))
        if not found:
            raise ValueError(f"no audio file in the folder {path}; counted are {', '.join(sorted(READ))}")
        yield from found


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() in READ | NOT_READ and not name.startswith("."):
                yield path
