"""What is read of the command line."""

import argparse
import os
from pathlib import Path

import pytest

from samplecnn.cli.common import newest_run, positive, share
from samplecnn.errors import UserError


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "²", "many"])
def test_whole_numbers(text: str) -> None:
    assert positive("12") == 12
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number of at least 1"):
        positive(text)


@pytest.mark.parametrize("text", ["-0.1", "1.1", "nan", "", "half"])
def test_shares(text: str) -> None:
    assert (share("0"), share("0.3"), share("1")) == (0, 0.3, 1)
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number from 0 to 1"):
        share(text)


def test_the_newest_run_that_finished_and_has_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no model"):
        newest_run(tmp_path)
    for number, name in enumerate(("old", "sweep/new", "probe of before")):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "results.json").touch()
        os.utime(tmp_path / name / "results.json", (number, number))
        if number < 2:
            (tmp_path / name / "checkpoints" / "best.ckpt").touch()
    assert newest_run(tmp_path) == tmp_path / "sweep" / "new"
