"""Runs sorted into architectures, and architectures into groups: what is averaged, and what is compared.

Runs of one architecture differ in their seed alone, and only over seeds is anything averaged. Architectures
of one group have everything else in common: width, schedule, epochs, precision, ...
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from samplecnn.analysis.published import ALPHA, DAGGER, DAGGER_BLOCKS, SETTINGS, TABLE1
from samplecnn.analysis.tabular import Record, compact
from samplecnn.errors import UserError
from samplecnn.model import blocks
from samplecnn.model.blocks import BLOCKS
from samplecnn.runs.run import Run

LISTED = 6  # runs, or tags, in an error message


class ReportError(UserError):
    """The runs cannot be put into one report."""


@dataclass(frozen=True, eq=False)
class Architecture:
    """A network with its weight decay, and the runs that trained it: they differ in their seed alone."""

    block: str
    options: Mapping[str, Any]  # of the block: alpha; dropout if it is not the paper's; a custom block's own
    multi: bool
    weight_decay: float
    runs: tuple[Run, ...]  # by seed

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs."""
        return tuple(run.seed for run in self.runs)

    @property
    def alpha(self) -> float | None:
        """Amplifying ratio of the excitation, of blocks that have one."""
        value = self.options.get("alpha")
        return float(value) if isinstance(value, int | float) else None

    @property
    def name(self) -> str:
        """The block as the paper writes it, and what is not as in the paper."""
        words = [blocks.title(self.block)]
        if self.weight_decay == DAGGER:
            words[0] += "†"
        elif self.weight_decay:
            words.append(f"decay {compact(self.weight_decay)}")
        for key, value in self.options.items():
            if self.block not in BLOCKS or key != "alpha" or value != ALPHA:
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                words.append(f"{key} {compact(value) if is_number else value}")
        return " ".join(words)

    @property
    def aggregation(self) -> str:
        """Whether the last three blocks are joined."""
        return "multi" if self.multi else "no multi"

    @property
    def label(self) -> str:
        """Name and aggregation."""
        return f"{self.name}, {self.aggregation}"

    @property
    def fields(self) -> Record:
        """What tables say of it."""
        named = {"cell": self.label, "block": self.block, "aggregation": self.aggregation}
        return {**named, "weight_decay": self.weight_decay, "alpha": self.alpha}

    @property
    def default_options(self) -> bool:
        """Whether it is a block of `BLOCKS` with the options of the paper's Table 1."""
        return self.block in BLOCKS and set(self.options) <= {"alpha"} and self.alpha in (None, ALPHA)

    @property
    def in_table1(self) -> bool:
        """Whether the paper's Table 1 has it; blocks with the dagger count without weight decay too."""
        decays = (0.0, DAGGER) if self.block in DAGGER_BLOCKS else (0.0,)
        return self.default_options and self.block in TABLE1 and self.weight_decay in decays

    @property
    def paper_auc(self) -> float | None:
        """ROC-AUC in the paper's Table 1."""
        if not self.in_table1 or (self.block in DAGGER_BLOCKS and not self.weight_decay):
            return None
        return TABLE1[self.block][0 if self.multi else 1]

    def relative_time(self, basic: "Architecture | None") -> float | None:
        """Return the time of an epoch over that of the basic block, on hardware that trained both."""
        ratios = []
        for run in self.runs:
            others = basic.runs if basic else ()
            same = [o.seconds_per_epoch for o in others if o.results.hardware == run.results.hardware]
            if sum(same) > 0:
                ratios.append(run.seconds_per_epoch * len(same) / sum(same))
        return sum(ratios) / len(ratios) if ratios else None


@dataclass(frozen=True, eq=False)
class Group:
    """Architectures that are comparable with each other."""

    settings: Mapping[str, Any]  # dotted keys; what all runs have in common
    architectures: tuple[Architecture, ...]  # in the order of the paper

    def table1(self, block: str, multi: bool) -> Architecture | None:
        """Return an architecture of the paper's Table 1, that with the dagger if there are two."""
        found = [a for a in self.architectures if a.in_table1 and (a.block, a.multi) == (block, multi)]
        return max(found, key=lambda architecture: architecture.weight_decay, default=None)

    def departures(self) -> list[str]:
        """Say what differs from how the paper's networks were trained."""
        return [
            f"{_option(key, value)} (the paper: {_written(paper)})"
            for key, paper in SETTINGS.items()
            if (value := self.settings.get(key, paper)) != paper
        ]


def _option(key: str, value: Any) -> str:
    """Write a setting as on the command line."""
    return f"{key.removesuffix('._target_')}={_written(value)}"


def _written(value: Any) -> str:
    """Write the value of a setting, a class by its name alone."""
    if value is None:
        return "null"
    return value.rpartition(".")[2] if isinstance(value, str) else str(value)


