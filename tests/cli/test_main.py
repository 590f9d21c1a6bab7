"""The ``samplecnn`` command as a whole."""

import re
import shlex

import pytest

from samplecnn.cli import main, parser

COMMANDS = (
    *("tag", "runs", "evaluate", "example", "data", "excitation", "report", "export", "models"),
    *("import", "import-keras", "push", "pull", "serve", "use", "doctor", "embed", "thresholds", "probe"),
)


def test_alone_it_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {match[1] for line in lines if (match := re.match(r"    ([a-z-]+)( |$)", line))}
    assert listed == {*COMMANDS, "train", "prepare"}
    for command in listed:
        (line,) = (line for line in lines if re.match(f"    {command}( |$)", line))
        assert len(line.split()) > 3 or lines[lines.index(line) + 1].startswith(" " * 10)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_its_words_and_has_examples_that_are_right(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    shown = capsys.readouterr().out
    examples = [line for line in shown.splitlines() if line.startswith(f"  samplecnn {command} ")]
    examples += [line for line in shown.splitlines() if line == f"  samplecnn {command}"]
    assert len(examples) >= 2
    for example in examples:
        _, *arguments = shlex.split(example.partition(">")[0])
        assert parser().parse_args(arguments).name == command
    for word, meaning in (("RUN", "RUN is a run folder"), ("STORE", "STORE is a prepared data set")):
        if f" {word}" in shown.partition("options:")[0]:
            assert meaning in shown
