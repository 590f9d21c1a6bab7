"""Runs of one test split, scored under the same draws and sorted into architectures and groups."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samplecnn.analysis.architectures import Architecture, Group, differing, option
from samplecnn.analysis.comparison import pooled_spread
from samplecnn.analysis.published import published_split
from samplecnn.analysis.statistics import Bootstrap, Estimate, bootstrap, split_scores
from samplecnn.errors import UserError
from samplecnn.model.architecture import SAMPLECNN, own_rate
from samplecnn.model.blocks import BLOCKS
from samplecnn.model.networks import NETWORKS
from samplecnn.runs.config import LATER
from samplecnn.runs.results import SplitScores, TagScores, mean_of_defined
from samplecnn.runs.rules import flat
from samplecnn.runs.run import Run
from samplecnn.text import counted

LISTED = 6  # runs, or tags, in an error message
BASE = "base"  # the recipe that others are compared with
NOT_OF_A_RECIPE = ("data.", "trainer.", "width", "rate")  # the beginnings of its keys
OF_THE_NETWORK = ("block.", "model.", "multi")


@dataclass(frozen=True, eq=False)
class Draws:
    """The bootstrap of all runs of a report that have predictions."""

    sampled: Bootstrap
    runs: Sequence[Run]  # the models of the bootstrap

    def models(self, runs: Sequence[Run]) -> list[int] | None:
        """Return where runs are among the models, None if one of them has no predictions."""
        found = [self.runs.index(run) for run in runs if run in self.runs]
        return found if len(found) == len(runs) else None


def draw(runs: Sequence[Run], *, draws: int, seed: int) -> Draws | None:
    """Resample the test clips, the same draws for all runs; None if no run has predictions.

    Raises UserError where runs of one split were tested on different clips.
    """
    having = [(run, run.predictions) for run in runs if run.predictions is not None]
    if not having:
        return None
    first, reference = having[0]
    for run, said in having:
        of_same = said.tags == reference.tags and said.clip_ids == reference.clip_ids
        if not of_same or not np.array_equal(said.labels, reference.labels):
            raise UserError(
                f"{run.name} and {first.name} say that they are of one split, but their predictions.npz "
                "hold other clips, tags or labels: leave one of them out"
            )
    said_by_all = [said.probabilities for _, said in having]
    sampled = bootstrap(reference.labels, said_by_all, draws=draws, seed=seed)
    return Draws(sampled, [run for run, _ in having])


def groups(runs: Sequence[Run], draws: Draws | None = None) -> list[Group]:
    """Sort runs of one test split into groups of comparable architectures, the largest group first.

    They are scored, with intervals out of ``draws``.
    """
    own = ("seed", "multi", "weight_decay", "init_sha256", "freeze", "features_rate", "data.train_clips")
    # What no other network has, or has by its own paper, does not keep it apart from SampleCNN.
    first = next((run.settings for run in runs if run.results.block is not None), {})
    of_samplecnn = ("width", "running_statistics", "dropout")
    typical: dict[str, Any] = {k: first[k] for k in of_samplecnn if k in first}
    heard = first.get("rate", own_rate(SAMPLECNN))

    def compared(run: Run) -> dict[str, Any]:
        settings = dict(run.settings)
        if run.results.block is None:
            settings |= typical
            if first and settings.get("rate") in (None, heard):  # at its own rate, or that of SampleCNN
                settings["rate"] = first.get("rate")
        named = {key: value for key, value in settings.items() if value is not None and key not in own}
        return {key: value for key, value in named.items() if not key.startswith(("block.", "model."))}

    def shared(run: Run) -> dict[str, Any]:
        return in_common(compared(run)) if run.config.recipe is not None else compared(run)

    by_settings = sorted(_alike(runs, shared), key=lambda entry: -len(entry[1]))
    found = []
    for settings, members in by_settings:
        one, *others = map(compared, members)
        alike = {key: value for key, value in one.items() if all(value == o.get(key) for o in others)}
        architectures = _architectures(members, draws)
        spread = pooled_spread([one.by_seed for one in architectures])
        found.append(Group({**alike, **settings}, tuple(architectures), spread))
    return found


def in_common(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that recipes must have in common to be compared."""
    common = {key: value for key, value in settings.items() if key.startswith(NOT_OF_A_RECIPE)}
    return {**common, "schedule._target_": "by recipe"}


