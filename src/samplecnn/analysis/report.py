"""The paper's tables and figures out of run folders, with the uncertainty of every number.

    from samplecnn.analysis.report import make_report
    make_report(["runs/table1"], Path("report"))

writes ``report/index.html``, one page that needs nothing beside it, and each table as a CSV file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from samplecnn import files
from samplecnn.analysis import few, summary, tables
from samplecnn.analysis.architectures import Group
from samplecnn.analysis.charts import Figure, few_figure, score_figure, search_figure, tag_figure
from samplecnn.analysis.decisions import decisions
from samplecnn.analysis.few import find_curves
from samplecnn.analysis.grid import ReportError, draw, group_names, groups, one_split
from samplecnn.analysis.learning import learning_figure
from samplecnn.analysis.page import render
from samplecnn.analysis.published import MTAT, Split, published_split, published_tables, table2
from samplecnn.analysis.recipes import recipe_table
from samplecnn.analysis.robustness import of_groups, robustness_figure, robustness_table
from samplecnn.analysis.searches import ALPHA_SEARCH, DECAY_SEARCH, find_series, search_table
from samplecnn.analysis.statistics import CHUNK
from samplecnn.analysis.tabular import Table, write_tables
from samplecnn.runs.collect import Collected, collect

PAGE = "index.html"
GENERATOR = "samplecnn report"
TABLES = (
    "table1", "differences", "best", "cost", "recipes", "table2", "alpha", "weight_decay", "few", "per_tag",
    "decisions", "published", "robustness", "runs", "leads",  # the last an earlier version's
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


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    contents: Sequence[Table | Figure]


@dataclass(frozen=True)
class GroupReport:
    """What is reported of architectures that can be compared."""

    name: str  # the settings that other groups do not share; empty for a single group
    findings: Sequence[str]
    departures: Sequence[str]  # from how the paper trained
    sections: Sequence[Section]


@dataclass(frozen=True)
class Report:
    """All that a report holds."""

    title: str
    subject: str
    caution: str
    draws: int  # 0 without predictions
    seed: int  # of the draws
    groups: Sequence[GroupReport]
    robustness: Sequence[Table | Figure]  # of all groups
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
        of_all = [content for content in self.robustness if isinstance(content, Table)] + [self.runs]
        return [
            *of_groups,
            *(("published", table) for table in self.published),
            *(("all", table) for table in of_all),
        ]


def make_report(
    paths: Sequence[str | Path],
    out: Path,
    *,
    draws: int = 1000,
    seed: int = 0,
    only: str | None = None,
    progress: bool = False,
) -> Report:
    """Read the runs at or below ``paths``, and write page and tables into the folder ``out``.

    ``draws`` and ``seed`` are of the bootstrap. ``only`` chooses runs by the beginning of their split hash;
    ``progress`` shows a bar, on a terminal only. Raises RunError and ReportError, before anything is written,
    where there are no runs, or runs that cannot be compared; ReportError for an ``out`` that cannot be
    written into, before anything is computed.
    """
    refuse_unwritable(out)
    found = collect(paths)
    runs = one_split(found.runs, only)
    having = [run for run in runs if run.predictions is not None]
    steps = len(having) * -(-draws // CHUNK)
    with tqdm(total=steps, desc="bootstrap", leave=False, disable=None if progress else True) as bar:
        drawn = draw(runs, draws=draws, seed=seed, progress=bar.update)
    split = published_split(having[0]) if having else None
    sorted_groups = groups(runs, drawn)
    names = group_names(sorted_groups)
    report = Report(
        title=summary.headline(runs[0]),
        subject=summary.subject(runs, drawn.clips if drawn else None),
        caution=summary.caution(runs[0], split),
        draws=draws if drawn else 0,
        seed=seed,
        groups=[_group(name, group, split) for name, group in zip(names, sorted_groups, strict=True)],
        robustness=_robustness(sorted_groups, names),
        published=published_tables(split),
        missing=summary.missing(sorted_groups, names),
        problems=_problems(replace(found, runs=runs)),
        runs=tables.run_table(runs),
        split_hash=runs[0].results.split_hash,
        folders=[run.path for run in runs],
    )
    _write(report, out)
    return report


def _group(name: str, group: Group, split: Split | None) -> GroupReport:
    searches = {search: find_series(search, group) for search in (ALPHA_SEARCH, DECAY_SEARCH)}
    by_clips = find_curves(group)
    searched = [one for found in searches.values() for series in found for one in series.architectures]
    searched += [one for curve in by_clips for one in curve.points]
    chosen = [one for one in group.architectures if one.in_table1 or one not in searched]
    main = replace(group, architectures=tuple(chosen)) if chosen else group
    sections = [Section("Architectures", _architectures(main, split == MTAT))] if chosen else []
    if (recipes := recipe_table(main)) is not None:
        sections.append(Section("Recipes", [recipes]))
    if split is not None:
        ours = [{"model": one.label, **one.score_fields} for one in chosen if one.roc_auc is not None]
        sections.append(Section("Among published models", [table2(split, ours)]))
    for search, found in searches.items():
        if found:
            contents = (search_figure(search, found), search_table(search, group, found))
            sections.append(Section(search.title, contents))
    if by_clips:
        sections.append(Section(few.TITLE, [few_figure(by_clips), few.few_table(group, by_clips)]))
    if main.ranked:
        best = main.ranked[0]
        sections.append(Section("Tags", [tag_figure(best), tables.per_tag(group, best)]))
        if decided := decisions(best):
            sections.append(Section("Decisions", decided))
    if curves := [f for curve in CURVES if (f := learning_figure(main.architectures, *curve))]:
        sections.append(Section("Learning curves", curves))
    return GroupReport(name, summary.findings(main, split == MTAT), group.departures(), sections)


def _architectures(group: Group, comparable: bool) -> list[Table | Figure]:
    contents = (
        tables.table1(group.architectures, comparable),
        score_figure(group.architectures, comparable),
        tables.differences(group, comparable),
        tables.best_and_others(group),
        tables.cost(group),
    )
    return [content for content in contents if content is not None]


def _robustness(groups: Sequence[Group], names: Sequence[str]) -> list[Table | Figure]:
    models = of_groups(groups, names)
    return [robustness_figure(models), robustness_table(models)] if models else []


def _problems(found: Collected) -> list[str]:
    sentences = [f"{left.name}: {left.reason}" for left in found.unfinished]
    sentences += [f"{left.name} is left out: {left.reason}" for left in found.left_out]
    for run in found.runs:
        sentences += [f"{run.name}: {note}" for note in run.notes]
        if run.predictions is None and not run.notes:
            sentences.append(f"{run.name} has no predictions.npz: no interval for its architecture")
    return sentences


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
    for name, of_one_kind in by_file.items():
        write_tables(of_one_kind, out / name)
    files.write(page, render(report, GENERATOR, sorted(by_file)))
