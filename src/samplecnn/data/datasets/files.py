"""What several data sets read alike: tables of tags, and folders of audio."""

import csv
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

from samplecnn.data.catalog import CatalogError

AUDIO_NAME = re.compile(
    r"[^.].*\.(aif[cf]?|au|caf|flac|mp3|og[ag]|opus|rf64|w64|wav)", re.IGNORECASE | re.DOTALL
)
NO_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, and bytes that are not UTF-8


def read_table(file: Path, required: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a .csv (commas) or .tsv (tabs) file with a header: line number and columns of every row.

    Raises `CatalogError` for what is not UTF-8 or no table, without rows or a `required` column, for columns
    that repeat, and for rows of another length than the header.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError(f"{file}: cannot be read as UTF-8 text ({error})") from error
    delimiter, word = ("\t", "tab") if file.suffix == ".tsv" else (",", "comma")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise CatalogError(
            f"{file}, line {reader.line_num}: not a {word}-separated table ({error})"
        ) from error
    header = rows[0][1] if rows else []
    if missing := [column for column in required if column not in header]:
        found = ", ".join(map(repr, header)) or "nothing"
        raise CatalogError(f"{file}: needs a {word}-separated column {missing[0]!r}, its header has {found}")
    if repeated := sorted({column for column in header if header.count(column) > 1}):
        raise CatalogError(f"{file}: columns that appear twice: {', '.join(map(repr, repeated))}")
    if len(rows) == 1:
        raise CatalogError(f"{file}: no files, only the header line")
    for line, row in rows:
        if len(row) != len(header):
            raise CatalogError(f"{file}, line {line}: {len(row)} columns, the header has {len(header)}")
    return [(line, dict(zip(header, row, strict=True))) for line, row in rows[1:]]


def split_tags(cell: str, where: str) -> list[str]:
    """Take the tags out of a table's cell: separated by ';', spaces around them and repetitions dropped."""
    if "|" in cell:
        raise CatalogError(f"{where}: tags {cell!r}: they are separated by ';', not by '|'")
    return list(dict.fromkeys(tag for part in cell.split(";") if (tag := part.strip())))


def audio_files(folder: Path) -> list[str]:
    """List all files below `folder` that are named like audio and not hidden: relative paths, sorted.

    Raises `CatalogError` for names that are no text.
    """
    found = []
    seen = {os.path.realpath(folder)}
    for parent, folders, files in os.walk(folder, followlinks=True):  # people link to their music
        for name in sorted(folders):
            real = os.path.realpath(Path(parent, name))
            if name.startswith(".") or real in seen:  # links may run in circles
                folders.remove(name)
            seen.add(real)
        folders.sort()
        inside = Path(parent).relative_to(folder)
        for name in files:
            if AUDIO_NAME.fullmatch(name):
                found.append((inside / name).as_posix())
    for path in found:
        if NO_TEXT.search(path):
            raise CatalogError(f"{folder}: file name {path!r} is not readable text: rename it")
    return sorted(found)