def of_recipe(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a recipe may change."""
    others = (*NOT_OF_A_RECIPE, *OF_THE_NETWORK, "seed", "weight_decay")  # the last is in the name
    return {key: value for key, value in settings.items() if not key.startswith(others)}


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


def _architectures(runs: Sequence[Run], draws: Draws | None) -> list[Architecture]:
    split = published_split(draws.runs[0]) if draws else None
    found = []
    for _, alike in _alike(runs, lambda run: ({**run.settings, "seed": None}, run.config.recipe)):
        members = tuple(sorted(alike, key=lambda run: run.seed))
        first = members[0]
        results, config = first.results, first.config
        found.append(
            Architecture(
                results.block,
                _options(first),
                results.multi,
                config.weight_decay,
                members,
                *_scores(members, draws),
                model=results.model,
                recipe=config.recipe,
                start=_start(first),
                clips=config.data.train_clips,
                split=split,
            )
        )
    order = list(BLOCKS)

    def place(one: Architecture) -> tuple[Any, ...]:
        rank = order.index(one.block) if one.block in order else len(order)
        other = one.block is None, one.block or one.model
        more = one.recipe != BASE, one.recipe or "", one.start, one.clips or math.inf
        return rank, *other, not one.multi, one.weight_decay, one.alpha or 0, one.name, *more

    return sorted(found, key=place)


def _start(run: Run) -> str:
    """Say what a run started from and how that was trained; empty for random weights."""
    config = run.config
    if config.init_sha256 is None:
        return ""
    name = Path(config.init).name if config.init else config.init_sha256[:12]
    trained = {"freeze": config.freeze, "features_rate": config.features_rate}
    words = [option(key, value) for key, value in trained.items() if value != LATER[key]]
    return ", ".join([f"from {name}", *words])


def _options(run: Run) -> dict[str, Any]:
    """Return the options of a block or network that its paper's does not have, and alpha.

    Of dropout in a block the default is the data set's (the paper: 0.2).
    """
    kind = "block" if run.results.block is not None else "model"
    options = {k.removeprefix(f"{kind}."): v for k, v in run.settings.items() if k.startswith(f"{kind}.")}
    options.pop("name", None)
    options.pop("_target_", None)
    if (network := NETWORKS.get(run.results.model)) is not None:
        defaults = {p.name: p.default for p in inspect.signature(network).parameters.values()}
        options |= {key: run.settings.get(key) for key in ("dropout", "rate")}
        return {key: value for key, value in options.items() if value != defaults.get(key)}
    if run.results.block in BLOCKS and options.get("dropout") == run.settings.get("data.block_dropout", 0.2):
        options.pop("dropout", None)
    return options


def group_names(found: Sequence[Group]) -> list[str]:
    """Name each group by the settings that are not the same in all groups, as `differing` finds them."""
    named, absent = differing([group.settings for group in found]), dict(flat(LATER))
    return [
        ", ".join(option(key, group.settings.get(key, absent.get(key))) for key in named) for group in found
    ]


def one_split(runs: Sequence[Run], only: str | None = None) -> list[Run]:
    """Return the runs if all were tested on the same clips and tags.

    ``only`` keeps runs whose split hash begins so. Raises UserError where the runs are of several data
    sets, splits or lists of tags, with the runs of each, and where ``only`` fits none.
    """
    chosen = [run for run in runs if only is None or run.results.split_hash.startswith(only)]
    if not chosen:
        known = ", ".join(sorted({run.results.split_hash[:12] for run in runs}))
        raise UserError(f"--only {only}: no run has a split hash that begins so; there are {known}")

    def tested_on(run: Run) -> tuple[str, ...]:
        return (run.results.data, run.results.split, run.results.split_hash, *run.tags)

    kinds = _alike(chosen, tested_on)
    if len(kinds) == 1:
        return chosen
    message = "these runs were tested on different clips or tags, and their scores cannot be compared:\n"
    for (data, split, digest, *tags), members in kinds:
        of_split = f"data {data}, split {split}, {len(tags)} tags, split hash {digest[:12]}"
        message += f"  {of_split}: {counted(len(members), 'run')}\n"
        if own := [tag for tag in tags if any(tag not in other[3:] for other, _ in kinds)]:
            message += f"    tags that not all have: {', '.join(_first(own))}\n"
        message += "".join(f"    {name}\n" for name in _first([run.name for run in members]))
    choose = "Choose one with --only and the beginning of its split hash, or name"
    several_hashes = len({kind[2] for kind, _ in kinds}) > 1
    raise UserError(f"{message}{choose if several_hashes else 'Name'} the runs of one of them alone")


def _first(names: Sequence[str]) -> list[str]:
    """Return the first names, and how many there are more."""
    more = [f"and {len(names) - LISTED} more"] if len(names) > LISTED else []
    return [*names[:LISTED], *more]


def _scores(runs: Sequence[Run], draws: Draws | None) -> tuple[SplitScores, Estimate | None]:
    """Return the mean scores of runs, and the macro ROC-AUC of every draw if all have predictions."""
    models = draws.models(runs) if draws else None
    if draws is None or models is None:
        return _mean_scores([run.results.test for run in runs]), None
    macro = draws.sampled.roc_auc.macro(models)
    scores = split_scores(draws.sampled, runs[0].tags, models)
    return scores, None if math.isnan(macro.value) else macro


def _mean_scores(tests: Sequence[SplitScores]) -> SplitScores:
    """Return the means over runs, without intervals."""
    per_tag = {
        tag: TagScores(
            roc_auc=mean_of_defined([test.per_tag[tag].roc_auc for test in tests]),
            pr_auc=mean_of_defined([test.per_tag[tag].pr_auc for test in tests]),
            positives=scores.positives,
        )
        for tag, scores in tests[0].per_tag.items()
    }
    return SplitScores.of(per_tag)
