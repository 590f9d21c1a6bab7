"""``samplecnn tag --write-tags``, ``--undo`` and ``--playlists``: tags that are decided, for players."""

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from samplecnn.cli.common import share
from samplecnn.cli.listening import complain
from samplecnn.cli.tag_output import TOP, ranked
from samplecnn.errors import UserError
from samplecnn.inference import file_tags
from samplecnn.text import counted, printable

if TYPE_CHECKING:
    from samplecnn.inference.table import Table
    from samplecnn.runs.thresholds import Thresholds

THRESHOLD = 0.5
JOURNAL = Path("samplecnn-undo.jsonl")


def add_options(tag: argparse.ArgumentParser) -> None:
    """Add the options."""
    decided = tag.add_argument_group(
        "tags for players",
        "of a song, the --top N tags, if they have at least the --threshold; or with --decide those that "
        "reach their own. Without any, its field stays",
    )
    decided.add_argument(
        "--write-tags",
        metavar="FIELD",
        nargs="?",
        const=file_tags.FIELD,
        help=f"write them into the files: ID3, Vorbis comments, MP4 (default: {file_tags.FIELD}); "
        "FIELD genre replaces the genre, no other does",
    )
    decided.add_argument("--dry-run", action="store_true", help="only print what --write-tags would change")
    decided.add_argument(
        "--journal",
        type=Path,
        default=JOURNAL,
        metavar="FILE",
        help=f"where --write-tags notes what it changes (default: {JOURNAL})",
    )
    decided.add_argument(
        "--undo", type=Path, metavar="JOURNAL", help="take back what a journal notes; no PATH"
    )
    decided.add_argument("--playlists", type=Path, metavar="DIR", help="write a playlist for each tag")
    decided.add_argument(
        "--threshold", type=share, metavar="P", help=f"probability from 0 to 1 (default: {THRESHOLD})"
    )
    decided.add_argument(
        "--decide",
        action="store_true",
        help="take the tags that reach their own thresholds (`samplecnn thresholds`), in --json too",
    )


def run_undo(options: argparse.Namespace) -> int:
    """Take back what a journal notes, and name the files where that cannot be."""
    if options.files:
        raise UserError(f"--undo takes no PATH: it changes the files that {options.undo} names")
    file_tags.require_library(file_tags.FIELD)
    left = done = 0
    for _, reason in file_tags.undo(options.undo):
        done += reason is None
        left += reason is not None
        if reason is not None:
            complain(reason)
    restored = counted(done, "file is as it was", "files are as they were")
    print(f"{restored} before, {counted(left, 'was left as it is', 'were left as they are')}")
    return 1 if left else 0


class Players:
    """Decides on the tags of songs, writes them into the files and keeps them for playlists."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._songs: dict[Path, dict[str, float]] = {}
        self._changed = self.failed = 0
        self.thresholds: Thresholds | None = None  # of each tag, with --decide

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._options.write_tags or self._options.playlists)

    def check(self) -> None:
        """Raise UserError for what cannot be carried out."""
        if self._options.write_tags:
            file_tags.require_library(self._options.write_tags)
            if not self._options.dry_run:
                file_tags.begin_journal(self._options.journal)
        elif self._options.dry_run:
            raise UserError("--dry-run is for --write-tags")
        if self._options.threshold is not None and not (self.wanted or self._options.decide):
            raise UserError("--threshold is for --write-tags and --playlists: --top says how many are shown")
        if self._options.decide:
            self._check_decide()
        if (folder := self._options.playlists) and folder.exists() and not folder.is_dir():
            raise UserError(f"--playlists {folder}: it is not a folder")

    def _check_decide(self) -> None:
        options = self._options
        if options.threshold is not None:
            raise UserError("--decide has a threshold for each tag, --threshold one for all: say one of them")
        if options.over_time or options.average != "mean":
            raise UserError(
                "--decide: thresholds are of the mean over a file's segments, and of no other average"
            )
        if (options.csv or options.out or options.quiet) and not self.wanted:
            raise UserError(
                "--csv and --out have all probabilities: --decide is for what is printed, --json, "
                "--write-tags and --playlists"
            )

    def decide(self, probabilities: Mapping[str, float]) -> dict[str, float]:
        """Return a song's tags, the likeliest first."""
        if self.thresholds is not None:
            return dict(islice(self.thresholds.decided(probabilities).items(), self._options.top))
        threshold = THRESHOLD if self._options.threshold is None else self._options.threshold
        best = ranked(list(probabilities), list(probabilities.values()))[: self._options.top or TOP]
        return {tag: value for tag, value in best if value >= threshold}

    def take(self, path: Path, probabilities: Mapping[str, float]) -> bool:
        """Decide on a song's tags and have them in its file; return whether that has changed.

        What cannot be written is said and counted.
        """
        tags = self.decide(probabilities)
        if self._options.playlists:
            self._songs[path] = tags
        if not self._options.write_tags or not tags:  # nothing is known: what is in the field stays
            return False
        try:
            return self._write(path, list(tags))
        except (UserError, OSError) as error:
            self.failed += 1
            complain(error)
            return False

    def _write(self, path: Path, tags: list[str]) -> bool:
        change = file_tags.change(path, self._options.write_tags, tags)
        if change is None:
            return False
        self._changed += 1
        if self._options.dry_run:
            before, after = (", ".join(map(printable, some)) or "-" for some in (change.before, change.after))
            print(f"{printable(str(path))}: {change.field}: {before} -> {after}")
            return False
        file_tags.apply(change, self._options.journal)
        return True

    def take_rows(self, table: "Table", paths: Mapping[str, Path]) -> None:
        """Take what a table says of songs, by their names in it."""
        from samplecnn.inference.many import Stamp

        for row in table.rows():
            if row.path in paths and row.tags and self.take(paths[row.path], row.tags):
                stamp = Stamp.of(paths[row.path])
                table.put(replace(row, size=stamp.size, mtime=stamp.mtime))

    def finish(self) -> None:
        """Write the playlists, and say what was done and how it is undone."""
        from samplecnn.inference.playlists import write_playlists

        if self._options.playlists:
            written = write_playlists(self._songs, self._options.playlists)
            complain(f"{counted(len(written), 'playlist')} in {self._options.playlists}")
        if self._options.write_tags and self._options.dry_run:
            complain(f"{counted(self._changed, 'file')} would be changed")
        elif self._options.write_tags:
            undo = shlex.join(["samplecnn", "tag", "--undo", str(self._options.journal)])
            complain(f"{counted(self._changed, 'file was', 'files were')} changed; {undo} takes that back")
