"""Commands as a user types them: their names, and overrides ``key=value``, quoted for Hydra and the shell."""

import re
import shlex
import sys
from pathlib import Path

# What Hydra reads as the text that it is. Folders such as `Köln`, `(2001)`, `a=b` and `null` are not.
_PLAIN = re.compile(r"/?[A-Za-z_][\w.-]*(/[\w.-]+)*", re.ASCII)
_NOT_TEXT = {"null", "true", "false", "nan", "inf"}


def command(name: str) -> str:
    """Return how the user calls ``train`` or ``prepare``: as a checkout's script if one of these runs."""
    return f"python {name}.py" if sys.argv[0].endswith(("train.py", "prepare.py")) else f"samplecnn {name}"


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
