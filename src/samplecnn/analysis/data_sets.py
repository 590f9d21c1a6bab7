"""Runs of one test split: scores of different clips or tags cannot be compared."""

from collections.abc import Sequence

from samplecnn.analysis.cells import ReportError
from samplecnn.runs.run import Run

Kind = tuple[str, ...]  # data set, split, split hash, tags
LISTED = 6  # runs, or tags, of a kind in an error message


def one_data_set(runs: Sequence[Run], only: str | None = None) -> list[Run]:
    """Return the runs if all are of one data set, split and tags; with ``only``, those of one split hash.

    ``only`` is the beginning of it. Raises ReportError where the runs are of several, with which runs belong
    to which, and where ``only`` fits none or several.
    """
    kinds: dict[Kind, list[Run]] = {}
    for run in runs:
        told = run.results
        if only is None or told.split_hash.startswith(only):
            kinds.setdefault((told.data, told.split, told.split_hash, *run.tags), []).append(run)
    if len(kinds) == 1:
        return next(iter(kinds.values()))
    if not kinds:
        known = ", ".join(sorted({run.results.split_hash[:12] for run in runs}))
        raise ReportError(f"--only {only}: no run has a split hash that begins so; there are {known}")
    several_hashes = len({kind[2] for kind in kinds}) > 1
    choice = (
        "Choose one with --only and the beginning of its split hash, or name" if several_hashes else "Name"
    )
    raise ReportError(
        "these runs were tested on different clips or tags, and their scores cannot be compared:\n"
        + "\n".join(_told(kind, members, list(kinds)) for kind, members in kinds.items())
        + f"\n{choice} the runs of one of them alone"
    )


def _told(kind: Kind, members: Sequence[Run], kinds: Sequence[Kind]) -> str:
    """Say what a kind of runs was tested on, with the tags that not all kinds have, and name the runs."""
    data, split, digest, *tags = kind
    count = f"{len(members)} runs" if len(members) > 1 else "1 run"
    lines = [f"  data {data}, split {split}, {len(tags)} tags, split hash {digest[:12]}: {count}"]
    if own := [tag for tag in tags if any(tag not in other[3:] for other in kinds)]:
        lines.append(f"    tags that not all have: {', '.join(_some(own))}")
    return "\n".join([*lines, *(f"    {name}" for name in _some([run.name for run in members]))])


def _some(names: Sequence[str]) -> list[str]:
    """Return the first names, and how many there are more."""
    more = [f"and {len(names) - LISTED} more"] if len(names) > LISTED else []
    return [*names[:LISTED], *more]
