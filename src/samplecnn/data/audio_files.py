"""Which files are audio: one list of endings and one walk through folders, for all commands."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from samplecnn.text import counted

# What libsndfile reads.
_SOUNDFILE = "aif aifc aiff au caf flac mp2 mp3 mpga oga ogg opus rf64 snd w64 wav wave"
# What people keep music in that it does not read: ffmpeg does, where it is installed.
_FFMPEG = "3gp aac ac3 amr ape dff dsf m4a m4b mka mkv mov mp4 mpc spx tta weba webm wma wv"
FFMPEG_ENDINGS = {f".{ending}" for ending in _FFMPEG.split()}
ENDINGS = FFMPEG_ENDINGS | {f".{ending}" for ending in _SOUNDFILE.split()}
KINDS_SHOWN = 6


@dataclass(frozen=True)
class Found:
    """The audio files of a folder, and how much else there is, by ending or by the reason to leave it out."""

    files: list[Path] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def walk(folder: Path) -> Found:
    """Find all audio below a folder: its own files by name, then those of each folder in it, by name.

    Links to folders are followed, but no folder is entered twice, so links may run in circles. Left out and
    counted: other endings than `ENDINGS`, what is hidden (a dot in front), folders that cannot be read. A
    link to a file that is not there counts as the file: whoever opens it says what is wrong.
    """
    found = Found()
    entered = {os.path.realpath(folder)}

    def unreadable(_error: OSError) -> None:
        found.passed_over["unreadable folders"] += 1

    for parent, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        folders.sort()
        for name in list(folders):
            real = os.path.realpath(Path(parent, name))
            if name.startswith("."):
                found.passed_over["hidden folders"] += 1
                folders.remove(name)
            elif real in entered:
                found.passed_over["links to folders that are there already"] += 1
                folders.remove(name)
            else:
                entered.add(real)
        for name in sorted(names):
            path = Path(parent, name)
            if name.startswith("."):
                found.passed_over["hidden"] += 1
            elif path.suffix.lower() in ENDINGS:
                found.files.append(path)
            else:
                found.passed_over[path.suffix.lower() or "no ending"] += 1
    return found


def passed_over(counts: Counter[str]) -> str:
    """Say what was left out, the most frequent kinds by name: "9 files passed over: .jpg 8, .txt 1"."""
    kinds = sorted(counts.items(), key=lambda kind: (-kind[1], kind[0]))
    parts = [f"{kind if kind.isprintable() else ascii(kind)} {count}" for kind, count in kinds[:KINDS_SHOWN]]
    if others := sum(count for _, count in kinds[KINDS_SHOWN:]):
        parts.append(f"others {others}")
    return f"{counted(counts.total(), 'file')} passed over: {', '.join(parts)}"
