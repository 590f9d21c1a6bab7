"""Multiruns as they are planned: composed by Hydra from the project's own conf folder, and not run."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from inference.models import checkpoint
from samplecnn.analysis.published import ALPHAS, DAGGER, DECAY_BLOCKS, DECAYS
from samplecnn.model.networks import NETWORKS
from samplecnn.runs.sweep_plan import read_plan
from samplecnn.training.config import ConfigError, validate
from samplecnn.training.planning import Cell, compose_cells, grid, plan, require_launcher, write_plan
from samplecnn.training.sweep import SweepGuard, title
from training.composing import CONF

pytestmark = pytest.mark.usefixtures("hydra")

PAPER_BLOCKS = ("basic", "se", "res1", "res2", "rese1", "rese2")  # of the paper's Table 1
EXPERIMENTS = ("table1", "alpha", "weight_decay", "table2", "table2_msd", "timing", "few")


def multirun(*overrides: str) -> DictConfig:
    """Return Hydra's own configuration of ``train.py -m OVERRIDES``."""
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    said = ["hydra.mode=MULTIRUN", *overrides]
    config = hydra.compose_config("train", said, run_mode=RunMode.MULTIRUN, from_shell=False)
    HydraConfig.instance().set_config(config)
    return config


def planned(*overrides: str) -> dict[str, dict[str, Any]]:
    """Return the configuration of every cell of ``train.py -m OVERRIDES``, by its folder."""
    return {str(cell.folder): config for cell, config in compose_cells(multirun(*overrides))}


def varied(config: dict[str, Any]) -> tuple[str, bool, float, float | None]:
    block = config["block"]
    return block["name"], config["multi"], config["weight_decay"], block.get("alpha")


def test_table1() -> None:
    cells = planned("experiment=table1")
    assert {varied(cell)[:3] for cell in cells.values()} == {
        (block, multi, DAGGER if block == "rese2" else 0.0)
        for block in PAPER_BLOCKS
        for multi in (True, False)
    }
    default = validate(compose("train"))
    for folder, cell in cells.items():
        block, multi = cell["block"]["name"], cell["multi"]
        assert folder == f"runs/table1-mini/block={block},multi={multi},seed=0"
        assert cell["block"].get("alpha", 16) == 16
        assert {**cell, **{key: default[key] for key in ("block", "multi", "weight_decay")}} == default


def test_the_dagger_is_the_table_s_alone() -> None:
    assert validate(compose("train", overrides=["block=rese2"]))["weight_decay"] == 0
    assert (
        validate(compose("train", overrides=["block=rese2", "experiment=table1"]))["weight_decay"] == DAGGER
    )


def test_alpha() -> None:
    cells = planned("experiment=alpha")
    assert [varied(cell) for cell in cells.values()] == [("se", True, 0, alpha) for alpha in ALPHAS]
    assert "runs/alpha-mini/block=se,alpha=0.125,seed=0" in cells


def test_weight_decay() -> None:
    cells = planned("experiment=weight_decay")
    assert [varied(cell)[:3] for cell in cells.values()] == [
        (block, True, decay) for block in DECAY_BLOCKS for decay in DECAYS
    ]


def test_table2_trains_every_network_alike() -> None:
    cells = planned("experiment=table2", "rate=16000")
    names = {folder.partition("model=")[2].partition(",")[0] for folder in cells}
    assert names == NETWORKS.keys() | {"shortchunk_res", "dieleman_raw", "se", "rese2"}
    assert len(cells) == 11
    assert {(cell["model"]["name"], cell.get("block", {}).get("name")) for cell in cells.values()} == {
        *((name, None) for name in NETWORKS),
        ("samplecnn", "se"),
        ("samplecnn", "rese2"),
    }
    for cell in cells.values():
        assert cell["schedule"]["_target_"] == "samplecnn.training.won.WonSchedule"
        assert (cell["batch_size"], cell["data"]["random_chunks"], cell["rate"]) == (16, 1, 16_000)
    paper = planned("experiment=table2", "schedule=paper", "model=fcn,se", "seed=0,1")
    assert len(paper) == 4
    with pytest.raises(ConfigError, match="block=res1: of model=samplecnn alone, and this is model=fcn"):
        planned("experiment=table2", "block=res1")


def test_table2_has_no_regularisation() -> None:
    cells = planned("experiment=table2_msd")
    assert list(cells) == ["runs/table2-msd/block=se,seed=0", "runs/table2-msd/block=rese2,seed=0"]
    for cell in cells.values():
        assert cell["data"]["name"] == "msd"
        assert cell["data"]["split"] == "published"
        assert cell["multi"] is True
        assert (cell["weight_decay"], cell["dropout"], cell["block"].get("dropout", 0)) == (0, 0, 0)


