"""What the command line may say, composed by Hydra from the project's own conf folder."""

import inspect
import re
import shlex
from pathlib import Path

import pytest
import yaml
from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import get_class

from samplecnn.model.blocks import BLOCKS
from samplecnn.model.networks import NETWORKS
from samplecnn.runs.config import LATER, config_hash
from samplecnn.runs.rules import flat
from samplecnn.training import config as configuration
from samplecnn.training.config import ConfigError, describe, explain, validate
from samplecnn.training.planning import cells
from samplecnn.training.schedules import SCHEDULES, make_schedule
from training.composing import CONF, composed

pytestmark = pytest.mark.usefixtures("hydra")


def test_the_defaults_are_the_paper_s() -> None:
    config = composed()
    assert config["block"] == {"name": "se", "_target_": "samplecnn.model.blocks.SE", "alpha": 16}
    assert (config["multi"], config["width"], config["dropout"]) == (True, 128, 0.5)
    assert (config["batch_size"], config["weight_decay"]) == (23, 0)
    assert {k: v for k, v in config["schedule"].items() if k != "_target_"} == {
        "learning_rate": 0.01,
        "stages": 5,
        "factor": 0.2,
        "patience": 2,
        "decay": 1e-6,
    }


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_has_its_options_and_no_others(block: str) -> None:
    """Those of its class, with the same defaults: the class has them for who builds networks in Python."""
    config = composed(f"block={block}")["block"]
    assert (config.pop("name"), get_class(config.pop("_target_"))) == (block, BLOCKS[block])
    parameters = inspect.signature(BLOCKS[block]).parameters.values()
    assert config == {p.name: p.default for p in parameters if p.default is not p.empty}
    if "alpha" not in config:
        with pytest.raises(HydraException, match=r"block\.alpha"):
            composed(f"block={block}", "block.alpha=8")


def test_every_model_has_its_options_and_no_others() -> None:
    """Those of its class, with the same defaults; dropout is a key of its own, with the class's default."""
    files = {path.stem for path in (CONF / "model").glob("*.yaml")}
    variants: dict[str, dict[str, object]] = {
        "shortchunk_res": {"res": True},
        "dieleman_raw": {"input": "raw"},
        "se": {},
        "rese2": {},
    }
    assert files == NETWORKS.keys() | {"samplecnn", "custom", *variants}
    for name in NETWORKS:
        config = composed(f"model={name}")
        model = config["model"]
        assert (model.pop("name"), get_class(model.pop("_target_"))) == (name, NETWORKS[name])
        defaults = {p.name: p.default for p in inspect.signature(NETWORKS[name]).parameters.values()}
        assert config["dropout"] == defaults.pop("dropout")
        del defaults["tags"]
        assert {key: value for key, value in model.items() if key != "dropout"} == defaults
        assert not {"block", "multi", "width", "running_statistics"} & config.keys()
        assert composed(f"model={name}", "dropout=0.25")["dropout"] == 0.25
        assert composed(f"model={name}", "data=msd")["dropout"] == 0
    for name, options in variants.items():
        model = composed(f"model={name}")["model"]
        assert options.items() <= model.items()


@pytest.mark.parametrize("block", ["se", "rese2"])
def test_a_block_as_a_model(block: str) -> None:
    assert composed(f"model={block}") == composed(f"block={block}")


@pytest.mark.parametrize(
    "key", ["block=se", "block.alpha=8", "+multi=true", "width=64", "running_statistics=keras"]
)
def test_what_another_model_does_not_have_is_refused(key: str) -> None:
    said = ["model=fcn", key.lstrip("+")]
    message = f"{re.escape(key)}: of model=samplecnn alone, and this is model=fcn"
    with pytest.raises(ConfigError, match=message.replace("\\+", r"\+")):
        validate(compose("train", overrides=said), ["model=fcn", key])
    validate(compose("train", overrides=said[1:]), said[1:])


def test_runs_of_before_there_were_other_models_keep_their_hash() -> None:
    config = composed("data=mtat", "data.top=50")
    before = {key: value for key, value in config.items() if key not in (*LATER, "recipe")}
    later = ("random_chunks", "train_clips")
    before["data"] = {k: v for k, v in config["data"].items() if k not in later}
    assert config_hash(before) == config_hash(config)
    assert config_hash(config) == "2d5fa694c7850d78"  # as version 0.1 had it
    assert config_hash(composed("data=mtat", "data.top=50", "recipe=base")) == config_hash(config)  # a name
    for override in (
        *("model=fcn", "rate=16000", "data.random_chunks=1", "model.name=mine"),
        *("optimizer=adamw", "average=ema", "label_smoothing=0.1", "augment=waveform"),
    ):
        assert config_hash(composed("data=mtat", "data.top=50", override)) != config_hash(config)


