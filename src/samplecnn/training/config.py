"""The configuration: what may be asked for, and what to say of what may not."""

import difflib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from samplecnn.data.datasets import find
from samplecnn.errors import UserError
from samplecnn.overrides import override
from samplecnn.runs.rules import OF_SAMPLECNN, RULES, SAMPLECNN, flat
from samplecnn.training.help import register_help


class ConfigError(UserError):
    """The configuration asks for something impossible."""


CONF = (Path(__file__).parents[1] / "conf").resolve()  # in a checkout a link to its own
PATHS = ("data.raw", "data.root")
FOLDERS = (*PATHS, "init", "resume", "hydra.run.dir", "hydra.sweep.dir")
GROUPS = (
    *("model", "block", "data", "schedule", "optimizer", "average", "augment", "trainer", "logger"),
    *("experiment", "recipe"),
)
OTHERS_LACK = (*OF_SAMPLECNN, "running_statistics")  # keys that mean nothing to other models
# Keys without a rule of their own: options of a model, a block or a schedule are checked by what takes them.
KEYS = re.compile(r"(model|block|schedule)\..+|logger\.\w+|data\.catalog\._target_|experiment")
# Names that other programs have for keys.
OTHER_NAMES = {"lr": "learning_rate", "epochs": "max_epochs", "bs": "batch_size", "gpus": "devices"}


# Resolvers that conf/ uses. Registered on import, which happens in the processes of a launcher too.
OmegaConf.register_new_resolver("run_folder", lambda resume, new: resume or new, replace=True)
OmegaConf.register_new_resolver(
    "named", lambda value, null: null if value is None else Path(str(value)).name, replace=True
)
OmegaConf.register_new_resolver("pick", lambda key, table, other: table.get(key, other), replace=True)


def register() -> None:
    """Make known to Hydra what the yaml files in ``conf/`` refer to; call before ``hydra.main``."""
    # A node whose own flag allows new keys, where the rest of the configuration refuses them.
    open_node = OmegaConf.create({}, flags={"struct": False})
    ConfigStore.instance().store(group="schema", name="open", node=open_node)
    register_help()


def validate(config: DictConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the configuration as plain values with absolute paths, without what means nothing to its model.

    Raises ConfigError that names every impossible value with what is allowed, and what ``overrides``, as
    typed, say of another model.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        plain = None if missing else OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error)) from error
    if missing:
        raise ConfigError(
            f"a value is needed for {', '.join(missing)}: give {missing[0]}=... on the command line"
        )
    assert isinstance(plain, dict)
    model = plain.get("model", {}).get("name", SAMPLECNN)
    lacks = () if model == SAMPLECNN else OTHERS_LACK
    if foreign := [o for o in overrides if re.split(r"[.=]", o.lstrip("+~"))[0] in lacks]:
        raise ConfigError(f"{', '.join(foreign)}: of model={SAMPLECNN} alone, and this is model={model}")
    return check({str(key): value for key, value in plain.items() if key not in lacks})


def started(plain: dict[str, Any], overrides: Sequence[str], locate: Callable[[str], Path]) -> dict[str, Any]:
    """Return a validated configuration with what it takes from the model that ``init`` names, if it does.

    ``locate`` gives the path of a model of that name. Raises what it raises, UserError for what is no
    model, and ConfigError where ``overrides``, as typed, ask for another network than the model's.
    """
    if plain["init"] is None or plain["resume"] is not None:
        return plain
    from samplecnn.training.init import with_model  # only now: it loads PyTorch

    return with_model(plain, overrides, locate(plain["init"]))


