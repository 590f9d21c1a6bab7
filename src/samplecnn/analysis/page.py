"""What a report holds, and its page: one file, without a script, font or picture from elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from samplecnn.analysis.charts import Figure
from samplecnn.analysis.statistics import CLIPS, PER_TAG, RARE
from samplecnn.analysis.tabular import Table

HERE = Path(__file__).parent


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


def render(report: Report, generator: str, files: Sequence[str]) -> str:
    """Return the page; ``files`` are the CSV files beside it. Whatever runs say of themselves is escaped."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2").render(
        report=report,
        generator=generator,
        version=version("samplecnn"),
        files=files,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),  # noqa: S704 our own file
        limits={"clips": CLIPS, "rare": RARE, "per_tag": PER_TAG},
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")
