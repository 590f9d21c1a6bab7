"""A report made for a test, and its page as a reader has it."""

import csv
import json
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from samplecnn.analysis.report import Report, make_report


@dataclass
class Made:
    """A report and what it was made of."""

    runs: Path
    out: Path
    report: Report

    @property
    def page(self) -> str:
        return (self.out / "index.html").read_text()

    @property
    def text(self) -> str:
        """The page's words, its spaces all alike."""
        return " ".join(Page(self.page).words).replace("\N{NO-BREAK SPACE}", " ")

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.out / f"{name}.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def results(self, folder: str, block: str, multi: bool) -> list[dict[str, float]]:
        """Return the test scores of all runs of a cell below a folder."""
        results = [json.loads(path.read_text()) for path in (self.runs / folder).glob("**/results.json")]
        return [t["test"] for t in results if (t["block"], t["multi"]) == (block, multi)]


def make(runs: Path, out: Path, draws: int = 200) -> Made:
    return Made(runs, out, make_report([runs], out, draws=draws))


class Page(HTMLParser):
    """What tests want to know of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]
