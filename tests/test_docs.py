"""Every command in the README and the docs is one that exists: composed by Hydra or parsed, and not run."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from samplecnn.cli import parser
from samplecnn.training import config as configuration
from samplecnn.training.config import validate
from samplecnn.training.planning import grid, without_hydra

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "experiments").rglob("README.md")),
]
OURS = re.compile(r"(?<![\w/])(train\.py|prepare\.py|samplecnn (?=[a-z-]))")


def commands(page: Path) -> list[str]:
    """Return the shell commands in a page's blocks of code, each on one line, without their comments."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    lines += re.findall(r"^ {4}((?:python|samplecnn|make) .*)$", text, re.MULTILINE)
    return [line for line in lines if not line.startswith("#")]


def ours(name: str) -> list[tuple[str, list[str]]]:
    """Return the page and the arguments of all commands of one of our programs."""
    found = []
    for page in PAGES:
        for line in commands(page):
            match = OURS.search(line)
            if match is None or match[0].strip() != name:
                continue
            words = shlex.split(line[match.end() :], comments=True)
            if ">" in words:
                words = words[: words.index(">")]
            found.append((page.name, words))
    return found


def cases(name: str) -> list[object]:
    """Return the commands as parameters of a test, each once."""
    once = {tuple(words): page for page, words in ours(name)}
    return [pytest.param(list(words), id=f"{page}: {' '.join(words)}") for words, page in once.items()]


@pytest.fixture
def hydra(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(ROOT)  # where --config-dir is said from
    configuration.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def compose(name: str, words: list[str], mode: RunMode) -> DictConfig:
    """Return Hydra's own configuration of a command line."""
    overrides = [f"hydra.mode={mode.name}"]
    rest = iter(words)
    for word in rest:
        if word == "--config-dir":
            overrides.append(f"hydra.searchpath=[file://{next(rest)}]")
        elif word not in ("-m", "--help") and not word.startswith("resume="):  # the run is the reader's
            overrides.append(word)
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    config = hydra.compose_config(name, overrides, run_mode=mode, from_shell=False)
    HydraConfig.instance().set_config(config)
    return config


def check(config: DictConfig, overrides: list[str]) -> None:
    """Raise ConfigError if the values of a job are none that it takes."""
    validate(without_hydra(config), overrides)


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize("words", cases("train.py"))
def test_what_is_said_to_train_composes(words: list[str]) -> None:
    if "recipe=base,mine" in words:  # a file that the reader is to write
        ConfigStore.instance().store("mine", {"recipe": "mine"}, group="recipe", package="_global_")
    if "-m" not in words:
        check(compose("train", words, RunMode.RUN), words)
        return
    config = compose("train", words, RunMode.MULTIRUN)
    cells = grid(config)
    loader = GlobalHydra.instance().config_loader()
    for cell in (cells[0], cells[-1]):
        check(loader.load_sweep_config(config, cell), cell)


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize("words", cases("prepare.py"))
def test_what_is_said_to_prepare_composes(words: list[str]) -> None:
    check(compose("prepare", words, RunMode.RUN), words)


@pytest.mark.parametrize("words", cases("samplecnn"))
def test_what_is_said_of_the_command_is_parsed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        options = parser().parse_args(words)
    except SystemExit:
        pytest.fail(capsys.readouterr().err)
    assert callable(options.command)


def test_the_commands_are_found() -> None:
    """Nothing above is empty by a mistake of this file's own."""
    assert min(map(len, map(ours, ("train.py", "prepare.py", "samplecnn")))) >= 10
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    said = {word.split()[1] for page in PAGES for word in commands(page) if word.startswith("make ")}
    assert {"demo", "test"} <= said <= set(targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    files = [link.partition("#")[0] for link in links if not re.match(r"https?:|mailto:|#", link)]
    assert [name for name in files if not (page.parent / name).exists()] == []


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"(docs/{page.name})" not in readme] == []
