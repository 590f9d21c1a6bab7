"""Recipes: ways to train one network, each beside the one that the others change in one thing.

Runs of recipes are of one group if they have in common what a recipe may not change: data, network, length.
"""

from collections.abc import Mapping
from typing import Any

from samplecnn.analysis.architectures import Architecture, Group, written
from samplecnn.analysis.tables import DIFFERENCE, difference_fields, seeds_in_words
from samplecnn.analysis.tabular import NONE, ROC_AUC, ROC_INTERVAL, Column, Record, Table, number

BASE = "base"  # the recipe that others are compared with
NOT_OF_A_RECIPE = ("data.", "trainer.", "width", "rate")  # the beginnings of its keys
OF_THE_NETWORK = ("block.", "model.", "multi")


def in_common(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that recipes must have in common to be compared."""
    common = {key: value for key, value in settings.items() if key.startswith(NOT_OF_A_RECIPE)}
    return {**common, "schedule._target_": "by recipe"}


def of_recipe(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a recipe may change."""
    others = (*NOT_OF_A_RECIPE, *OF_THE_NETWORK, "seed", "weight_decay")  # the last is in the name
    return {key: value for key, value in settings.items() if not key.startswith(others)}


def changes(one: Architecture, base: Architecture) -> str:
    """Say what a recipe changes of another; of another schedule or optimiser, its options are not named."""
    ours, theirs = one.training, base.training
    changed = [key for key in {**theirs, **ours} if ours.get(key) != theirs.get(key)]
    kinds = {key.rpartition(".")[0]: key for key in changed if key.endswith(("._target_", ".name"))}
    named = [key for key in changed if kinds.get(key.rpartition(".")[0], key) == key]
    named.sort(key=lambda key: key not in kinds.values())  # options come last
    short = {key: key.removesuffix("._target_").removesuffix(".name") for key in named}
    return ", ".join(f"{short[key]}={written(ours.get(key))}" for key in named)


def recipe_table(group: Group) -> Table | None:
    """Return the scores of recipes with their differences from the base; None where there are none."""
    compared = [one for one in group.architectures if one.recipe is not None and one.roc_auc is not None]
    bases = {(one.name, one.multi): one for one in compared if one.recipe == BASE}
    records: list[Record] = []
    for one in compared:
        base = bases.get((one.name, one.multi), one)
        difference = None if base is one else group.difference(one, base)
        records.append(
            {"recipe": one.recipe, **one.fields, **one.score_fields, **difference_fields(difference)}
            | {"changes": changes(one, base)}
            | {"distinguishable": difference.distinguishable if difference else None}
        )
    columns = [
        Column("recipe", "recipe"),
        Column("changes", "changes", lambda changes: changes or NONE, words=True),
        ROC_AUC,
        ROC_INTERVAL,
        Column("sd over seeds", "roc_auc_sd", number, optional=True),
        Column("seeds", "seeds"),
        *DIFFERENCE,
        Column("distinguishable", "distinguishable", words=True),
    ]
    if len({(one.name, one.multi) for one in compared}) > 1:
        columns.insert(1, Column("architecture", "cell", words=True))
    note = (
        f"Differences of macro ROC-AUC from the recipe {BASE}, paired over test clips. Two are "
        "distinguishable where the last interval leaves out 0. Each stands for itself: of twenty that "
        "change nothing, one is expected to look distinguishable. Rates and strengths were not searched for. "
        + seeds_in_words(group)
    )
    if not records:
        return None
    return Table("recipes", "Recipes", note.strip(), columns, records, highest=("roc_auc",))
