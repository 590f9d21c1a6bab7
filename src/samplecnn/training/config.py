"""The configuration: what each value may be, and what to say of one that it may not."""

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from samplecnn.errors import UserError
from samplecnn.runs.rules import RULES


class ConfigError(UserError):
    """The configuration asks for something impossible."""


RESUMABLE = ("trainer", "logger", "fast")
PATHS = ("data.raw", "data.root")
GROUPS = ("block", "data", "schedule", "trainer", "logger", "experiment")
# Keys without a rule of their own: a block's and a data set's options are checked by what takes them.
KEYS = re.compile(r"block\..+|data\..+|schedule\..+|logger\..+|experiment")
# What a run folder may name as its parts; anything else has to come from the command line.
OWN_TARGETS = {
    "block": re.compile(r"samplecnn\.model\.blocks\.(Basic|SE|Res1|Res2|ReSE1|ReSE2)"),
    "schedule": re.compile(r"samplecnn\.training\.schedule\.(PaperSchedule|OneCycle)"),
    "data.catalog": re.compile(r"samplecnn\.data\.datasets\.[a-z]+\.catalog"),
}
MISSING = object()


# Resolvers that conf/ uses. Registered on import, which happens in the processes of a launcher too.
OmegaConf.register_new_resolver("run_folder", lambda resume, new: resume or new, replace=True)
OmegaConf.register_new_resolver("pick", lambda key, table, other: table.get(key, other), replace=True)


def register() -> None:
    """Make known to Hydra what the yaml files in ``conf/`` refer to; call before ``hydra.main``."""
    # A node whose own flag allows new keys, where the rest of the configuration refuses them.
    open_node = OmegaConf.create({}, flags={"struct": False})
    ConfigStore.instance().store(group="schema", name="open", node=open_node)


def _leaves(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key, value in node.items_ex(resolve=False):
        name = prefix + str(key)
        if isinstance(value, DictConfig):
            yield from _leaves(value, f"{name}.")
        else:
            yield name


def validate(config: DictConfig) -> dict[str, Any]:
    """Return the configuration as plain values with absolute paths.

    Raises ConfigError that names every impossible value with what is allowed.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(
            f"a value is needed for {', '.join(missing)}: give {missing[0]}=... on the command line"
        )
    problems = [
        f"{key}: there is no such key"
        for key in _leaves(config)
        if not KEYS.fullmatch(key) and key not in RULES
    ]
    for key, rule in RULES.items():
        value = OmegaConf.select(config, key, default=MISSING)
        if value is not MISSING and not rule.holds(value):
            problems.append(f"{key}={value}: must be {rule.allowed}")
    schedule = str(OmegaConf.select(config, "schedule._target_", default=""))
    if schedule.endswith("OneCycle") and config.trainer.max_epochs is None:
        problems.append("schedule=onecycle needs trainer.max_epochs, the length of its cycle")
    if problems:
        raise ConfigError("\n".join(problems))
    for key in PATHS:
        value = OmegaConf.select(config, key)
        if value is not None:
            OmegaConf.update(config, key, str(Path(value).expanduser().resolve()))
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def resumed(config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the configuration of the run to resume, with what may change from sitting to sitting.

    ``config`` is the validated configuration of this call. Raises ConfigError for an override that would
    make it another run.
    """
    run = Path(config["resume"])
    file = run / "config.yaml"
    if not file.is_file():
        raise ConfigError(f"resume={run}: not a run folder, it has no config.yaml")
    stored = OmegaConf.load(file)
    assert isinstance(stored, DictConfig)
    said: dict[str, str] = {}
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key == "resume":
            continue
        if key.endswith("._target_") and key.removesuffix("._target_") in OWN_TARGETS:
            said[key.removesuffix("._target_")] = override.partition("=")[2]
            continue
        if key.partition(".")[0] not in RESUMABLE and key not in PATHS:
            raise ConfigError(
                f"{override}: a run is resumed with its own configuration; "
                f"only {', '.join(RESUMABLE)} and {', '.join(PATHS)} can change"
            )
        OmegaConf.update(stored, key, OmegaConf.select(OmegaConf.create(config), key), merge=False)
    for part, own in OWN_TARGETS.items():
        target = str(OmegaConf.select(stored, f"{part}._target_"))
        if not own.fullmatch(target) and said.get(part) != target:
            raise ConfigError(
                f"{file} has {part}._target_={target}, which is not of this project. "
                f"To run it, say it again on the command line: {part}._target_={target}"
            )
    return {**validate(stored), "resume": str(run)}


def describe(overrides: Sequence[str]) -> str:
    """Name a run by what was asked for: ``block=se,multi=true``; where things are does not matter."""
    told = [o for o in overrides if not o.startswith((*PATHS, "logger", "trainer.accelerator", "hydra"))]
    return ",".join(told) or "default"


def explain(arguments: Sequence[str], folder: Path, name: str = "train") -> str | None:
    """Say which keys of a command line do not exist in the configuration of ``folder``, and which do."""
    overrides = [a for a in arguments if "=" in a and not a.startswith("-")]
    chosen = [o for o in overrides if o.partition("=")[0] in GROUPS and "," not in o]
    try:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(folder.resolve()), version_base="1.3"):
            config = compose(name, overrides=chosen)
    except HydraException:
        return None  # a group's value is wrong, of which Hydra has said everything
    return explain_overrides(config, overrides)


def explain_overrides(config: DictConfig, overrides: Sequence[str]) -> str | None:
    """Say which of the command line's keys do not exist in ``config``, and which do; None if all exist."""
    lines = []
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if "=" not in override or key.startswith("hydra") or key in GROUPS:
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
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {'.'.join([*parents, near[0]])}?" if near else "."
        lines.append(f"There is no {key!r}{hint} {where or 'The top level'} has: {', '.join(sorted(names))}")
    return "\n".join(lines) or None
