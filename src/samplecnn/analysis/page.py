"""The report as one page that needs nothing beside it: no script, no font, no picture from elsewhere."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

if TYPE_CHECKING:
    from samplecnn.analysis.report import Report

HERE = Path(__file__).parent


def render(report: "Report", generator: str, files: Sequence[str]) -> str:
    """Return the page; ``files`` are the CSV files beside it. Whatever runs say of themselves is escaped."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup((HERE / "page.css").read_text(encoding="utf-8"))  # noqa: S704 our own file
    template = environment.get_template("page.html.j2")
    page = template.render(
        report=report, generator=generator, version=version("samplecnn"), files=files, style=style
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")
