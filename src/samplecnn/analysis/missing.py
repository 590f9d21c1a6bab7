"""Which cells of the paper's experiments are not among the runs."""

from collections.abc import Iterator, Sequence

from samplecnn.analysis.cells import ALPHA, BLOCKS, DAGGER, Group
from samplecnn.analysis.searches import ALPHAS, DECAY_BLOCKS, DECAYS
from samplecnn.analysis.tables import compact

AGGREGATIONS = {True: "multi", False: "no multi"}


def missing(groups: Sequence[Group], settings: Sequence[str]) -> list[str]:
    """Say what the runs lack of Table 1, of the searches and of seeds, a sentence each.

    Of an experiment that was begun each missing cell is named; of one that was not, how to run it.
    ``settings`` name the groups, and stand in front of what a group lacks; "" for a single group.
    """
    told: list[str] = []
    begun: set[str] = set()
    for group, name in zip(groups, settings, strict=True):
        lacking = [*_table1(group), *_alpha(group), *_decay(group)]
        begun |= {experiment for experiment, _ in lacking}
        sentences = [*(sentence for _, sentence in lacking if sentence), *_seeds(group)]
        told += [f"With {name}: {sentence}" if name else sentence for sentence in sentences]
    names = {"table1": "Table 1", "alpha": "the alpha curve", "weight_decay": "the weight decay grid"}
    for experiment, name in names.items():
        if experiment not in begun:
            told.append(f"No run is of {name}: python train.py -m experiment={experiment}")
    return told


def _table1(group: Group) -> Iterator[tuple[str, str]]:
    cells = {(b, multi): group.table1(b, multi) for b in BLOCKS for multi in AGGREGATIONS}
    lacking = [f"{BLOCKS[b]} ({AGGREGATIONS[multi]})" for (b, multi), cell in cells.items() if cell is None]
    if len(lacking) == len(cells):
        return
    yield "table1", f"Table 1 lacks {', '.join(lacking)}." if lacking else ""
    if any(cell and cell.weight_decay != DAGGER for (b, _), cell in cells.items() if b == "rese2"):
        yield "table1", "ReSE-2 has no run with the weight decay of 1e-4 that it has in the paper's Table 1."


def _alpha(group: Group) -> Iterator[tuple[str, str]]:
    """The paper's curve is of SE; with which aggregation it does not say, and here it is multi-level."""
    se = [cell for cell in group.cells if (cell.block, cell.multi, cell.weight_decay) == ("se", True, 0)]
    present = {cell.alpha for cell in se}
    if present - {ALPHA}:
        lacking = [compact(alpha) for alpha in ALPHAS if alpha not in present]
        yield "alpha", f"The alpha curve of SE (multi) lacks {', '.join(lacking)}." if lacking else ""


def _decay(group: Group) -> Iterator[tuple[str, str]]:
    present = {
        block: {c.weight_decay for c in group.cells if (c.block, c.multi) == (block, True) and c.usual}
        for block in DECAY_BLOCKS
    }
    if any(decays - {0.0, DAGGER} for decays in present.values()):
        for block, decays in present.items():
            lacking = [compact(decay) for decay in DECAYS if decay not in decays]
            name = BLOCKS[block]
            yield (
                "weight_decay",
                f"The weight decays of {name} (multi) lack {', '.join(lacking)}." if lacking else "",
            )


def _seeds(group: Group) -> Iterator[str]:
    cells = [cell for b in BLOCKS for multi in AGGREGATIONS if (cell := group.table1(b, multi))]
    seeds = sorted({seed for cell in cells for seed in cell.seeds})
    by_lack: dict[tuple[int, ...], list[str]] = {}
    for cell in cells:
        if absent := tuple(seed for seed in seeds if seed not in cell.seeds):
            by_lack.setdefault(absent, []).append(f"{cell.name} ({cell.aggregation})")
    for absent, labels in by_lack.items():
        several = len(absent) > 1
        seeds_are = f"seeds {', '.join(map(str, absent))} are" if several else f"seed {absent[0]} is"
        others = "others have them" if several else "others have it"
        yield f"In Table 1, {seeds_are} missing of {', '.join(labels)}; {others}."
