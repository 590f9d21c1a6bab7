"""The paper's tables and figures out of run folders, with the uncertainty of every number.

    from samplecnn.analysis.report import make_report
    make_report(["runs/table1"], Path("report"))

writes ``report/index.html``, one page that needs nothing beside it, and each table as a CSV file.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from samplecnn import files
from samplecnn.analysis import summary, tables
from samplecnn.analysis.architectures import Group
from samplecnn.analysis.charts import Figure, learning_figure, score_figure, tag_figure
from samplecnn.analysis.decisions import decisions
from samplecnn.analysis.grid import draw, group_names, groups, one_split
from samplecnn.analysis.published import published_tables, table2
from samplecnn.analysis.robustness import of_groups, robustness_figure, robustness_table
from samplecnn.analysis.searches import SEARCHES, find_series, recipe_table, search_figure, search_table
from samplecnn.analysis.statistics import CLIPS, PER_TAG, RARE
from samplecnn.analysis.svg import page_style
from samplecnn.analysis.tabular import Table, write_tables
from samplecnn.errors import UserError
from samplecnn.runs.collect import Collected, collect

HERE = Path(__file__).parent
PAGE = "index.html"
GENERATOR = "samplecnn report"
CURVES = (
    (
        "val_roc_auc",
        "Validation ROC-AUC",
        "Macro ROC-AUC on the validation split after each epoch, a line for each run. The paper's schedule "
        "tests the weights with the lowest validation loss; others may take those of the end.",
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
        placed = [
            (group.name or "all", content)
            for group in self.groups
            for section in group.sections
            for content in section.contents
        ]
        placed += [("published", table) for table in self.published]
        placed += [("all", content) for content in (*self.robustness, self.runs)]
        return [(name, content) for name, content in placed if isinstance(content, Table)]


def make_report(
    paths: Sequence[str | Path],
    out: Path,
    *,
    draws: int = 1000,
    seed: int = 0,
    only: str | None = None,
) -> Report:
    """Read the runs at or below ``paths``, and write page and tables into the folder ``out``.

    ``draws`` and ``seed`` are of the bootstrap. ``only`` chooses runs by the beginning of their split hash.
    Raises UserError, before anything is written, where there are no runs, or runs that cannot be compared,
    and before anything is computed for an ``out`` that cannot be written into, or has another's page.
    """
    refuse_unwritable(out)
    earlier = _earlier_page(out)
    found = collect(paths)
    runs = one_split(found.runs, only)
    drawn = draw(runs, draws=draws, seed=seed)
    sorted_groups = groups(runs, drawn)
    split = sorted_groups[0].architectures[0].split
    names = group_names(sorted_groups)
    disturbed = of_groups(sorted_groups, names)
    report = Report(
        title=summary.headline(runs[0]),
        subject=summary.subject(runs),
        caution=summary.caution(runs[0], split),
        draws=draws if drawn else 0,
        seed=seed,
        groups=[_group(name, group) for name, group in zip(names, sorted_groups, strict=True)],
        robustness=[robustness_figure(disturbed), robustness_table(disturbed)] if disturbed else [],
        published=published_tables(split),
        missing=summary.missing(sorted_groups, names),
        problems=_problems(replace(found, runs=runs)),
        runs=tables.run_table(runs),
        split_hash=runs[0].results.split_hash,
        folders=[run.path for run in runs],
    )
    _write(report, out, earlier)
    return report


def _group(name: str, group: Group) -> GroupReport:
    searches = {search: find_series(search, group) for search in SEARCHES}
    searched = [one for found in searches.values() for series in found for _, one in series.points]
    chosen = [one for one in group.architectures if one.in_table1 or one not in searched]
    alike = group.trained_on(*{one.clips for one in chosen})  # whose spread over seeds is theirs
    main = replace(alike, architectures=tuple(chosen)) if chosen else group
    sections = []
    if chosen:
        contents = (
            tables.table1(chosen),
            score_figure(main.ranked),
            tables.differences(main),
            tables.best_and_others(main),
            tables.cost(main),
        )
        sections.append(Section("Architectures", [content for content in contents if content is not None]))
    if (recipes := recipe_table(main)) is not None:
        sections.append(Section("Recipes", [recipes]))
    if (split := group.architectures[0].split) is not None:
        ours = [{"model": one.label, **one.score_fields} for one in main.ranked]
        sections.append(Section("Among published models", [table2(split, ours)]))
    for search, found in searches.items():
        if found:
            drawn = search_figure(search, found)
            sections.append(Section(search.title, [drawn, search_table(search, group, found)]))
    if main.ranked:
        best = main.ranked[0]
        sections.append(Section("Tags", [tag_figure(best), tables.per_tag(group, best)]))
        if decided := decisions(best):
            sections.append(Section("Decisions", decided))
    if curves := [f for curve in CURVES if (f := learning_figure(main.architectures, *curve))]:
        sections.append(Section("Learning curves", curves))
    return GroupReport(name, summary.findings(main), group.departures(), sections)


def _problems(found: Collected) -> list[str]:
    sentences = [f"{left.name}: {left.reason}" for left in found.unfinished]
    sentences += [f"{left.name} is left out: {left.reason}" for left in found.left_out]
    for run in found.runs:
        sentences += [f"{run.name}: {note}" for note in run.notes]
        if run.predictions is None and not run.notes:
            sentences.append(f"{run.name} has no predictions.npz: no interval for its architecture")
    return sentences


def refuse_unwritable(out: Path) -> None:
    """Raise UserError where the folder cannot be made or written into: not after minutes of computing."""
    here = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not here.is_dir():
        raise UserError(f"--out {out}: {here} is a file; name a folder")
    try:
        with TemporaryDirectory(dir=here):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(
            f"--out {out}: nothing can be written into {here} ({reason}); name another folder"
        ) from error


def _earlier_page(out: Path) -> str:
    """Return the page of an earlier report, "" without one; UserError for a page that is no report."""
    page = out / PAGE
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    if text and GENERATOR not in text[:2000]:
        raise UserError(
            f"--out {out}: {page} is no earlier report, which would be replaced; name another folder"
        )
    return text


def _write(report: Report, out: Path, earlier: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    by_file: dict[str, list[tuple[str, Table]]] = {}
    for group, table in report.tables:
        by_file.setdefault(f"{table.name}.csv", []).append((group, table))
    for name in re.findall(r'<a href="(\w+\.csv)">', earlier):  # it may have had other tables
        (out / name).unlink(missing_ok=True)
    for name, of_one_kind in by_file.items():
        write_tables(of_one_kind, out / name)
    files.write(out / PAGE, _render(report, sorted(by_file)))


def _render(report: Report, csv_files: Sequence[str]) -> str:
    """Return the page: one file that holds all it shows, its style and its script.

    Whatever runs say of themselves is escaped; the page's policy names the one script that may run.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (HERE / "page.js").read_text(encoding="utf-8")
    page = environment.get_template("page.html.j2").render(
        report=report,
        generator=GENERATOR,
        version=version("samplecnn"),
        files=csv_files,
        style=Markup(page_style()),  # noqa: S704 our own files
        script=Markup(script),  # noqa: S704 our own file
        digest=b64encode(sha256(script.encode()).digest()).decode(),
        limits={"clips": CLIPS, "rare": RARE, "per_tag": PER_TAG},
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")
