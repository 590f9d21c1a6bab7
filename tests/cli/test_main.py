"""The ``samplecnn`` command as a whole."""

import pytest

from samplecnn.cli import main

COMMANDS = ("tag", "evaluate", "example", "data", "excitation", "report", "export", "push", "pull", "serve")


def test_alone_it_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for command in COMMANDS:
        (line,) = (line for line in lines if line.strip().startswith(f"{command} "))
        assert len(line.split()) > 3
