"""The paper's tables and figures out of run folders, with the uncertainty of every number.

    from samplecnn.analysis.report import make_report
    make_report(["runs/table1"], Path("report"))

writes ``report/index.html``, one page that needs nothing beside it, and each table as a CSV file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from samplecnn.analysis import architectures, details, plots, searches
from samplecnn.analysis.cells import ReportError, differing, groups
from samplecnn.analysis.data_sets import one_data_set
from samplecnn.analysis.findings import caution, findings, headline, subject
from samplecnn.analysis.missing import missing
from samplecnn.analysis.page import render
from samplecnn.analysis.plots import Figure
from samplecnn.analysis.published import MTAT, Split, elsewhere, matching, table2
from samplecnn.analysis.scores import ScoredGroup, draw, score_group
from samplecnn.analysis.statistics import CHUNK
from samplecnn.analysis.tables import Table, write_csv
from samplecnn.files import write
from samplecnn.runs.collect import Collected, collect

PAGE = "index.html"
GENERATOR = "samplecnn report"
GROUPING = (
    "The runs differ in more than architecture and seed: they are told apart below by what differs, and "
    "nothing is averaged or compared across."
)
TABLES = (
    "table1", "differences", "leads", "cost", "table2", "alpha", "weight_decay", "per_tag", "published",
    "runs",
)  # fmt: skip
CURVES = (
    (
        "val_roc_auc",
        "Validation ROC-AUC",
        "Macro ROC-AUC on the validation split after each epoch, a line for each run. The weights with the "
        "lowest validation loss are tested.",
    ),
    (
        "val_loss",
        "Validation loss",
        "Binary cross-entropy on the validation split after each epoch, a line for each run.",
    ),
)


Content = Table | Figure


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    contents: Sequence[Content]


@dataclass(frozen=True)
class GroupReport:
    """What is told of cells that can be compared."""

    name: str  # the settings that other groups do not share; empty for a single group
    findings: Sequence[str]
    departures: Sequence[str]  # from how the paper trained
    sections: Sequence[Section]


@dataclass(frozen=True)
class Report:
    """All that a report tells."""

    title: str
    subject: str
    caution: str
    grouping: str  # why there are several groups; empty for one
    draws: int  # 0 without predictions
    seed: int
    groups: Sequence[GroupReport]
    published: Sequence[Table]  # of other data
    missing: Sequence[str]
    problems: Sequence[str]  # what is wrong with folders and files
    runs: Table
    split_hash: str
    folders: Sequence[Path]  # of the runs

    @property
    def tables(self) -> list[tuple[str, Table]]:
        """All tables, each with the name of its group."""
        of_groups = [
            (group.name or "all", content)
            for group in self.groups
            for section in group.sections
            for content in section.contents
            if isinstance(content, Table)
        ]
        return [*of_groups, *(("published", table) for table in self.published), ("all", self.runs)]


def make_report(
    paths: Sequence[str | Path],
    out: Path,
    *,
    draws: int = 1000,
    seed: int = 0,
    only: str | None = None,
    progress: Callable[[int], Callable[[], None]] = lambda total: lambda: None,
) -> Report:
    """Read the runs at or below ``paths``, and write page and tables into the folder ``out``.

    ``only`` chooses runs by the beginning of their split hash; ``progress`` is given the number of steps of
    the bootstrap, and returns what to call after each. Raises RunError and ReportError, before anything is
    written, where there are no runs, or runs that cannot be compared; ReportError for an ``out`` that cannot
    be written into, before anything is computed.
    """
    refuse_unwritable(out)
    found = collect(paths)
    found.runs = one_data_set(found.runs, only)
    having = [run for run in found.runs if run.predictions is not None]
    drawn = draw(found.runs, draws=draws, seed=seed, progress=progress(len(having) * -(-draws // CHUNK)))
    split = matching(having[0]) if having else None
    sorted_groups = groups(found.runs)
    names = differing(sorted_groups)
    told = [
        _group(name, score_group(group, drawn), split)
        for name, group in zip(names, sorted_groups, strict=True)
    ]
    report = Report(
        title=headline(found.runs[0]),
        subject=subject(found.runs, drawn.clips if drawn else None),
        grouping=GROUPING if len(told) > 1 else "",
        caution=caution(found.runs[0], split),
        draws=draws if drawn else 0,
        seed=seed,
        groups=told,
        published=elsewhere(split),
        missing=missing(sorted_groups, names),
        problems=_problems(found),
        runs=details.run_table(found.runs),
        split_hash=found.runs[0].results.split_hash,
        folders=[run.path for run in found.runs],
    )
    _write(report, out)
    return report


def _group(name: str, scored: ScoredGroup, split: Split | None) -> GroupReport:
    comparable = split == MTAT
    by_alpha, by_decay = searches.alpha_series(scored), searches.decay_series(scored)
    cells = architectures.chosen(scored, [one for series in (*by_alpha, *by_decay) for one in series.cells])
    main = replace(scored, cells=tuple(cells)) if cells else scored
    sections = []
    if cells:
        contents: list[Content | None] = [
            architectures.table1(cells, comparable),
            plots.architectures(cells, comparable),
            architectures.effects(main, comparable),
            architectures.leads(main),
            architectures.costs(main),
        ]
        sections.append(Section("Architectures", [content for content in contents if content]))
    if split is not None:
        sections.append(Section("Among published models", [table2(split, cells)]))
    for title, series, figure, table in (
        ("Amplifying ratio", by_alpha, plots.alpha, searches.alpha_table),
        ("Weight decay", by_decay, plots.decay, searches.decay_table),
    ):
        if series:
            sections.append(Section(title, [figure(series), table(scored, series)]))
    if main.ranked:
        best = main.ranked[0]
        sections.append(Section("Tags", [plots.tags(best), details.per_tag(scored, best)]))
    curves = [plots.learning(main.cells, *curve) for curve in CURVES]
    if any(curves):
        sections.append(Section("Learning curves", [curve for curve in curves if curve]))
    return GroupReport(name, findings(main, comparable), scored.group.departures(), sections)


def _problems(found: Collected) -> list[str]:
    told = [f"{left.name}: {left.reason}" for left in found.unfinished]
    told += [f"{left.name} is left out: {left.reason}" for left in found.left_out]
    for run in found.runs:
        told += [f"{run.name}: {note}" for note in run.notes]
        if run.predictions is None and not run.notes:
            told.append(f"{run.name} has no predictions.npz: no interval for its architecture")
    return told


def refuse_unwritable(out: Path) -> None:
    """Raise ReportError where the folder cannot be made or written into: not after minutes of computing."""
    here = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not here.is_dir():
        raise ReportError(f"--out {out}: {here} is a file; name a folder")
    try:
        with TemporaryDirectory(dir=here):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ReportError(
            f"--out {out}: nothing can be written into {here} ({reason}); name another folder"
        ) from error


def _write(report: Report, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    by_file: dict[str, list[tuple[str, Table]]] = {}
    for group, table in report.tables:
        by_file.setdefault(f"{table.name}.csv", []).append((group, table))
    page = out / PAGE
    if page.is_file() and GENERATOR in page.read_text(encoding="utf-8", errors="replace")[:2000]:
        for name in TABLES:  # of an earlier report that had other tables
            (out / f"{name}.csv").unlink(missing_ok=True)
    for name, tables in by_file.items():
        write_csv(tables, out / name)
    write(page, render(report, GENERATOR, sorted(by_file)))
