"""The configuration of a run that goes on, out of a file that may come from anywhere."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from samplecnn.errors import UserError
from samplecnn.training.config import ConfigError
from samplecnn.training.resume import resumed
from training.composing import composed

pytestmark = pytest.mark.usefixtures("hydra")

CALLED: list[str] = []


def call(*_args: object, **_options: object) -> None:
    """What a run's file must not have called."""
    CALLED.append("called")


def stored(run: Path, *overrides: str, **changes: Any) -> dict[str, Any]:
    """Write a run's configuration with some values changed, by dotted keys."""
    config = OmegaConf.create(composed(*overrides))
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value, force_add=True)
    (run / "config.yaml").write_text(yaml.safe_dump(OmegaConf.to_container(config)))
    return composed(*overrides)


def resume(run: Path, *overrides: str) -> dict[str, Any]:
    said = [f"resume={run}", *overrides]
    return resumed(composed(*(o for o in said if "_target_" not in o)), said)


def test_the_run_keeps_its_configuration(tmp_path: Path) -> None:
    before = stored(tmp_path, "block=res2", "seed=7", "trainer.max_epochs=3")
    config = resume(tmp_path, "trainer.max_epochs=5", "logger=none", "fast=false")
    assert (config["seed"], config["block"]) == (7, before["block"])
    assert config["trainer"] == {**before["trainer"], "max_epochs": 5}
    assert config["logger"] == {"name": "none"}
    assert config["fast"] is False
    assert config["resume"] == str(tmp_path)
    with pytest.raises(ConfigError, match="seed=8: a run is resumed with its own configuration"):
        resume(tmp_path, "seed=8")
    with pytest.raises(ConfigError, match="~logger: a run is resumed with its own configuration"):
        resume(tmp_path, "~logger")


def test_stores_and_audio_may_be_elsewhere(tmp_path: Path) -> None:
    before = stored(tmp_path)
    config = resume(tmp_path, f"data.root={tmp_path}", "data.raw=/music")
    assert config["data"] == {**before["data"], "root": str(tmp_path), "raw": "/music"}


def test_the_run_keeps_its_name(tmp_path: Path) -> None:
    stored(tmp_path, logger__run_name="block=se,seed=7")
    for overrides in ([], ["logger=wandb"], ["logger.project=other"]):
        assert resume(tmp_path, *overrides)["logger"]["run_name"] == "block=se,seed=7"
    assert resume(tmp_path, "logger.run_name=mine")["logger"]["run_name"] == "mine"


@pytest.mark.parametrize("key", ["schedule", "data.catalog", "block"])
def test_nothing_foreign_is_imported(tmp_path: Path, key: str) -> None:
    stored(tmp_path, **{f"{key}._target_": "os.system"})
    with pytest.raises(ConfigError, match=rf"{key}\._target_=os\.system.*say it again on the command line"):
        resume(tmp_path)
    assert resume(tmp_path, f"{key}._target_=os.system")["resume"] == str(tmp_path)
    stored(tmp_path, **{f"{key}._target_": "os.system('x')\x1b[2J"})
    with pytest.raises(ConfigError, match="no name of a class") as error:
        resume(tmp_path)
    assert "\x1b" not in str(error.value)


TARGET = {"_target_": f"{__name__}.call"}


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule__learning_rate": TARGET},
        {"schedule__other": TARGET},
        {"schedule__other": [TARGET]},
        {"schedule__other": [{"deep": [TARGET]}]},
        {"data__catalog__raw": TARGET},
        {"data__catalog__shares": [TARGET]},
        {"data__catalog___args_": ["/etc"]},
        {"schedule___partial_": True},
        {"block__option": TARGET},
        {"data__raw": TARGET},
        {"logger__project": TARGET},
        {"elsewhere": TARGET},
        {"trainer__strategy": TARGET},
    ],
)
def test_nothing_nested_is_called(tmp_path: Path, changes: dict[str, Any]) -> None:
    from samplecnn.training.schedules import make_schedule

    CALLED.clear()
    stored(tmp_path, **changes)
    with pytest.raises(UserError):
        make_schedule(resume(tmp_path)["schedule"])
    assert not CALLED


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": "wide"}, "width='wide' must be a whole number"),
        ({"trainer__devices": 0}, "trainer.devices=0 must be"),
        ({"data__other": 3}, "config.yaml: data.other: there is no such key"),
        ({"data__catalog__clips": "many"}, "config.yaml: data.clips=many: must be"),
        ({"data__catalog__other": 3}, "data.catalog.other: there is no such key"),
        ({"whatever": 3}, "whatever: there is no such key"),
        ({"logger__project": 3}, "logger.project=3"),
    ],
)
def test_known_keys_with_known_types_alone(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    stored(tmp_path, **changes)
    with pytest.raises(UserError) as error:
        resume(tmp_path)
    assert words in str(error.value)


def test_no_interpolation_out_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hush")
    stored(tmp_path)
    file = tmp_path / "config.yaml"
    file.write_text(file.read_text().replace("project: samplecnn", "project: ${oc.env:SECRET}"))
    with pytest.raises(UserError, match="interpolation") as error:
        resume(tmp_path)
    assert "hush" not in str(error.value)


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"resume=.* must be null or a run folder, which has"):
        resume(tmp_path)


def test_a_block_and_a_schedule_of_one_s_own_are_said_again(tmp_path: Path) -> None:
    stored(
        tmp_path,
        *("block=custom", "block.name=mine", "block._target_=my.Block", "block.taps=5"),
        *("schedule=custom", "schedule._target_=my.Schedule", "schedule.peaks=[1,2]"),
    )
    with pytest.raises(ConfigError, match=r"block\._target_=my\.Block"):
        resume(tmp_path, "schedule._target_=my.Schedule")
    config = resume(tmp_path, "block._target_=my.Block", "schedule._target_=my.Schedule")
    assert config["block"] == {"name": "mine", "_target_": "my.Block", "taps": 5}
    assert config["schedule"] == {"_target_": "my.Schedule", "peaks": [1, 2]}
