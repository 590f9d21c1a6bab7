"""What the commands print of names that come from files."""

import numpy as np
import pytest

from samplecnn.cli.evaluate import print_scores
from samplecnn.runs.metrics import score


def test_tags_are_neither_markup_nor_terminal_codes(capsys: pytest.CaptureFixture[str]) -> None:
    tags = ("[/rock]", "[red]pop", "\x1b[2Jjazz", "back\\")
    labels = np.array([[1, 0, 1, 0], [0, 1, 0, 1]])
    print_scores(score(tags, labels, np.array([[0.9, 0.1, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4]])))
    printed = capsys.readouterr().out
    for shown in ("[/rock]", "[red]pop", r"\x1b[2Jjazz", "back\\"):
        assert shown in printed
    assert "\x1b" not in printed
