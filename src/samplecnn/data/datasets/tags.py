"""Tags as people write them: taken out of a table's cells, and looked through for likely mistakes."""

import logging
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from samplecnn.data.catalog import Catalog, CatalogError

log = logging.getLogger(__name__)

SEPARATORS = {"semicolon": ";", "comma": ",", "slash": "/", "pipe": "|"}
BRACKETS = re.compile(r"\[.*\]|\{.*\}", re.DOTALL)  # ['rock', 'pop'], as Python prints a list
PART_NAMES = frozenset(["train", "training", "val", "valid", "validation", "dev", "test", "testing"])
NO_TAG = frozenset(["nan", "none", "null", "n/a", "na", "-", "?", "unknown"])
SHOWN = 5  # tags named in a sentence
LETTERS_SHOWN = 40


def split_tags(cells: Sequence[tuple[str, str]], separator: str | None = None) -> list[list[str]]:
    """Take the tags out of cells, each given with where it stands; empty and repeated ones are dropped.

    `separator` is a name in `SEPARATORS`. None: tags are separated by ';', and what looks like a list of
    another kind is refused. A tag that also stands in a list with ';' is one tag, whatever is in it.

    Raises `CatalogError` for an unknown separator, cells that look like lists, and tags of several lines.
    """
    if separator is not None and separator not in SEPARATORS:
        raise CatalogError(f"data.separator={separator}: allowed are {', '.join(SEPARATORS)}")
    sign = SEPARATORS[separator or "semicolon"]
    tags = [[tag for part in cell.split(sign) if (tag := part.strip())] for _, cell in cells]
    if separator is None:
        certain = {tag for of_cell in tags if len(of_cell) > 1 for tag in of_cell}
        doubtful = [
            (where, cell)
            for (where, cell), of_cell in zip(cells, tags, strict=True)
            if not certain.issuperset(of_cell) and (BRACKETS.fullmatch(cell) or re.search("[,/|]", cell))
        ]
        if doubtful:
            raise CatalogError(_looks_like_a_list(*doubtful[0], others=len(doubtful) - 1))
    for (where, cell), of_cell in zip(cells, tags, strict=True):
        if any("\n" in tag or "\r" in tag for tag in of_cell):
            raise CatalogError(
                f"{where}: tags {cell!r}: a tag is one line of text; separate them by {sign!r}"
            )
    return [list(dict.fromkeys(of_cell)) for of_cell in tags]


def _looks_like_a_list(where: str, cell: str, others: int) -> str:
    more = f" ({others} more cells do)" if others else ""
    if BRACKETS.fullmatch(cell):
        return (
            f"{where}: tags {cell!r} look like a list as a program prints it{more}: write rock; pop"
            " (in pandas: table['tags'].str.join('; ')). If it is one tag: data.separator=semicolon"
        )
    sign, name = next((sign, name) for name, sign in SEPARATORS.items() if sign in cell and sign != ";")
    return (
        f"{where}: tags {cell!r} look like a list{more}, but tags are separated by ';', not by {sign!r}."
        f" If it is a list: data.separator={name}. If it is one tag: data.separator=semicolon"
    )


def refuse_senseless(tags_of: Iterable[Sequence[str]], where: str, mend: str = "") -> None:
    """Raise `CatalogError` for tags that nothing can be learnt from, given for each clip.

    These are parts of a split as tags, and the same tags on all clips. `mend` ends the second sentence.
    """
    sets = {frozenset(tags) for tags in tags_of}
    tags = sorted(frozenset().union(*sets))
    if not tags:
        raise CatalogError(f"{where}: no file has a tag")
    parts = [tag for tag in tags if tag.casefold() in PART_NAMES]
    if len(parts) > 1:
        raise CatalogError(
            f"{where}: the tags {_list(parts)} are parts of a split. Tags say what is heard; parts go into a"
            " table: tags.csv with the columns path, tags and split (train, valid, test)"
        )
    if len(sets) == 1:
        raise CatalogError(
            f"{where}: every file has the same tags, {_list(tags)}: nothing can be learnt without files"
            f" that do not have them{mend}"
        )


def warn_of_mistakes(catalog: Catalog) -> None:
    """Log what looks wrong with a catalogue's tags, and what to do about it."""
    counts = Counter(tag for clip in catalog.clips for tag in set(clip.tags))
    alike = defaultdict(list)
    for tag in catalog.tags:
        plain = unicodedata.normalize("NFKC", tag).casefold()
        alike["".join(filter(str.isalnum, plain)) or plain].append(tag)
    for same in alike.values():
        if len(same) > 1:
            looks_same = len({unicodedata.normalize("NFC", tag) for tag in same}) < len(same)
            log.warning(
                "the tags %s differ in case, spaces, signs or Unicode form only, and count as %d tags:"
                " write them alike if they are one",
                *(", ".join(map(ascii if looks_same else repr, same)), len(same)),
            )
    for kind, found, advice in (
        (
            "on every clip",
            [tag for index, tag in enumerate(catalog.tags) if counts[index] == len(catalog.clips)],
            "nothing can be learnt about them, and their scores are undefined: leave them out",
        ),
        (
            "words for no tag",
            [tag for tag in catalog.tags if tag.casefold() in NO_TAG],
            "leave the cell empty where a clip has none",
        ),
        (
            "numbers",
            [tag for tag in catalog.tags if tag.isdecimal()],
            "folders of numbered files are no tags: if so, write a table tags.csv (path, tags)",
        ),
    ):
        if found:
            log.warning("tags that are %s: %s: %s", kind, _list(found), advice)


def _list(tags: Sequence[str]) -> str:
    shown = [repr(tag if len(tag) <= LETTERS_SHOWN else f"{tag[:LETTERS_SHOWN]}...") for tag in tags[:SHOWN]]
    return ", ".join(shown + ["..."] * (len(tags) > SHOWN))