def check(plain: dict[str, Any]) -> dict[str, Any]:
    """Return plain values with absolute paths; ConfigError that names every one that is not allowed."""
    values = dict(flat(plain))
    problems = []
    for key, value in values.items():
        if _is_own_option(key, values):
            continue
        name = key.replace("data.catalog.", "data.")  # what our catalogues take are values of `data`
        if name not in RULES and not KEYS.fullmatch(key):
            problems.append(f"{key}: there is no such key")
        elif name in RULES and not RULES[name].holds(value):
            problems.append(f"{name}={value}: must be {RULES[name].allowed}")
    problems += [*_conflicts(values), *_of_init(values)]
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    absolute = {k: str(Path(v).expanduser().resolve()) for k in PATHS if (v := values.get(k)) is not None}
    return {**plain, "data": {**plain["data"], **{k.partition(".")[2]: v for k, v in absolute.items()}}}


def _of_init(values: Mapping[str, Any]) -> Iterator[str]:
    """Say what is wrong with how a trained model is trained further."""
    frozen, rate = values.get("freeze", "none"), values.get("features_rate", 1)
    for key, changed in (("freeze", frozen != "none"), ("features_rate", rate != 1)):
        if changed and values.get("init") is None:
            yield f"{key}={values[key]} needs init, a trained model to start from"
    if frozen == "features" and rate != 1:
        yield f"features_rate={rate}: with freeze=features there are no features that learn"
    if isinstance(frozen, int) and (model := values.get("model.name", SAMPLECNN)) != SAMPLECNN:
        yield f"freeze={frozen}: model={model} has no such blocks; freeze=features works with every network"


def _conflicts(values: Mapping[str, Any]) -> Iterator[str]:
    """Say which values do not go together."""
    schedule = str(values.get("schedule._target_")).removeprefix("samplecnn.training.schedule.")
    epochs = values.get("trainer.max_epochs")
    if schedule in ("OneCycle", "Cosine") and epochs is None:
        yield f"schedule={schedule.lower()} needs trainer.max_epochs, the length of its curve"
    if values.get("average.start") and epochs is None:
        yield (
            f"average.start={values['average.start']} is a share of trainer.max_epochs, which has to be "
            "given; average.start=0 begins with the first epoch"
        )
    if values.get("scale_rate") and "schedule.learning_rate" not in values:
        yield "scale_rate=true needs schedule.learning_rate, which this schedule does not have"
    if values.get("data.train_segments") is not None and values.get("data.random_chunks") is not None:
        yield "data.train_segments and data.random_chunks: one of them, the other has to be null"
    if values.get("schedule.weight_decay") and values.get("weight_decay"):
        yield "weight_decay is of Keras' optimiser; this schedule has schedule.weight_decay in its place"
    if values.get("optimizer.name", "keras_sgd") != "keras_sgd":
        if schedule == "samplecnn.training.won.WonSchedule":
            yield "schedule=won has its own optimisers: leave out optimizer, or choose another schedule"
        if values.get("weight_decay"):
            yield (
                f"weight_decay={values['weight_decay']} is of optimizer=keras_sgd; "
                f"{values['optimizer.name']} has optimizer.weight_decay in its place"
            )


def _is_own_option(key: str, values: Mapping[str, Any]) -> bool:
    """Say whether a key is an option of a user's own class, whatever ours of that name may be."""
    group, _, name = key.partition(".")
    if group == "data":
        return key not in RULES and find(str(values.get("data.catalog._target_"))) is None
    foreign = not str(values.get(f"{group}._target_", "samplecnn.")).startswith("samplecnn.")
    return foreign and group in ("model", "block", "schedule") and name not in ("name", "_target_")


def typed(settings: HydraConf) -> list[str]:
    """Return the overrides of a job as they were typed, interpolations included."""
    overrides = OmegaConf.to_container(OmegaConf.create(settings.overrides.task), resolve=False)
    assert isinstance(overrides, list)
    return [str(override) for override in overrides]


def describe(overrides: Sequence[str]) -> str:
    """Name a run by what was asked for: ``block=se,multi=true``; where things are does not matter."""
    elsewhere = (*PATHS, "logger", "trainer.accelerator", "hydra")
    return ",".join(o for o in overrides if not o.startswith(elsewhere)) or "default"