def test_few_clips_with_and_without_a_model(tmp_path: Path) -> None:
    cells = planned("experiment=few", "seed=0")
    assert [cell["data"]["train_clips"] for cell in cells.values()] == [10, 30, 100, None]
    assert list(cells)[0::3] == [f"runs/few-mini/clips={n},init=none,seed=0" for n in (10, "all")]
    model = checkpoint(tmp_path / "model.ckpt", "res1")
    said = ["experiment=few", "data=folder", "data.name=mine", f"init=null,{model}"]
    cells = planned(*said, "freeze=none")
    assert len(cells) == 5 * 2 * 3
    folder = "runs/few-mine/clips=300,init={},seed=2"
    scratch, tuned = (cells[folder.format(name)] for name in ("none", "model.ckpt"))
    assert (scratch["block"]["name"], tuned["block"]["name"], tuned["width"]) == ("se", "res1", 3)
    assert "init_sha256" not in scratch
    with pytest.raises(ConfigError, match="init=null freeze=features\\nfreeze=features needs init"):
        planned(*said, "freeze=features")
    with pytest.raises(ConfigError, match="init=nowhere\\nthere is no run folder or checkpoint nowhere"):
        planned("experiment=few", "init=nowhere")


def test_timing_has_an_odd_number_of_epochs_for_its_median() -> None:
    cells = planned("experiment=timing")
    assert [varied(cell)[:2] for cell in cells.values()] == [(block, True) for block in PAPER_BLOCKS]
    assert {cell["trainer"]["max_epochs"] % 2 for cell in cells.values()} == {1}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_command_line_wins(experiment: str) -> None:
    """Each key of a cell that an experiment sets, and some that it does not."""
    said = ["width=32", "schedule=onecycle", "trainer.max_epochs=8", "trainer.limit_train_batches=7"]
    said += ["data=folder", "data.name=mine", "seed=3,4", "dropout=0.1", "fast=false", "logger=none"]
    grids = {
        "alpha": ["block.alpha=3"],
        "table2": ["model=samplecnn", "block=res2"],
        "few": ["block=res2", "data.train_clips=10"],
    }
    grid = grids.get(experiment, ["block=res2"])
    cells = planned(f"experiment={experiment}", *said, *grid, "multi=false", "weight_decay=0.25")
    assert len(cells) == 2
    for seed, (folder, cell) in zip((3, 4), cells.items(), strict=True):
        assert folder.startswith(f"runs/{experiment.removesuffix('_msd')}-mine/")
        assert (cell["seed"], cell["width"], cell["dropout"], cell["fast"]) == (seed, 32, 0.1, False)
        assert cell["schedule"]["_target_"].endswith("OneCycle")
        assert (cell["trainer"]["max_epochs"], cell["trainer"]["limit_train_batches"]) == (8, 7)
        expected = ("se", False, 0.25, 3) if experiment == "alpha" else ("res2", False, 0.25, None)
        assert varied(cell) == expected


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_commands_at_its_head(experiment: str) -> None:
    """They compose, and what they train lands in the folder that the report is made of."""
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    commands = re.findall(r"#     python train.py -m (.+)", text)
    reports = re.findall(r"samplecnn report (\S+)", text)
    assert commands
    assert len(reports) == 1
    for command in commands:
        overrides = shlex.split(command, comments=True)
        assert f"experiment={experiment}" in overrides
        config = multirun(*overrides)
        (folder,) = planned(*grid(config)[-1])
        assert re.fullmatch(r"runs/[\w-]+/[\w.,=-]+", folder, re.ASCII)  # safe on any file system
    assert str(Path(folder).parent) == reports[0]


@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_launchers_change_nothing_but_where_a_cell_is_computed(launcher: str) -> None:
    said = ["experiment=table1", "block=rese2", "multi=false"]
    with_launcher = multirun(*said, f"hydra/launcher={launcher}")
    require_launcher(with_launcher)
    assert {str(c.folder): config for c, config in compose_cells(with_launcher)} == planned(*said)


def test_a_single_cell_lands_where_the_grid_puts_it() -> None:
    said = ["experiment=table1", "block=res1", "multi=false", "seed=2"]
    alone = compose("train", overrides=said, return_hydra_config=True)
    assert [alone.hydra.run.dir] == list(planned(*said))


def test_every_cell_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"block.alpha=-1 seed=0.*\n.*must be a number greater than 0"):
        plan(multirun("experiment=alpha", "block.alpha=2,-1"))
    with pytest.raises(ConfigError, match=r"block=basic .*\n.*block.alpha"):
        plan(multirun("experiment=table1", "block.alpha=2"))


def test_a_multirun_resumes_nothing(tmp_path: Path) -> None:
    """Its cells would train anew, each in a folder of its own."""
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError, match=r"resume=.*\n.*resume one run at a time, without -m"):
        plan(multirun(f"resume={tmp_path}", "logger=none"))


