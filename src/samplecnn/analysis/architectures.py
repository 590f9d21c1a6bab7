"""Architectures with their scores, and groups of them that can be compared.

Runs of one architecture differ in their seed alone, and only over seeds is anything averaged. Architectures
of one group have everything else in common: width, schedule, epochs, precision, ...
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any

import numpy as np

from samplecnn.analysis.comparison import Difference, Spread, compare, critical_value, pooled_spread
from samplecnn.analysis.published import ALPHA, DAGGER, DAGGER_BLOCKS, MTAT, SETTINGS, TABLE1, Split
from samplecnn.analysis.statistics import Estimate
from samplecnn.analysis.tabular import Record, compact
from samplecnn.model import blocks
from samplecnn.model.architecture import SAMPLECNN
from samplecnn.model.blocks import BLOCKS
from samplecnn.model.networks import NETWORKS
from samplecnn.runs.results import SplitScores
from samplecnn.runs.run import Run

NO_SCORES = SplitScores(roc_auc=None, pr_auc=None, per_tag={})


@dataclass(frozen=True, eq=False)
class Architecture:
    """A network with its weight decay, and the runs that trained it: they differ in their seed alone."""

    block: str | None  # None: it is not a SampleCNN
    options: Mapping[str, Any]  # of block or model: alpha, what is not the paper's, those of the user's own
    multi: bool | None
    weight_decay: float
    runs: tuple[Run, ...]  # by seed
    scores: SplitScores = NO_SCORES  # means over seeds, with intervals where there are predictions
    roc: Estimate | None = None  # macro ROC-AUC, as differences need it; None where runs have no predictions
    model: str = SAMPLECNN
    recipe: str | None = None  # by name, of runs that compare recipes
    start: str = ""  # the trained model that it starts from, and how; empty: random weights
    clips: int | None = None  # that it was trained on; None: all
    split: Split | None = None  # what it was tested on, if numbers of it are published

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
        """The block or network as its paper writes it, and what is not as in the paper."""
        known = NETWORKS.get(self.model)
        words = [blocks.title(self.block) if self.block else known.title if known else self.model]
        if self.weight_decay == DAGGER:
            words[0] += "†"
        elif self.weight_decay:
            words.append(f"decay {compact(self.weight_decay)}")
        for key, value in self.options.items():
            if self.block not in BLOCKS or key != "alpha" or value != ALPHA:
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                words.append(key if value is True else f"{key} {compact(value) if is_number else value}")
        return " ".join(words)

    @property
    def aggregation(self) -> str:
        """Whether the last three blocks are joined; empty for another network."""
        return "" if self.multi is None else "multi" if self.multi else "no multi"

    @property
    def network(self) -> str:
        """Name and aggregation, and the recipe where recipes are compared."""
        return ", ".join(filter(None, (self.name, self.aggregation, self.recipe)))

    @property
    def label(self) -> str:
        """Name and aggregation; with a trained model to start from or few clips, these too."""
        clips = "" if self.clips is None else f"{self.clips} clips"
        return ", ".join(filter(None, (self.network, self.start, clips)))

    @property
    def fields(self) -> Record:
        """What tables say of it."""
        named = {"cell": self.label, "block": self.block or self.model, "aggregation": self.aggregation}
        return {**named, "weight_decay": self.weight_decay, "alpha": self.alpha}

    @property
    def default_options(self) -> bool:
        """Whether it is a block of `BLOCKS` with the options of the paper's Table 1."""
        return self.block in BLOCKS and set(self.options) <= {"alpha"} and self.alpha in (None, ALPHA)

    @property
    def in_table1(self) -> bool:
        """Whether the paper's Table 1 has it; blocks with the dagger count without weight decay too."""
        decays = (0.0, DAGGER) if self.block in DAGGER_BLOCKS else (0.0,)
        known = self.default_options and self.block in TABLE1 and self.weight_decay in decays
        return known and self.recipe is None and not self.start and self.clips is None

    @property
    def paper_auc(self) -> float | None:
        """ROC-AUC in the paper's Table 1, of what was tested on the same clips."""
        without_dagger = self.block in DAGGER_BLOCKS and not self.weight_decay
        if self.split != MTAT or not self.in_table1 or without_dagger:
            return None
        assert self.block is not None
        return TABLE1[self.block][0 if self.multi else 1]

    def relative_time(self, basic: "Architecture | None") -> float | None:
        """Return the time of an epoch over that of the basic block, on hardware that trained both."""
        ratios = []
        for run in self.runs:
            others = basic.runs if basic else ()
            same = [o.seconds_per_epoch for o in others if o.results.hardware == run.results.hardware]
            if sum(same) > 0:
                ratios.append(run.seconds_per_epoch / fmean(same))
        return fmean(ratios) if ratios else None

    @cached_property
    def by_seed(self) -> list[float]:
        """Macro ROC-AUC of each run that has one."""
        scores = [run.results.test.roc_auc for run in self.runs]
        return [score for score in scores if score is not None]

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the ROC-AUC over seeds; None with fewer than two."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else None

    @property
    def score_fields(self) -> Record:
        """What tables say of the scores."""
        return {
            "roc_auc": self.scores.roc_auc,
            "roc_auc_interval": self.scores.roc_auc_interval,
            "seeds": len(self.runs),
            "roc_auc_sd": self.deviation,
            "pr_auc": self.scores.pr_auc,
            "pr_auc_interval": self.scores.pr_auc_interval,
        }


