"""Overrides of the configuration as a user types them: ``key=value``, quoted for Hydra and for the shell."""

import re
import shlex
from pathlib import Path

# What Hydra reads as the text that it is. Folders such as `Köln`, `(2001)`, `a=b` and `null` are not.
_PLAIN = re.compile(r"/?[A-Za-z_][\w.-]*(/[\w.-]+)*", re.ASCII)
_NOT_TEXT = {"null", "true", "false", "nan", "inf"}


def override(key: str, value: str | Path) -> str:
    """Return ``key=value`` such that a command line that it is pasted into gets this very text.

    >>> print(override("resume", "runs/a=b"))
    'resume="runs/a=b"'
    """
    return shlex.quote(f"{key}={_quoted(str(value))}")


def _quoted(text: str) -> str:
    """Return a text as Hydra's grammar and OmegaConf's interpolations leave it alone."""
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    # Backslashes are doubled where a quotation mark follows, the closing one included.
    return '"' + re.sub(r'(\\*)("|\Z)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), literal) + '"'
