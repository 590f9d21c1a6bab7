"""The project as a whole: its version, what is said of it, and the checks before a commit."""

import importlib.resources
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import samplecnn

ROOT = Path(__file__).parents[1]


COMMAND = str(Path(sys.executable).with_name("samplecnn"))


@pytest.mark.parametrize(
    "command", [[sys.executable, "-m", "samplecnn"], [COMMAND]], ids=["module", "script"]
)
def test_version(command: list[str]) -> None:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"samplecnn {samplecnn.__version__}\n"


def test_the_version_is_the_same_everywhere() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == samplecnn.__version__
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == ["Unreleased", samplecnn.__version__]


def test_the_package_is_typed() -> None:
    assert importlib.resources.files(samplecnn).joinpath("py.typed").is_file()


def test_checks_before_a_commit_are_those_of_make_lint() -> None:
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    lint = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]
    configuration = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [hook["entry"] for hook in configuration["repos"][0]["hooks"]] == lint


def test_the_linter_checks_the_table_of_imports() -> None:
    """What layers and contracts together let a room import is what docs/architecture.md says."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    order, *others = settings["contracts"]
    layers = [re.findall(r"samplecnn\.(\w+)", layer) for layer in order["layers"]]
    rows = re.findall(r"^\| `(\w+)/` \| (.*?) \|", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    rooms = {room for room, _ in rows}
    allowed = {}
    for index, layer in enumerate(layers):
        for room in rooms & set(layer):
            allowed[room] = rooms & {below for lower in layers[index + 1 :] for below in lower}
    for contract in others:
        for source in contract["source_modules"]:
            for forbidden in contract["forbidden_modules"]:
                allowed[source.removeprefix("samplecnn.")].discard(forbidden.removeprefix("samplecnn."))
    for room, words in rows:
        told = rooms - {room} if words == "all" else set(re.findall(r"`(\w+)`", words))
        assert allowed[room] == told, room
    assert {path.parent.name for path in ROOT.glob("src/samplecnn/*/__init__.py")} <= rooms


def test_the_container_file_names_what_is_there() -> None:
    text = (ROOT / "Containerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for name in line.split()]
    assert {"pyproject.toml", "conf", "src"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    (extras,) = re.findall(r'"/source\[(.*)\]"', text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    assert "train" not in extras
