"""The table of published weights."""

import re

import pytest

from inference.known.files import BASELINES
from samplecnn.data.download import GIT_BLOB, checksum
from samplecnn.inference.known.catalog import KNOWN, with_blob
from samplecnn.inference.known.layouts import LAYOUTS
from samplecnn.inference.known.tags import TAGS
from samplecnn.text import is_printable

KIM = ("SE, multi-level, of Kim et al.", "ReSE-2, multi-level, of Kim et al.")


def test_what_is_in_it_can_be_read() -> None:
    titles = {layout.title for layout in LAYOUTS} | set(KIM)
    for name, known in KNOWN.items():
        assert known.name == name
        assert name.startswith(f"{known.data}-")
        assert known.data in TAGS
        assert known.title in titles
        assert known.url.startswith("https://")
        assert known.git_blob is None or re.fullmatch(r"[0-9a-f]{40}", known.git_blob)
        assert known.git_blob or known.title in KIM or re.search(r"/raw/[0-9a-f]{40}/", known.url)
        assert is_printable(known.source)
    assert len({known.url for known in KNOWN.values()}) == len(KNOWN)
    blobs = [known.git_blob for known in KNOWN.values() if known.git_blob]
    assert len(set(blobs)) == len(blobs)


@pytest.mark.skipif(not BASELINES.exists(), reason="published weights (shared/baselines) are not here")
@pytest.mark.parametrize("name", ["fcn", "crnn", "musicnn"])
def test_the_real_files_are_known(name: str) -> None:
    file = BASELINES / f"mtat_{name}.pth"
    known = with_blob(checksum(file, GIT_BLOB))
    assert known == KNOWN[f"mtat-{name}"]
    assert known.bytes == file.stat().st_size
