"""Text out of files, made fit to be shown: names and tags come from anywhere."""

import reprlib
import unicodedata
from collections.abc import Iterable

JOINERS = "\u200c\u200d"  # in the words of some scripts; they steer nothing
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of a formula

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 80


def is_printable(text: str) -> bool:
    """Say whether a text has nothing in it that would steer a terminal: no escapes, no turns of direction."""
    return all(map(_harmless, text))


def printable(text: str) -> str:
    r"""Return a text for a terminal, on one line, with an escape such as \x1b for what would steer it."""
    return "".join(
        letter if _harmless(letter) else letter.encode("unicode_escape").decode() for letter in text
    )


def lines(text: object) -> str:
    """Return a message of several lines for a terminal, each as `printable` returns it."""
    return "\n".join(map(printable, str(text).split("\n")))


def _harmless(letter: str) -> bool:
    return letter.isprintable() or letter in JOINERS or unicodedata.category(letter) == "Zs"


def counted(number: int, one: str, several: str | None = None) -> str:
    """Return a number with its word: ``1 file``, ``2 files``; ``several`` is for other plurals."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def unique(names: Iterable[str]) -> list[str]:
    """Number names that were there before, also in other letters: ["a", "A"] becomes ["a", "A (2)"]."""
    made: dict[str, str] = {}
    for name in names:
        number, new = 1, name
        while new.casefold() in made:
            number += 1
            new = f"{name} ({number})"
        made[new.casefold()] = new
    return list(made.values())


def csv_text(text: str) -> str:
    """Return a text for a CSV file: printable, and with ``'`` in front of what spreadsheets would compute."""
    shown = printable(text)
    return f"'{shown}" if text.startswith(FORMULA) else shown


def shown(value: object) -> str:
    """Return a value for a message about it: as Python writes it, but short, flat and printable."""
    return printable(_short.repr(value))