def without_choice(arguments: Sequence[str]) -> str | None:
    """Say which group of ``conf/`` is null or taken out, which Hydra does not explain; None if none is."""
    for argument in arguments:
        group, _, value = argument.removeprefix("~").partition("=")
        if group in GROUPS and (argument.startswith("~") or "null" in value.split(",")):
            names = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
            return f"{argument}: choose {', '.join(names)}, or leave it out"
    return None


def print_hint(name: str) -> None:
    """Print what the command line, which has failed, may have meant."""
    if hint := explain(sys.argv[1:], CONF, name):
        print(hint, file=sys.stderr)


def explain(arguments: Sequence[str], folder: Path, name: str = "train") -> str | None:
    """Say what a command line that failed may have meant; None if nothing can be said.

    That is the keys which do not exist in the configuration of ``folder``, with those that do, and the
    folders whose names have to be quoted.
    """
    overrides = [a for a in arguments if "=" in a and not a.startswith("-")]
    sweep = any(argument in ("-m", "--multirun") for argument in arguments)
    if lines := [line for o in overrides if (line := explain_folder(o, sweep=sweep))]:
        return "\n".join(lines)
    chosen = [o for o in overrides if o.partition("=")[0] in GROUPS and not re.search("[,(]", o)]
    try:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(folder.resolve()), version_base="1.3"):
            config = compose(name, overrides=chosen)
    except HydraException:
        return None  # a group's value is wrong, of which Hydra has said everything
    return explain_overrides(config, overrides)


def explain_folder(argument: str, *, sweep: bool = False) -> str | None:
    """Say how an override with a folder has to be quoted that Hydra would not read as one text."""
    key, _, value = argument.partition("=")
    parser = OverridesParser.create()
    try:
        parsed = parser.parse_override(argument)
    except HydraException:
        if key.lstrip("+") not in FOLDERS and "/" not in value:
            return None
    else:
        one_text = isinstance(parsed.value(), str | None) or (sweep and parsed.is_sweep_override())
        if one_text or key.lstrip("+") not in FOLDERS:
            return None
    return f"Hydra does not read {value} as one text. Quoted, for Hydra and the shell: {override(key, value)}"


def explain_overrides(config: DictConfig, overrides: Sequence[str]) -> str | None:
    """Say which of the command line's keys do not exist in ``config``, and which do; None if all exist."""
    lines = []
    for changed in overrides:
        key = changed.partition("=")[0].lstrip("+~")
        if key.startswith("hydra") or key in GROUPS:
            continue
        *parents, name = key.split(".")
        node: Any = config
        for depth, parent in enumerate(parents):
            if not isinstance(node, DictConfig) or parent not in node.keys():  # noqa: SIM118 missing values count
                parents, name = parents[:depth], parent
                break
            node = node[parent]
        if not isinstance(node, DictConfig) or name in node.keys() or not OmegaConf.is_struct(node):  # noqa: SIM118
            continue
        where = ".".join(parents)
        names = [n for n in map(str, node) if not n.startswith("_")] + ([] if parents else ["experiment"])
        near = _elsewhere(config, name) or [
            ".".join([*parents, n]) for n in difflib.get_close_matches(name, names, n=1)
        ]
        hint = f"; did you mean {near[0]}?" if near else "."
        lines.append(f"There is no {key!r}{hint} {where or 'The top level'} has: {', '.join(sorted(names))}")
    return "\n".join(lines) or None


def _elsewhere(config: DictConfig, name: str) -> list[str]:
    """Return the dotted key that ends in ``name``, or in what is ``name`` elsewhere, if there is one such."""
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    wanted = OTHER_NAMES.get(name, name)
    found = [key for key, _ in flat(plain) if f".{key}".endswith(f".{wanted}")]  # type: ignore[arg-type]
    return found if len(found) == 1 else []
