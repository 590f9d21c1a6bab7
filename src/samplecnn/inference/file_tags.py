"""Tags in music files: ID3, Vorbis comments and MP4, in one field of one's choice. Needs mutagen.

A file is copied, the copy changed and put in the file's place, so that it is whole at any moment; its mode
and times stay. What was in the field is in the journal before that, from where `undo` takes it back.
"""

import json
import os
import re
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from samplecnn.errors import UserError, require_libraries
from samplecnn.files import writing
from samplecnn.text import shown

FIELD = "SAMPLECNN_TAGS"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,59}")
GENRE = "genre"  # has a place of its own in each format
KINDS = "tags are written as ID3, Vorbis comments and in MP4, which files of this kind do not have"
MAX_LINE = 1 << 20  # bytes of a journal's line
BEGINNING = b'{"path": '  # of each


@dataclass(frozen=True)
class Change:
    """What a field of a file held, and what it is to hold."""

    path: str  # absolute
    field: str
    before: list[str]
    after: list[str]


def require_library(field: str) -> None:
    """Raise UserError without mutagen, and for what cannot be the name of a field."""
    if not NAME.fullmatch(field):
        raise UserError(
            f"{shown(field)} is no name of a field: it has up to 60 letters (A to Z), digits, spaces, _, -"
        )
    require_libraries("tags", "mutagen")


def change(path: Path, field: str, values: Sequence[str]) -> Change | None:
    """Return what writing these values into a file would change; None: it has them."""
    before, after = read(path, field), list(values)
    return None if before == after else Change(str(path.absolute()), field, before, after)


def apply(changed: Change, journal: Path) -> None:
    """Change a file, once that is in the journal and on the disk."""
    with journal.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(changed)) + "\n")
        file.flush()
        os.fsync(file.fileno())
    write(Path(changed.path), changed.field, changed.after)


def begin_journal(path: Path) -> None:
    """Have a journal ready for more changes: what is there has to be one, and a line that was cut is dropped.

    Raises UserError for another file, which is left as it is, and where there is no folder for it.
    """
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} for the journal {path.name}")
    if path.exists():
        with path.open("rb+") as file:
            deque(_journal(file), maxlen=0)
            file.truncate()


def undo(journal: Path) -> Iterator[tuple[str, str | None]]:
    """Have each field as it was before its first change; yield each file, with why where that cannot be.

    A field that holds what no change of the journal has left there stays: it has been changed since. Raises
    UserError for a file that is no journal, before anything is changed.
    """
    by_field: dict[tuple[str, str], list[Change]] = {}
    with journal.open("rb") as file:
        for changed in _journal(file):
            by_field.setdefault((changed.path, changed.field), []).append(changed)
    for (path, field), changes in by_field.items():
        first, reason = changes[0].before, None
        try:
            present = read(Path(path), field)
            if not any(present in (changed.before, changed.after) for changed in changes):
                reason = f"{path}: {field} has been changed since, to {shown(present)}"
            elif present != first:
                write(Path(path), field, first)
        except (UserError, OSError) as error:
            reason = str(error)
        yield path, reason


def _journal(file: BinaryIO) -> Iterator[Change]:
    """Yield the changes in an open journal, which then stands behind the last of them."""
    for number in count(1):
        line = file.readline(MAX_LINE)
        if not line.endswith(b"\n") and BEGINNING.startswith(line[: len(BEGINNING)]) and not file.read(1):
            file.seek(-len(line), os.SEEK_CUR)  # cut, and so nothing was changed after it; or the end
            return
        try:
            found = Change(**json.loads(line))
            if not all(isinstance(value, str) for value in (found.path, *found.before, *found.after)):
                raise TypeError("not text")
            require_library(found.field)
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(f"{file.name}, line {number}, is no change of a journal: {error}") from error
        yield found


def read(path: Path, field: str) -> list[str]:
    """Return the values of a file's field; none if there is no such field."""
    tags = _open(path).tags
    return [] if tags is None else _get(path, tags, field)


def write(path: Path, field: str, values: Sequence[str]) -> None:
    """Have a file's field hold these values, or no such field where there are none."""
    path = path.resolve()  # a link stays one
    with writing(path) as file, path.open("rb") as original:
        shutil.copyfileobj(original, file, 1 << 20)
        file.flush()
        copy = Path(file.name)
        _change(copy, path, field, values)
        shutil.copystat(path, copy)
        status = path.stat()
        with suppress(PermissionError):
            os.chown(copy, status.st_uid, status.st_gid)


def _change(copy: Path, path: Path, field: str, values: Sequence[str]) -> None:
    opened = _open(path, copy)
    try:
        if opened.tags is None:
            opened.add_tags()
        _set(path, opened.tags, field, values)
        if not opened.tags and _is_id3(opened.tags):  # has no empty form
            opened.delete(copy)
        elif _is_version_23(opened.tags):
            opened.save(copy, v2_version=3, v23_sep=None)
        else:
            opened.save(copy)
    except UserError:
        raise
    except Exception as error:  # mutagen has many, and more where a file is damaged
        raise UserError(f"{path}: tags cannot be written into it ({error})") from error


def _open(path: Path, copy: Path | None = None) -> Any:
    """Open a file, or the copy of it that has another ending, with its tags as they are."""
    import mutagen

    try:
        opened = mutagen.File(path)
        as_it_is = {"translate": False} if _is_version_23(getattr(opened, "tags", None)) else {}
        if opened is not None and (copy or as_it_is):
            opened = type(opened)(copy or path, **as_it_is)
    except OSError:
        raise
    except Exception as error:
        raise UserError(f"{path}: its tags cannot be read ({error})") from error
    if opened is None:
        raise UserError(f"{path}: {KINDS}")
    return opened


def _is_id3(tags: Any) -> bool:
    from mutagen.id3 import ID3

    return isinstance(tags, ID3)


def _is_version_23(tags: Any) -> bool:
    """Say whether mutagen would change the dates of these tags into those of version 2.4."""
    return _is_id3(tags) and tags.version[:2] == (2, 3)


def _key(path: Path, tags: Any, field: str) -> str:
    """Return where a format keeps a field."""
    from mutagen.mp4 import MP4Tags

    genre = field.lower() == GENRE
    if _is_id3(tags):
        return "TCON" if genre else f"TXXX:{field}"
    if isinstance(tags, MP4Tags):
        return "\xa9gen" if genre else f"----:com.apple.iTunes:{field}"
    if hasattr(tags, "vendor"):  # a Vorbis comment, of FLAC, Ogg Vorbis, Opus, ...
        return field
    raise UserError(f"{path}: {KINDS}")


def _get(path: Path, tags: Any, field: str) -> list[str]:
    key = _key(path, tags, field)
    if key not in tags:
        return []
    if _is_id3(tags):
        return list(map(str, tags[key].genres if key == "TCON" else tags[key].text))
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in tags[key]]


def _set(path: Path, tags: Any, field: str, values: Sequence[str]) -> None:
    from mutagen.id3 import TCON, TXXX, Encoding

    key, texts = _key(path, tags, field), list(values)
    if not texts:
        if key in tags:
            del tags[key]
    elif key == "TCON":
        tags.setall(key, [TCON(encoding=Encoding.UTF16, text=texts)])
    elif _is_id3(tags):
        tags.setall(key, [TXXX(encoding=Encoding.UTF16, desc=field, text=texts)])
    else:
        tags[key] = [text.encode() for text in texts] if key.startswith("----:") else texts
