"""What ``samplecnn train --help`` prints: the comments of the yaml files, and the rules of their keys."""

import re
from pathlib import Path
from typing import Any

import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from samplecnn.runs.rules import RULES, flat

COMMENT = re.compile(r"(\w+):[^#]*?(?:#\s*(.*))?")
FOOTER = """
-m (--multirun) trains every combination of values such as block=se,res2 seed=0,1. --cfg job prints the whole
configuration, and --hydra-help what else Hydra takes. A folder with spaces or other letters than A to Z is
quoted twice: 'data.raw="/music/Köln (1975)"'
"""


def register_help() -> None:
    """Make ``${explained_keys:}`` known to Hydra's template of the help."""
    OmegaConf.register_new_resolver("explained_keys", lambda *, _root_: explain_keys(_root_), replace=True)


def explain_keys(config: DictConfig) -> str:
    """Return the help on a composed configuration: its groups and keys, with values and what they mean."""
    (folder,) = (
        Path(source.path)
        for source in config.hydra.runtime.config_sources
        if source.provider == "main" and source.schema == "file"
    )
    primary = folder / f"{config.hydra.job.config_name}.yaml"
    loader = GlobalHydra.instance().config_loader()
    lines = [_head(primary), "", "Groups of settings, chosen by GROUP=NAME:", ""]
    comments = _comments(primary)
    choices = {group: name for group, name in config.hydra.runtime.choices.items() if "/" not in group}
    for group, choice in sorted(choices.items()):
        others = [name for name in loader.get_group_options(group) if name != choice]
        lines.append(f"  {group}={_written(choice)}".ljust(26) + f"or {', '.join(others)}" * bool(others))
        if choice is not None:
            of_group = _comments(folder / group / f"{choice}.yaml")
            comments |= {f"{group}.{key}": comment for key, comment in of_group.items()}
    lines += ["", "Keys, with the values that this command line gives them:", ""]
    plain: Any = OmegaConf.to_container(config, resolve=False)
    shown = [key for key, _ in flat(plain) if _is_shown(key)]
    for key in sorted(shown, key=lambda key: "." in key):  # the single ones first
        value = _written(OmegaConf.select(config, key, throw_on_missing=False))
        rule = f"[{RULES[key].allowed}]" if key in RULES else ""
        meaning = f"{comments.get(key, '')} {rule}".strip()
        lines.append(f"  {key}={value}".ljust(33) + f" {meaning}")
    return "\n".join(line.rstrip() for line in lines).replace("$", "$$") + "\n" + FOOTER


def _is_shown(key: str) -> bool:
    """Say whether a dotted key is there to be set; names of classes and a catalogue's are not."""
    *parents, name = key.split(".")
    return not (name.startswith("_") or {"hydra", "catalog"} & {*parents})


def _written(value: Any) -> str:
    """Return a value as the command line takes it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _head(file: Path) -> str:
    """Return the comment at the head of a yaml file."""
    text = file.read_text(encoding="utf-8")
    lines = text[: text.index("\ndefaults:")].splitlines()
    return "\n".join(line.removeprefix("#").strip() for line in lines)


def _comments(file: Path) -> dict[str, str]:
    """Return the comments beside the keys of a yaml file, and of those that it builds on."""
    if not file.is_file():  # of a folder that --config-dir names
        return {}
    text = file.read_text(encoding="utf-8")
    comments: dict[str, str] = {}
    for base in yaml.safe_load(text).get("defaults", []):
        if isinstance(base, str) and base != "_self_":
            comments |= _comments(file.with_name(f"{base}.yaml"))
    found = (COMMENT.fullmatch(line) for line in text.splitlines())
    return comments | {match[1]: match[2] for match in found if match and match[2]}
