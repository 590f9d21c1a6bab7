"""What is read of the command line."""

import argparse

import pytest

from samplecnn.cli.common import positive, share


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
