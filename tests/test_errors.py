"""What users are told of errors that are not of this project."""

import socket
import urllib.error

import pytest

from samplecnn.errors import network_reason


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "no network, or no such host"),
        (
            urllib.error.URLError(socket.gaierror(-3, "Temporary failure in name resolution")),
            "no network, or",
        ),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (TimeoutError("timed out"), "timed out"),
        (RuntimeError("first line\nsecond line"), "first line"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_errors_of_a_network_in_words(error: Exception, words: str) -> None:
    said = network_reason(error)
    assert said.startswith(words)
    assert "Errno" not in said
