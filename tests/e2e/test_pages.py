"""Pages of docs/ on what is one's own: the files that they show are real, and their commands run.

Those of new-data-set.md run in `test_new_data_set.py`.
"""

import contextlib
import csv
import json
import re
import shlex
from pathlib import Path

import pytest

from e2e.conftest import ROOT, TINY, World


def commands(page: str) -> list[str]:
    """Return the commands of a page's shell examples."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize(
    ("page", "code", "configuration", "count"),
    [
        ("new-block.md", "own_block/separable.py", "own_block/block/separable.yaml", 6),
        ("new-schedule.md", "own_schedule/inverse_root.py", "own_schedule/schedule/inverse_root.yaml", 4),
        ("new-network.md", "own_network/bands.py", "own_network/model/bands.yaml", 5),
        ("new-data-set.md", "own_data/gtzan.py", "own_data/data/gtzan.yaml", 5),
    ],
)
def test_the_pages_show_the_files_that_they_name(
    page: str, code: str, configuration: str, count: int
) -> None:
    text = (ROOT / "docs" / page).read_text()
    (shown_code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (shown_configuration,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert (ROOT / "experiments" / code).read_text().endswith(shown_code)
    assert (ROOT / "experiments" / configuration).read_text() == shown_configuration
    assert len(commands(text)) == count


@pytest.mark.slow
def test_the_commands_of_the_page_on_new_blocks(world: World, run: Path) -> None:
    """As they stand there, trained for a moment."""
    with contextlib.suppress(FileExistsError):
        (world.folder / "experiments").symlink_to(ROOT / "experiments")
    for command in commands((ROOT / "docs" / "new-block.md").read_text()):
        program, *arguments = shlex.split(command)
        if program == "python":
            world.run(*arguments, *world.data, *TINY, "trainer.max_epochs=1", "logger=none")
        else:
            world.run(program, *arguments)
    sweep = world.folder / "runs" / "table1-mini"
    told = [json.loads(path.read_text()) for path in sweep.glob("*/results.json")]
    assert {(t["block"], t["seed"]) for t in told} == {(b, s) for b in ("se", "separable") for s in (0, 1)}
    page = (world.folder / "reports" / "separable" / "index.html").read_text()
    assert "separable" in page
    taps = [json.loads(path.read_text()) for path in (world.folder / "runs" / "taps").glob("*/results.json")]
    assert len({t["parameters"] for t in taps}) == 2


@pytest.mark.slow
def test_the_commands_of_the_page_on_new_networks(world: World, run: Path) -> None:
    """As they stand there, trained for a moment."""
    with contextlib.suppress(FileExistsError):
        (world.folder / "experiments").symlink_to(ROOT / "experiments")
    narrow = [setting for setting in TINY if not setting.startswith("width")]
    for command in commands((ROOT / "docs" / "new-network.md").read_text()):
        program, *arguments = shlex.split(command)
        if program == "python":
            world.run(*arguments, *world.data, *narrow, "trainer.max_epochs=2", "logger=none")
        else:
            world.run(program, *arguments)
    sweep = world.folder / "runs" / "table2-mini"
    told = [json.loads(path.read_text()) for path in sweep.glob("*/results.json")]
    assert {t.get("model", t.get("block")) for t in told} == {"bands", "se"}
    page = (world.folder / "reports" / "bands" / "index.html").read_text()
    assert "bands" in page
    described = json.loads((world.folder / "bundles" / "bands" / "config.json").read_text())["model"]
    assert (described["model"], described["sample_rate"]) == ({"name": "bands", "units": 200}, 16_000)


@pytest.mark.slow
def test_the_commands_of_the_page_on_new_schedules(world: World, run: Path) -> None:
    """As they stand there, on a small set; a resumed run has its own settings."""
    with contextlib.suppress(FileExistsError):
        (world.folder / "experiments").symlink_to(ROOT / "experiments")
    for command in commands((ROOT / "docs" / "new-schedule.md").read_text()):
        _, *arguments = shlex.split(command)
        small = [] if "resume=runs/inverse_root" in arguments else [*world.data, *TINY]
        world.run(*arguments, *small, "logger=none")
    rates = [
        float(row["learning_rate"])
        for row in csv.DictReader((world.folder / "runs/inverse_root/metrics.csv").read_text().splitlines())
    ]
    # Steps 3, 6 and 9 of 500 on the way up to 0.02.
    assert rates == pytest.approx([0.02 * step / 500 for step in (3, 6, 9)])