def test_a_glob_is_planned_like_any_list() -> None:
    cells = plan(multirun("block=glob(res*)", "seed=0"))
    assert {cell.overrides[0] for cell in cells} == {
        f"block={b}" for b in PAPER_BLOCKS if b.startswith("res")
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("block=glob(*)", r"block=custom\n.*a value is needed for block\._target_"),
        ("block=glob(nothing*)", "This grid has no cell"),
        ("seed=shuffle(1,2,3)", "leave out the shuffling"),
        ("seed=shuffle(range(1,4))", "leave out the shuffling"),
        ("dropout=interval(0,1)", "does not support sweep type"),
        ("dropout='${nowhere}'", "'nowhere' not found"),
        ("data.split=range(3,0)", "This grid has no cell"),
        ("~trainer", "~trainer=null\nthe configuration has no trainer"),
        ("~seed", "~seed=null\nthe configuration has no seed"),
    ],
)
def test_what_cannot_be_planned_stops_with_a_reason(tmp_path: Path, override: str, message: str) -> None:
    """Hydra makes a warning of every exception but SystemExit, and trains."""
    with pytest.raises(SystemExit, match=message):
        SweepGuard().on_multirun_start(multirun(override, f"hydra.sweep.dir={tmp_path}"))


def test_a_sweeper_that_chooses_as_it_goes_is_refused() -> None:
    config = OmegaConf.create(OmegaConf.to_container(multirun("seed=0", "hydra.sweep.dir=runs/any")))
    assert isinstance(config, DictConfig)
    config.hydra.sweeper._target_ = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"
    with pytest.raises(SystemExit, match="chooses as it goes"):
        SweepGuard().on_multirun_start(config)


def test_a_job_that_was_not_planned_is_not_trained(tmp_path: Path) -> None:
    config = multirun("seed=0,1", f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir='seed=${seed}'")
    settings = OmegaConf.create({"sweep": {"dir": str(tmp_path), "subdir": "seed=1"}})
    with pytest.raises(ConfigError, match="was not planned"):
        title(settings)  # type: ignore[arg-type]
    write_plan(plan(config))
    assert title(settings) == ("seed=1", "cell 2 of 2")  # type: ignore[arg-type]


def test_two_cells_of_one_name() -> None:
    with pytest.raises(
        ConfigError, match=r"one folder, runs/table1-mini/block=se,multi=True,seed=0:(.*\n)*.*width=64"
    ):
        plan(multirun("experiment=table1", "block=se", "multi=true", "width=32,64"))
    name = "hydra.sweep.subdir='width=${width}'"
    assert list(planned("experiment=table1", "block=se", "multi=true", "width=32,64", name)) == [
        "runs/table1-mini/width=32",
        "runs/table1-mini/width=64",
    ]


def test_numbered_folders_and_one_time_for_all() -> None:
    folders = list(planned("block=se,basic", "seed=0,1"))
    assert [Path(folder).name for folder in folders] == ["0", "1", "2", "3"]
    assert len({Path(folder).parent for folder in folders}) == 1


def test_several_data_sets_are_several_sweeps(tmp_path: Path) -> None:
    where = f"hydra.sweep.dir={tmp_path}/table1-${{data.name}}"
    cells = plan(multirun("experiment=table1", "block=se", "data=mini,mtat", "multi=true,false", where))
    write_plan(cells)
    for name in ("mini", "mtat"):
        written = read_plan(tmp_path / f"table1-{name}")
        assert set(written) == {"block=se,multi=True,seed=0", "block=se,multi=False,seed=0"}
        assert all(f"data={name}" in overrides for overrides in written.values())


def test_plans_of_one_folder_add_up(tmp_path: Path) -> None:
    first = Cell(tmp_path, "a", ["seed=0"])
    write_plan([first, Cell(tmp_path, "b", ["seed=1"])])
    write_plan([Cell(tmp_path, "c", ["seed=2"])])
    assert read_plan(tmp_path) == {"a": ["seed=0"], "b": ["seed=1"], "c": ["seed=2"]}
    assert read_plan(tmp_path / "none") == {}


@pytest.mark.parametrize(
    "text", ["", "[" * 100_000, "[[]]", "null", '{"../up": ["x"], "/etc": ["x"], "a": 3, "b": ["x"]}']
)
def test_a_plan_that_somebody_else_wrote(tmp_path: Path, text: str) -> None:
    (tmp_path / "cells.json").write_text(text)
    assert set(read_plan(tmp_path)) <= {"b"}


def test_a_launcher_that_is_not_installed() -> None:
    config = OmegaConf.to_container(multirun("hydra/launcher=local"))
    assert isinstance(config, dict)
    config["hydra"]["launcher"]["_target_"] = "hydra_plugins.hydra_nowhere_launcher.launcher.Nowhere"
    with pytest.raises(ConfigError, match=r'local is not installed: pip install "samplecnn\[launchers\]"'):
        require_launcher(OmegaConf.create(config))
