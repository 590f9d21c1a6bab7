"""What is printed to be pasted: read again by the shell's rules and by Hydra."""

import shlex
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from samplecnn.overrides import command, override

TEXTS = [
    "runs/demo",
    "/data/music",
    "runs/2026-01-31/23-59-59",
    "Köln",
    "/music/(2001) [FLAC]",
    "it's",
    'the "best" of',
    "runs/table1-mini/block=se,multi=True,seed=0",
    "null",
    "TRUE",
    "2001",
    "1e5",
    "~/music",
    "  spaces  ",
    "a\\b",
    "ends with \\",
    'ends with \\"',
    "\\\\",
    "${oc.env:HOME}",
    "\\${now}",
    "$HOME `id` & ; #1 !",
    "{a: 1}",
    "glob(*)",
    "x" * 300 + "/é",
]


@pytest.mark.parametrize("text", TEXTS)
def test_comes_back_as_it_was(text: str) -> None:
    (argument,) = shlex.split(override("data.raw", text))
    (parsed,) = OverridesParser.create().parse_overrides([argument])
    config = OmegaConf.create({"raw": parsed.value()})
    assert (parsed.key_or_group, config.raw) == ("data.raw", text)
    assert not parsed.is_sweep_override()


def test_plain_paths_stay_readable() -> None:
    assert override("resume", Path("runs/2026-01-31/23-59-59")) == "resume=runs/2026-01-31/23-59-59"
    assert override("resume", "/a/b=c") == "'resume=\"/a/b=c\"'"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("/code/train.py", "python prepare.py"),
        ("prepare.py", "python prepare.py"),
        ("/env/bin/samplecnn", "samplecnn prepare"),
        ("/env/lib/samplecnn/__main__.py", "samplecnn prepare"),
        ("", "samplecnn prepare"),
    ],
)
def test_a_command_is_called_as_the_user_does(
    monkeypatch: pytest.MonkeyPatch, program: str, said: str
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    assert command("prepare") == said