def groups(runs: Sequence[Run]) -> list[Group]:
    """Sort runs of one test split into groups of comparable architectures, the largest group first."""
    own = ("seed", "multi", "weight_decay")

    def shared(run: Run) -> dict[str, Any]:
        return {k: v for k, v in run.settings.items() if k not in own and not k.startswith("block.")}

    by_settings = sorted(_alike(runs, shared), key=lambda entry: -len(entry[1]))
    return [Group(settings, tuple(_architectures(members))) for settings, members in by_settings]


def _alike(runs: Sequence[Run], key: Callable[[Run], Any]) -> list[tuple[Any, list[Run]]]:
    """Put runs together whose keys are equal; a key need not be hashable."""
    found: list[tuple[Any, list[Run]]] = []
    for run in runs:
        value = key(run)
        members = next((members for known, members in found if known == value), None)
        if members is None:
            found.append((value, [run]))
        else:
            members.append(run)
    return found


def _architectures(runs: Sequence[Run]) -> list[Architecture]:
    def identity(run: Run) -> tuple[str, bool, float, dict[str, Any]]:
        options = {k: v for k, v in run.settings.items() if k.startswith("block.")}
        decay = float(run.settings.get("weight_decay") or 0)
        return run.results.block, run.results.multi, decay, options

    order = list(BLOCKS)

    def place(one: Architecture) -> tuple[Any, ...]:
        rank = order.index(one.block) if one.block in order else len(order)
        return rank, one.block, not one.multi, one.weight_decay, one.alpha or 0, one.name

    found = [
        Architecture(block, _options(members[0]), multi, decay, tuple(sorted(members, key=lambda r: r.seed)))
        for (block, multi, decay, _), members in _alike(runs, identity)
    ]
    return sorted(found, key=place)


def _options(run: Run) -> dict[str, Any]:
    """Return a block's options; dropout only where it is not the data set's default (the paper: 0.2)."""
    options = {k.removeprefix("block."): v for k, v in run.settings.items() if k.startswith("block.")}
    options.pop("name", None)
    options.pop("_target_", None)
    if run.results.block in BLOCKS and options.get("dropout") == run.settings.get("data.block_dropout", 0.2):
        options.pop("dropout", None)
    return options


def group_names(found: Sequence[Group]) -> list[str]:
    """Name each group by the settings that are not the same in all groups.

    A class that differs is named. Its options are, too, where groups of one class differ in them.
    """
    keys = sorted({key for group in found for key in group.settings})
    varying = [key for key in keys if len({str(group.settings.get(key)) for group in found}) > 1]

    def implied(key: str) -> bool:
        target = f"{key.rpartition('.')[0]}._target_"
        values: dict[Any, set[str]] = {}
        for group in found:
            values.setdefault(group.settings.get(target), set()).add(str(group.settings.get(key)))
        return key != target and target in varying and all(len(same) == 1 for same in values.values())

    named = [key for key in varying if not implied(key)]
    return [", ".join(_option(key, group.settings.get(key)) for key in named) for group in found]


def one_split(runs: Sequence[Run], only: str | None = None) -> list[Run]:
    """Return the runs if all were tested on the same clips and tags.

    ``only`` keeps runs whose split hash begins so. Raises ReportError where the runs are of several data
    sets, splits or lists of tags, with the runs of each, and where ``only`` fits none.
    """
    chosen = [run for run in runs if only is None or run.results.split_hash.startswith(only)]
    if not chosen:
        known = ", ".join(sorted({run.results.split_hash[:12] for run in runs}))
        raise ReportError(f"--only {only}: no run has a split hash that begins so; there are {known}")

    def tested_on(run: Run) -> tuple[str, ...]:
        return (run.results.data, run.results.split, run.results.split_hash, *run.tags)

    kinds = _alike(chosen, tested_on)
    if len(kinds) == 1:
        return chosen
    message = "these runs were tested on different clips or tags, and their scores cannot be compared:\n"
    for (data, split, digest, *tags), members in kinds:
        count = f"{len(members)} runs" if len(members) > 1 else "1 run"
        message += f"  data {data}, split {split}, {len(tags)} tags, split hash {digest[:12]}: {count}\n"
        if own := [tag for tag in tags if any(tag not in other[3:] for other, _ in kinds)]:
            message += f"    tags that not all have: {', '.join(_first(own))}\n"
        message += "".join(f"    {name}\n" for name in _first([run.name for run in members]))
    several_hashes = len({kind[2] for kind, _ in kinds}) > 1
    choice = (
        "Choose one with --only and the beginning of its split hash, or name" if several_hashes else "Name"
    )
    raise ReportError(f"{message}{choice} the runs of one of them alone")


def _first(names: Sequence[str]) -> list[str]:
    """Return the first names, and how many there are more."""
    more = [f"and {len(names) - LISTED} more"] if len(names) > LISTED else []
    return [*names[:LISTED], *more]
