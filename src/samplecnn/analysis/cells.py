"""Runs sorted into cells, and cells into groups: what may be averaged, and what may stand in one table.

A cell is one architecture with its weight decay; only the seed differs between its runs, and only over seeds
is anything averaged. Cells of a group have everything else in common: width, schedule, epochs, precision, ...
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from samplecnn.analysis.tables import compact
from samplecnn.runs.run import Run

BLOCKS = {
    "basic": "Basic",
    "se": "SE",
    "res1": "Res-1",
    "res2": "Res-2",
    "rese1": "ReSE-1",
    "rese2": "ReSE-2",
}
DAGGER = 1e-4  # the paper's weight decay, of ReSE-2 alone
ALPHA = 16.0
# How the paper's networks were trained on MagnaTagATune, in the configuration's terms.
PAPER = {
    "width": 128,
    "dropout": 0.5,
    "batch_size": 23,
    "schedule._target_": "samplecnn.training.schedule.PaperSchedule",
    "schedule.learning_rate": 0.01,
    "schedule.stages": 5,
    "schedule.factor": 0.2,
    "schedule.patience": 2,
    "schedule.decay": 1e-6,
    "trainer.max_epochs": None,
    "trainer.limit_train_batches": None,
}


class ReportError(ValueError):
    """The runs cannot be put into one report."""


@dataclass(frozen=True, eq=False)
class Cell:
    """Runs that differ in their seed alone."""

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
        told = [BLOCKS.get(self.block, self.block)]
        if self.weight_decay == DAGGER:
            told[0] += "†"
        elif self.weight_decay:
            told.append(f"decay {compact(self.weight_decay)}")
        for key, value in self.options.items():
            if self.block not in BLOCKS or key != "alpha" or value != ALPHA:
                told.append(f"{key} {value}")
        return " ".join(told)

    @property
    def aggregation(self) -> str:
        """Whether the last three blocks are joined."""
        return "multi" if self.multi else "no multi"

    @property
    def label(self) -> str:
        """Name and aggregation."""
        return f"{self.name}, {self.aggregation}"

    @property
    def usual(self) -> bool:
        """Whether it is one of the paper's blocks with the options of its Table 1."""
        return self.block in BLOCKS and set(self.options) <= {"alpha"} and self.alpha in (None, ALPHA)

    @property
    def in_table1(self) -> bool:
        """Whether the paper's Table 1 has such a cell; ReSE-2 also without its weight decay."""
        return self.usual and self.weight_decay in ((0.0, DAGGER) if self.block == "rese2" else (0.0,))


@dataclass(frozen=True, eq=False)
class Group:
    """Cells that are comparable with each other."""

    settings: Mapping[str, Any]  # dotted keys; what all runs have in common
    cells: tuple[Cell, ...]  # in the order of the paper

    @property
    def runs(self) -> list[Run]:
        """All runs, cell by cell."""
        return [run for cell in self.cells for run in cell.runs]

    def table1(self, block: str, multi: bool) -> Cell | None:
        """Return a cell of the paper's Table 1, ReSE-2 with its weight decay if there is one."""
        of_block = [c for c in self.cells if c.in_table1 and (c.block, c.multi) == (block, multi)]
        return max(of_block, key=lambda cell: cell.weight_decay, default=None)

    def departures(self) -> list[str]:
        """Say what differs from how the paper's networks were trained."""
        return [
            f"{key.removesuffix('._target_')}={_plain(value)} (the paper: {_plain(paper)})"
            for key, paper in PAPER.items()
            if (value := self.settings.get(key, paper)) != paper
        ]


def _plain(value: Any) -> str:
    """Write a setting as on the command line, a class by its name."""
    return (
        "null" if value is None else str(value).rpartition(".")[2] if isinstance(value, str) else str(value)
    )


def groups(runs: Sequence[Run]) -> list[Group]:
    """Sort runs of one data set into groups of comparable cells, the largest group first."""
    sorted_runs: list[tuple[dict[str, Any], list[Run]]] = []
    for run in runs:
        own = ("seed", "multi", "weight_decay")
        settings = {
            key: value
            for key, value in run.settings.items()
            if key not in own and not key.startswith("block.")
        }
        for known, members in sorted_runs:
            if known == settings:
                members.append(run)
                break
        else:
            sorted_runs.append((settings, [run]))
    sorted_runs.sort(key=lambda entry: -len(entry[1]))
    return [Group(settings, tuple(_cells(members))) for settings, members in sorted_runs]


def _cells(runs: Sequence[Run]) -> list[Cell]:
    members: list[tuple[tuple[Any, ...], list[Run]]] = []
    for run in runs:
        decay = float(run.settings.get("weight_decay") or 0)
        block = {k: v for k, v in run.settings.items() if k.startswith("block.")}
        key = (run.results.block, run.results.multi, decay, block)
        for known, entry in members:
            if known == key:
                entry.append(run)
                break
        else:
            members.append((key, [run]))
    cells = [
        Cell(block, _options(entry[0]), multi, decay, tuple(sorted(entry, key=lambda run: run.seed)))
        for (block, multi, decay, _), entry in members
    ]
    order = list(BLOCKS)

    def place(cell: Cell) -> tuple[Any, ...]:
        rank = order.index(cell.block) if cell.block in order else len(order)
        return rank, cell.block, not cell.multi, cell.weight_decay, cell.alpha or 0, cell.name

    return sorted(cells, key=place)


def _options(run: Run) -> dict[str, Any]:
    """Return a block's options; dropout only where it is not the data set's default (the paper: 0.2)."""
    options = {k.removeprefix("block."): v for k, v in run.settings.items() if k.startswith("block.")}
    usual = {"dropout": run.settings.get("data.block_dropout", 0.2)} if run.results.block in BLOCKS else {}
    known = {"name": options.get("name"), "_target_": options.get("_target_"), **usual}
    return {key: value for key, value in options.items() if key not in known or known[key] != value}


def differing(found: Sequence[Group]) -> list[str]:
    """Name each group by the settings that are not the same in all groups.

    What follows from a class that is named (the options of a schedule, where groups of one schedule all have
    the same) is left out.
    """
    keys = sorted({key for group in found for key in group.settings})
    varying = [key for key in keys if len({str(group.settings.get(key)) for group in found}) > 1]

    def follows(key: str) -> bool:
        target = f"{key.rpartition('.')[0]}._target_"
        values: dict[Any, set[str]] = {}
        for group in found:
            values.setdefault(group.settings.get(target), set()).add(str(group.settings.get(key)))
        return key != target and target in varying and all(len(same) == 1 for same in values.values())

    told = [key for key in varying if not follows(key)]
    return [
        ", ".join(f"{key.removesuffix('._target_')}={_plain(group.settings.get(key))}" for key in told)
        for group in found
    ]