@dataclass(frozen=True, eq=False)
class Group:
    """Architectures that are comparable with each other."""

    settings: Mapping[str, Any]  # dotted keys; what all runs have in common
    architectures: tuple[Architecture, ...]  # in the order of the paper
    spread: Spread | None  # over seeds, pooled over the architectures that have two or more

    def table1(self, block: str, multi: bool | None) -> Architecture | None:
        """Return an architecture of the paper's Table 1, that with the dagger if there are two."""
        found = [a for a in self.architectures if a.in_table1 and (a.block, a.multi) == (block, multi)]
        return max(found, key=lambda architecture: architecture.weight_decay, default=None)

    def from_scratch(self, one: Architecture) -> Architecture | None:
        """Return what differs from an architecture in that it starts from random weights."""
        found = (a for a in self.architectures if not a.start)
        return next((a for a in found if (a.network, a.clips) == (one.network, one.clips)), None)

    def trained_on(self, *clips: int | None) -> "Group":
        """Return those trained on such numbers of clips (None: all), with their own spread over seeds.

        With a seed the clips change too, so that scores on few clips spread more than those on many.
        """
        some = tuple(one for one in self.architectures if one.clips in clips)
        spread = pooled_spread([one.by_seed for one in some])
        return replace(self, architectures=some, spread=spread or self.spread)

    def departures(self) -> list[str]:
        """Say what differs from how the paper's networks were trained."""
        return [
            f"{option(key, value)} (the paper: {written(paper)})"
            for key, paper in SETTINGS.items()
            if (value := self.settings.get(key, paper)) != paper
        ]

    @property
    def ranked(self) -> list[Architecture]:
        """Those that have a ROC-AUC, the best first."""
        scored = [one for one in self.architectures if one.scores.roc_auc is not None]
        return sorted(scored, key=lambda one: -(one.scores.roc_auc or 0))

    def difference(self, one: Architecture | None, other: Architecture | None) -> Difference | None:
        """Return how much better ``one`` is, None where one of the two has no predictions, or is the other.

        An architecture with a single seed is taken to vary with it as the others do: without that, the one
        that was tried least would have the shortest interval.
        """
        if one is other or one is None or other is None or one.roc is None or other.roc is None:
            return None
        seeds = (len(one.runs), len(other.runs))
        return compare(one.roc, other.roc, self.spread, seeds, self._critical_value)

    @cached_property
    def _critical_value(self) -> float:
        estimates = [(one.roc, len(one.runs)) for one in self.architectures if one.roc]
        return critical_value([roc for roc, _ in estimates], [seeds for _, seeds in estimates], self.spread)


def differing(several: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys in which settings differ.

    Of a class that differs, or a choice by name, the options are left out, but for those in which settings
    of one class differ.
    """

    def kinds(*keys: str) -> int:
        return len({tuple(str(settings.get(key)) for key in keys) for settings in several})

    def implied(key: str) -> bool:
        part = key.rpartition(".")[0]
        choices = {f"{part}._target_", f"{part}.name"} & {*varying} - {key}
        return bool(choices) and kinds(*choices) == kinds(*choices, key)

    varying = [key for key in sorted(set().union(*several)) if kinds(key) > 1]
    return [key for key in varying if not implied(key)]


def option(key: str, value: Any) -> str:
    """Write a setting as on the command line."""
    return f"{key.removesuffix('._target_').removesuffix('.name')}={written(value)}"


def written(value: Any) -> str:
    """Write the value of a setting, a class by its name alone."""
    if value is None:
        return "null"
    return value.rpartition(".")[2] if isinstance(value, str) else str(value)
