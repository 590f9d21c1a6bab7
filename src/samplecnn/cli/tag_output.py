"""What ``samplecnn tag`` prints of a file."""

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from samplecnn.cli.listening import complain
from samplecnn.text import csv_text, printable

if TYPE_CHECKING:
    from samplecnn.cli.tag_files import Players
    from samplecnn.inference.many import Heard
    from samplecnn.inference.table import Table
    from samplecnn.inference.timeline import Timeline

TOP = 5  # tags of a file, where nothing else is said


class Report:
    """Has what was heard wherever it is wanted: table or terminal, picture, players; counts what failed.

    Everything that is printed names the ``model``.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        model: str,
        tags: Sequence[str],
        paths: Sequence[Path],
        table: "Table | None",
        players: "Players",
    ) -> None:
        from samplecnn.inference.picture import picture_files

        self._options, self._model, self._table, self._players = options, model, table, players
        self._pictures = picture_files(paths, options.files, options.plot) if options.plot else {}
        self.failed = 0
        if options.csv:
            times = ("start", "end") if options.over_time else ()
            self._row("file", *times, *map(csv_text, tags), "model")

    def __call__(self, heard: "Heard") -> None:
        """Write or print what was heard in a file, or what is wrong with it where programs read it."""
        if heard.timeline is None:
            self.failed += 1
            complain(heard.error)
        elif heard.warning:
            complain(f"{heard.path}: {heard.warning}; what there is was tagged")
        if heard.timeline is not None and self._players.wanted:
            average = heard.timeline.average(self._options.average).tolist()
            tags = dict(zip(heard.timeline.tags, average, strict=True))
            if self._players.take(heard.path, tags):
                heard = replace(heard, stamp=heard.stamp.of(heard.path))
        if self._table is not None:
            self._table.write(heard)
        elif heard.timeline is not None:
            self._print(heard, heard.timeline)
        elif self._options.json:
            print(json.dumps({"file": str(heard.path), "error": str(heard.error)}), flush=True)
        if heard.timeline is not None and heard.path in self._pictures:
            self._draw(heard.path, heard.timeline)

    def _draw(self, path: Path, timeline: "Timeline") -> None:
        from samplecnn.inference.picture import write_picture

        try:
            title = f"{path.name}, by {self._model}"
            write_picture(timeline, title, self._pictures[path], top=self._options.top)
        except OSError as error:
            self.failed += 1
            complain(error)

    def _print(self, heard: "Heard", timeline: "Timeline") -> None:
        options, path = self._options, heard.path
        average = timeline.average(options.average).tolist()
        rows = list(spans(timeline) if options.over_time else [({}, average)])
        if options.json:
            for span, probabilities in rows:
                tags = dict(ranked(timeline.tags, probabilities))
                line = {"file": str(path), **span, "tags": tags, "model": self._model}
                if options.decide:
                    line["decided"] = list(self._players.decide(tags))
                if heard.warning:
                    line["warning"] = heard.warning
                print(json.dumps(line), flush=True)
        elif options.csv:
            from samplecnn.inference.table_lines import CsvTable

            name = CsvTable.key(path)
            for span, probabilities in rows:
                self._row(name, *span.values(), *(f"{p:.6f}" for p in probabilities), csv_text(self._model))
        elif not options.quiet:
            self._print_best(path, timeline.tags, rows)

    def _row(self, *cells: object) -> None:
        csv.writer(sys.stdout, lineterminator="\n").writerow(cells)
        sys.stdout.flush()

    def _print_best(
        self, path: Path, tags: Sequence[str], rows: Sequence[tuple[dict[str, float], list[float]]]
    ) -> None:
        from samplecnn.inference.timeline import clock

        print(printable(str(path)))
        for span, probabilities in rows:
            best = ranked(tags, probabilities)[: self._options.top or TOP]
            if self._options.decide:
                best = list(self._players.decide(dict(zip(tags, probabilities, strict=True))).items())
            if span:
                shown = ", ".join(f"{printable(tag)} {p:.0%}" for tag, p in best)
                print(f"  {clock(span['start'], 1):>9}  {shown}")
            else:
                lines = [f"  {probability:5.1%}  {printable(tag)}" for tag, probability in best]
                print("\n".join(lines) or "  no tag reaches its threshold")


def spans(timeline: "Timeline") -> Iterator[tuple[dict[str, float], list[float]]]:
    """Yield start and end in seconds and the probabilities of each segment."""
    for start, probabilities in zip(timeline.starts.tolist(), timeline.probabilities.tolist(), strict=True):
        end = min(start + timeline.segment_seconds, timeline.seconds)
        yield {"start": round(start, 3), "end": round(end, 3)}, probabilities


def ranked(tags: Sequence[str], probabilities: Sequence[float]) -> list[tuple[str, float]]:
    """Return the tags with their probabilities, the highest first."""
    return sorted(zip(tags, probabilities, strict=True), key=lambda pair: -pair[1])