def test_every_schedule_has_its_file() -> None:
    for name, schedule in SCHEDULES.items():
        config = composed(f"schedule={name}", "trainer.max_epochs=3")["schedule"]
        assert type(make_schedule(config)) is schedule
    assert SCHEDULES.keys() | {"custom"} == {path.stem for path in (CONF / "schedule").glob("*.yaml")}


@pytest.mark.parametrize(
    ("schedule", "rates"), [("paper", (0.01, 1e-3)), ("onecycle", (0.1, 1e-3)), ("cosine", (0.1, 1e-3))]
)
def test_rates_fit_the_optimizer(schedule: str, rates: tuple[float, float]) -> None:
    said = [f"schedule={schedule}", "trainer.max_epochs=3"]
    for optimizer, rate in zip(("keras_sgd", "adamw"), rates, strict=True):
        assert composed(*said, f"optimizer={optimizer}")["schedule"]["learning_rate"] == rate
    own = composed(*said, "optimizer=adamw", "schedule.learning_rate=3e-4")
    assert own["schedule"]["learning_rate"] == 3e-4


RECIPES = {
    "base": {},
    "paper": {"schedule"},
    "cosine": {"schedule"},
    "adamw": {"optimizer", "schedule.learning_rate"},
    "ema": {"average"},
    "swa": {"average"},
    "smoothing": {"label_smoothing"},
    "augment": {"augment"},
    "mixup": {"augment"},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_changes_one_thing(recipe: str) -> None:
    base, config = (dict(flat(composed("experiment=recipes", f"recipe={name}"))) for name in ("base", recipe))
    changed = {key for key in {**base, **config} if base.get(key) != config.get(key)} - {"recipe"}
    assert config["recipe"] == recipe
    assert all(any(key.startswith(wanted) for wanted in RECIPES[recipe]) for key in changed), changed
    assert bool(changed) == (recipe != "base")


def test_every_recipe_is_compared() -> None:
    listed = yaml.safe_load((CONF / "experiment" / "recipes.yaml").read_text())
    compared = listed["hydra"]["sweeper"]["params"]["recipe"].split(",")
    assert compared[0] == "base"
    assert set(compared) == {path.stem for path in (CONF / "recipe").glob("*.yaml")}


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_every_experiment_composes(experiment: str) -> None:
    composed(f"experiment={experiment}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("multi=maybe", "multi=maybe: must be true or false"),
        ("multi=1", "multi=1: must be true or false"),
        ("block.alpha=-1", r"block\.alpha=-1: must be a number greater than 0"),
        ("block.alpha=nan", r"block\.alpha=nan: must be a number greater than 0"),
        ("trainer.max_epochs=0", r"trainer\.max_epochs=0: must be a whole number of at least 1, or null"),
        ("trainer.max_epochs=2.5", r"trainer\.max_epochs=2\.5"),
        ("trainer.precision=fp8", r"trainer\.precision=fp8: must be one of auto, 32, 16-mixed, bf16-mixed"),
        ("width=0", "width=0: must be a whole number of at least 1"),
        ("width=wide", "width=wide"),
        ("batch_size=1", "batch_size=1: must be a whole number of at least 2"),
        ("dropout=1", "dropout=1: must be a number from 0"),
        ("weight_decay=-1e-4", r"weight_decay=-0\.0001: must be a number of at least 0"),
        ("seed=-1", "seed=-1"),
        ("data.top=0", r"data\.top=0"),
        ("data=folder data.shares=[1,2]", r"data\.shares=\[1, 2\]: must be three numbers"),
        ("data=jamendo data.excerpt_start=end", r"data\.excerpt_start=end: must be one of start, middle"),
        ("data=msd data.threshold=100", r"data\.threshold=100: must be a number from 0"),
        ("data.clips=3", r"data\.clips=3: must be a whole number of at least 16"),
        ("data.name=../elsewhere", r"data\.name=\.\./elsewhere: must be a name of letters"),
        ("schedule=onecycle", r"schedule=onecycle needs trainer\.max_epochs"),
        ("rate=0", "rate=0: must be a whole number of 1,000 to 1,000,000 Hz, or null"),
        ("rate=44.1k", "rate=44.1k: must be a whole number of 1,000"),
        ("model=shortchunk model.res=maybe", r"model\.res=maybe: must be true or false"),
        ("model=dieleman model.input=wav", r"model\.input=wav: must be one of mel, raw"),
        ("data.random_chunks=0", r"data\.random_chunks=0: must be a whole number of at least 1, or null"),
        (
            "data=msd data.random_chunks=1 data.train_segments=1",
            r"train_segments and data\.random_chunks: one",
        ),
        ("schedule=won schedule.sgd_epochs=[0,1]", r"schedule\.sgd_epochs=\[0, 1\]: must be a list of whole"),
        ("schedule=won schedule.sgd_rates=1", r"schedule\.sgd_rates=1: must be a list of numbers"),
        ("schedule=won weight_decay=1e-4", "this schedule has schedule.weight_decay in its place"),
        ("augment=waveform augment.pitch=1.5", r"augment\.pitch=1\.5: must be a number from 0 to 1"),
        ("augment=waveform augment.noise=-0.1", r"augment\.noise=-0\.1: must be a number from 0 to 1"),
        ("augment=waveform augment.gain_db=3", r"augment\.gain_db=3: must be two numbers from -60 to 40"),
        (
            "augment=waveform augment.gain_db=[6,-6]",
            r"gain_db=\[6, -6\]: must be .* the lower first, such as",
        ),
        (
            "augment=waveform augment.reverb_wet=[0,2]",
            r"reverb_wet=\[0, 2\]: must be two numbers from 0 to 1",
        ),
        ("augment=waveform augment.low_pass_hz=[0,9]", r"low_pass_hz=\[0, 9\]: must be two numbers from 20"),
        ("augment=waveform augment.mixup_alpha=0", r"mixup_alpha=0: must be a number greater than 0, up to"),
        ("augment=waveform +augment.echo=1", r"augment\.echo: there is no such key"),
        ("resume=no/such/run", "resume=no/such/run: must be null or a run folder"),
        ("block=custom", r"a value is needed for block\._target_, block\.name"),
        ("schedule=custom", r"a value is needed for schedule\._target_"),
        ("schedule=cosine", r"schedule=cosine needs trainer\.max_epochs"),
        ("schedule=cosine schedule.final=1", r"schedule\.final=1: must be a number from 0 up to"),
        ("average=swa", r"average\.start=0\.75 is a share of trainer\.max_epochs, which has to be given"),
        ("average=ema average.decay=1", r"average\.decay=1: must be a number from 0 up to"),
        ("label_smoothing=1", "label_smoothing=1: must be a number from 0 up to, but not including, 1"),
        ("optimizer=adamw optimizer.betas=[0.9]", r"optimizer\.betas=\[0\.9\]: must be two numbers"),
        ("optimizer=adamw optimizer.weight_decay=-1", r"optimizer\.weight_decay=-1: must be a number"),
        ("optimizer=adamw weight_decay=1e-4", r"adamw has optimizer\.weight_decay in its place"),
        ("optimizer=adamw schedule=won", "schedule=won has its own optimisers"),
        ("schedule=custom schedule._target_=my.S scale_rate=true", r"needs schedule\.learning_rate"),
        ("dropout='${nowhere}'", "Interpolation key 'nowhere' not found"),
        ("+widht=3", "widht: there is no such key"),
        ("+data.clip=3", r"data\.clip: there is no such key"),
        ("+trainer.max_epoch=3", r"trainer\.max_epoch: there is no such key"),
        ("+logger.colour.of=red", r"logger\.colour\.of: there is no such key"),
        ("~trainer schedule=onecycle", r"schedule=onecycle needs trainer\.max_epochs"),
        ("~trainer average=swa", r"average\.start=0\.75 is a share of trainer\.max_epochs"),
        ("logger.name=mlflow", r"logger\.name=mlflow: must be one of wandb, csv, tensorboard, none"),
    ],
)
def test_impossible_values(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        composed(*override.split())


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        composed("multi=maybe", "width=0", "block.alpha=0")
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["widht=3"], ["no 'widht'", "did you mean width?"]),
        (["trainer.max_epoch=3"], ["no 'trainer.max_epoch'", "did you mean trainer.max_epochs?"]),
        (["block=basic", "block.alpha=8"], ["no 'block.alpha'", "block has: name"]),
        (["shedule.stages=3"], ["no 'shedule.stages'", "did you mean schedule?"]),
        (["-m", "block=basic,se", "mutli=true,false"], ["did you mean multi?"]),
        (["-m", "block=glob(*)", "mutli=true,false"], ["did you mean multi?"]),
        (["epochs=3"], ["did you mean trainer.max_epochs?"]),
        (["max_epochs=3"], ["did you mean trainer.max_epochs?"]),
        (["lr=0.1"], ["did you mean schedule.learning_rate?"]),
        (["trainer.epochs=3"], ["did you mean trainer.max_epochs?"]),
        (["alpha=8"], ["did you mean block.alpha?"]),
    ],
)
def test_misspelt_keys_are_explained(arguments: list[str], words: list[str]) -> None:
    said = explain(arguments, CONF)
    assert said is not None
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    "folder", ["Köln", "/music/(2001)", "[FLAC]", "it's", "a=b", "2001", "/a,b", "~/music"]
)
@pytest.mark.parametrize("key", ["data.raw", "resume", "hydra.run.dir"])
def test_folders_that_hydra_takes_apart_come_back_quoted(key: str, folder: str) -> None:
    said = explain([f"{key}={folder}"], CONF)
    assert said is not None
    (argument,) = shlex.split(said.partition("the shell: ")[2])
    (parsed,) = OverridesParser.create().parse_overrides([argument])
    assert (parsed.key_or_group, parsed.value()) == (key, folder)
    assert explain([argument], CONF) is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "data.root=/a,/b"],  # folders of a sweep
        ["block=se", "multi=true", "trainer.max_epochs=3", "hydra.run.dir=x"],
    ],
)
def test_nothing_to_explain(arguments: list[str]) -> None:
    assert explain(arguments, CONF) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["-m", "~data", "data.root=there"],
            "~data: choose folder, jamendo, mini, msd, mtat, or leave it out",
        ),
        (["seed=1", "~average=none"], "~average=none: choose ema, none, swa, or leave it out"),
        (["average=ema,null"], "average=ema,null: choose ema, none, swa, or leave it out"),
        (["~block.alpha", "block=se", "init=null", "~seed"], None),
    ],
)
def test_a_group_needs_a_choice(arguments: list[str], said: str | None) -> None:
    assert configuration.without_choice(arguments) == said


