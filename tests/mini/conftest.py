"""The built-in set at a small size, which these tests have in common."""

from pathlib import Path

import pytest

from samplecnn.mini import render_mini

CLIPS = 32


@pytest.fixture(scope="module")
def finished(shared: Path) -> Path:
    """The set that tests/e2e train on as well, rendered once for all."""
    raw = shared / "data" / "raw" / "mini"
    render_mini(raw, clips=CLIPS, seed=0, workers=2)
    return raw


def contents(raw: Path) -> dict[str, bytes]:
    """Everything in a folder but the lock file."""
    files = (path for path in raw.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(raw)): path.read_bytes() for path in files}
