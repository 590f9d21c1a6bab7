"""docs/new-data-set.md as a newcomer follows it: its commands run."""

import json
import re
import shlex
from pathlib import Path

import pytest

from data.shaped import write_audio
from e2e.conftest import ROOT, TINY, World

PAGE = (ROOT / "docs" / "new-data-set.md").read_text()
(COMMANDS,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
TARGET = "data.catalog._target_=experiments.own_data.gtzan.catalog"
LISTS = {"train": range(4), "valid": range(4, 6), "test": range(6, 8)}


@pytest.fixture(scope="module")
def gtzan(world: World) -> Path:
    """Two genres of eight clips, one of them missing, and one that is in no list."""
    raw = world.folder / "music" / "gtzan"
    for number in range(9):
        for genre in ("blues", "metal"):
            write_audio(raw / f"{genre}/{genre}.{number:05}.wav", seed=number + 9 * (genre == "metal"))
    (raw / "metal/metal.00007.wav").unlink()
    for part, numbers in LISTS.items():
        lines = [f"{genre}/{genre}.{number:05}.wav" for genre in ("blues", "metal") for number in numbers]
        (raw / f"{part}_filtered.txt").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    if not (world.folder / "experiments").exists():
        (world.folder / "experiments").symlink_to(ROOT / "experiments")
    return raw


@pytest.mark.slow
def test_the_commands_of_the_page(world: World, gtzan: Path) -> None:
    """As they stand there, trained for a moment."""
    quick = [*TINY, "trainer.max_epochs=1", "logger=none", "batch_size=4", "fast=false"]
    printed = []
    for command in COMMANDS.splitlines():
        program, *arguments = shlex.split(command)
        if program == "python":
            more = quick if arguments[0] == "train.py" else ()
            printed.append(world.run(*arguments, *more).stdout)
        else:
            printed.append(world.run(program, *arguments).stdout)
    assert "15 clips, 2 tags, 1 skipped" in printed[0]
    assert "split filtered, all 2 tags: clips 8 train, 4 valid, 3 test" in printed[0]
    results = json.loads((world.folder / "runs/gtzan/results.json").read_text())
    assert (results["data"], results["split"]) == ("gtzan", "filtered")
    assert 0 <= results["test"]["roc_auc"] <= 1

    (resume,) = re.findall(r"`python (train.py resume=.*?)`", PAGE)
    arguments = shlex.split(resume)
    assert arguments.pop() == TARGET
    refused = world.run(*arguments, status=1)
    assert TARGET in refused.stderr
    world.run(*arguments, TARGET, "trainer.max_epochs=2")
    assert json.loads((world.folder / "runs/gtzan/results.json").read_text())["epochs"] == 2


def test_what_may_go_wrong_is_a_sentence(world: World, gtzan: Path, tmp_path: Path) -> None:
    data = ["--config-dir", "experiments/own_data", "data=gtzan", f"data.root={tmp_path / 'stores'}"]
    for overrides, message in (
        ([f"data.raw={tmp_path}"], rf"^{tmp_path}/train_filtered.txt: cannot be read \(.*No such file.*$"),
        (
            [f"data.raw={gtzan}", "data.catalog._target_=no.such.function"],
            r"^data.catalog._target_=no.such.function cannot be loaded .*: it has to name a function.*$",
        ),
    ):
        (line,) = world.run("prepare.py", *data, *overrides, status=1).stderr.splitlines()
        assert re.match(message, line)
    assert not list(tmp_path.glob("stores/*"))
