"""What ``samplecnn tag`` prints of a file, and how far it is."""

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tqdm import tqdm

from samplecnn.text import FORMULA, counted, csv_text, printable

if TYPE_CHECKING:
    from samplecnn.cli.tag_files import Players
    from samplecnn.inference.many import Heard
    from samplecnn.inference.table import Table
    from samplecnn.inference.timeline import Timeline

TOP = 5  # tags of a file, where nothing else is said
LINE_SECONDS = 60.0  # between two lines of progress where there is no bar


def complain(message: object, command: str = "tag") -> None:
    """Write a line to the standard error."""
    print(f"samplecnn {command}: {printable(str(message))}", file=sys.stderr, flush=True)


class Progress:
    """How many files are done, at how many hours of audio an hour, and the time left.

    A bar in a terminal; elsewhere with ``lines`` a line a minute, on the standard error.
    """

    def __init__(self, files: int, *, lines: bool, command: str = "tag") -> None:
        self.files, self.done, self.audio_seconds = files, 0, 0.0
        self._began = self._said = time.monotonic()
        self._bar: tqdm[Path] = tqdm(total=files, unit="file", disable=None, leave=False)
        self._lines, self._command = lines and self._bar.disable, command
        self.above = self._bar.external_write_mode  # to print above the bar

    def listens(self, path: Path, done: float, whole: float | None) -> None:
        """Name a file that is being listened to, and the seconds done of it."""
        from samplecnn.inference.timeline import clock

        of = f" of {clock(whole)}" if whole is not None else ""
        self._bar.set_postfix_str(f"{self.speed()}{printable(path.name)}: {clock(done)}{of}")

    def advance(self, seconds: float) -> None:
        """Count a file of so many seconds of audio."""
        self.done += 1
        self.audio_seconds += seconds
        self._bar.update()
        now = time.monotonic()
        if self._lines and now - self._said >= LINE_SECONDS:
            self._said = now
            left = (now - self._began) / self.done * (self.files - self.done)
            files = f"{self.done} of {self.files} files"
            complain(f"{files}, {self.speed()}about {left / 60:.0f} min left", self._command)

    def speed(self) -> str:
        """Return hours of audio per hour, once that is known."""
        seconds = time.monotonic() - self._began
        return f"{self.audio_seconds / seconds:.0f} hours/hour, " if self.audio_seconds and seconds else ""

    def summary(self) -> str:
        """Say what all files took."""
        seconds = time.monotonic() - self._began
        hours = f"{self.audio_seconds / 3600:.2f} hours of audio"
        return f"{counted(self.done, 'file')}, {hours} in {seconds:.0f} s"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.close()


class Printer:
    """Prints files in the form that was asked for; every form names the model."""

    def __init__(
        self, options: argparse.Namespace, model: str, tags: Sequence[str], players: "Players"
    ) -> None:
        self._options, self._model, self._players = options, model, players
        if options.csv:
            times = ("start", "end") if options.over_time else ()
            self._row("file", *times, *map(csv_text, tags), "model")

    def __call__(self, heard: "Heard") -> None:
        """Print what was heard, or what is wrong with a file where programs read it."""
        options, path, timeline = self._options, heard.path, heard.timeline
        if timeline is None:
            if options.json:
                print(json.dumps({"file": str(path), "error": str(heard.error)}), flush=True)
            return
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
            # A path that would be a formula to spreadsheets stays a path.
            name = printable(f"./{path}" if str(path).startswith(FORMULA) else str(path))
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


class Report:
    """Has what was heard wherever it is wanted: table or terminal, picture, players; counts what failed."""

    def __init__(
        self,
        options: argparse.Namespace,
        model: str,
        paths: Sequence[Path],
        table: "Table | None",
        printer: Printer | None,
        players: "Players",
    ) -> None:
        from samplecnn.inference.picture import picture_files

        self._model, self._table, self._printer, self._players = model, table, printer, players
        self._average, self._top = options.average, options.top
        self._pictures = picture_files(paths, options.files, options.plot) if options.plot else {}
        self.failed = 0

    def __call__(self, heard: "Heard") -> None:
        """Write what was heard in a file."""
        from samplecnn.inference.picture import write_picture

        if heard.timeline is None:
            self.failed += 1
            complain(heard.error)
        elif heard.warning:
            complain(f"{heard.path}: {heard.warning}; what there is was tagged")
        if heard.timeline is not None and self._players.wanted:
            average = heard.timeline.average(self._average).tolist()
            tags = dict(zip(heard.timeline.tags, average, strict=True))
            if self._players.take(heard.path, tags):
                heard = replace(heard, stamp=heard.stamp.of(heard.path))
        if self._table is not None:
            self._table.write(heard)
        if self._printer is not None:
            self._printer(heard)
        if heard.timeline is not None and heard.path in self._pictures:
            try:
                title = f"{heard.path.name}, by {self._model}"
                write_picture(heard.timeline, title, self._pictures[heard.path], top=self._top)
            except OSError as error:
                self.failed += 1
                complain(error)


def spans(timeline: "Timeline") -> Iterator[tuple[dict[str, float], list[float]]]:
    """Yield start and end in seconds and the probabilities of each segment."""
    for start, probabilities in zip(timeline.starts.tolist(), timeline.probabilities.tolist(), strict=True):
        end = min(start + timeline.segment_seconds, timeline.seconds)
        yield {"start": round(start, 3), "end": round(end, 3)}, probabilities


def ranked(tags: Sequence[str], probabilities: Sequence[float]) -> list[tuple[str, float]]:
    """Return the tags with their probabilities, the highest first."""
    return sorted(zip(tags, probabilities, strict=True), key=lambda pair: -pair[1])