def test_options_of_one_s_own_are_one_s_own() -> None:
    """Also where a block or schedule of the project has one of that name."""
    mine = ["schedule=custom", "schedule._target_=my.Schedule", "schedule.warmup=500", "schedule.stages=many"]
    assert composed(*mine)["schedule"] == {"_target_": "my.Schedule", "warmup": 500, "stages": "many"}
    model = ["model=custom", "model.name=mine", "model._target_=my.Network", "model.res=5"]
    assert composed(*model)["model"] == {"name": "mine", "_target_": "my.Network", "res": 5}
    block = ["block=custom", "block.name=mine", "block._target_=my.Block", "block.alpha=-1", "block.taps=5"]
    assert composed(*block)["block"] == {"name": "mine", "_target_": "my.Block", "alpha": -1, "taps": 5}
    with pytest.raises(ConfigError, match=r"block\.name=a b: must be a name"):
        composed(*block, "block.name='a b'")


def test_no_regularisation_on_msd() -> None:
    """The paper: "None of the regularizations are used on MSD"; what one asks for oneself still counts."""
    config = composed("data=msd", "block=rese2")
    assert (config["dropout"], config["block"]["dropout"], config["weight_decay"]) == (0, 0, 0)
    own = composed("data=msd", "block=rese2", "dropout=0.5", "block.dropout=0.1")
    assert (own["dropout"], own["block"]["dropout"]) == (0.5, 0.1)


def test_paths_become_absolute() -> None:
    data = composed("data.root=somewhere")["data"]
    assert Path(data["root"]) == Path("somewhere").resolve()
    assert Path(data["raw"]) == Path("somewhere/raw/mini").resolve()


def test_cells_are_those_of_hydra() -> None:
    assert cells(["block=basic,se", "seed=0", "multi=true,false"]) == [
        ["block=basic", "seed=0", "multi=True"],
        ["block=basic", "seed=0", "multi=False"],
        ["block=se", "seed=0", "multi=True"],
        ["block=se", "seed=0", "multi=False"],
    ]
    assert cells(["seed=range(0,3)"]) == [["seed=0"], ["seed=1"], ["seed=2"]]
    assert cells(["schedule.learning_rate=0.01,0.1"]) == [
        ["schedule.learning_rate=0.01"],
        ["schedule.learning_rate=0.1"],
    ]


def test_names_say_what_was_asked_for() -> None:
    assert describe(["block=se", "multi=true", "data.root=/tmp/x", "logger=none"]) == "block=se,multi=true"
    assert describe([]) == "default"
