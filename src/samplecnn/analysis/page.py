"""The page of a report: one file that holds all it shows, its style and its script."""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from samplecnn.analysis.statistics import CLIPS, PER_TAG, RARE
from samplecnn.analysis.svg import page_style

if TYPE_CHECKING:
    from samplecnn.analysis.report import Report

HERE = Path(__file__).parent


def render(report: "Report", generator: str, files: Sequence[str]) -> str:
    """Return the page; ``files`` are the CSV files beside it.

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
        generator=generator,
        version=version("samplecnn"),
        files=files,
        style=Markup(page_style()),  # noqa: S704 our own files
        script=Markup(script),  # noqa: S704 our own file
        digest=b64encode(sha256(script.encode()).digest()).decode(),
        limits={"clips": CLIPS, "rare": RARE, "per_tag": PER_TAG},
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")
