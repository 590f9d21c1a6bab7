"""``samplecnn tag``: the tags of audio files, of each as a whole or over time."""

import argparse
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplecnn.cli.common import default_model, load_tagger, model_name, own_block_option, positive
from samplecnn.cli.tag_output import Printer, Progress, complain
from samplecnn.errors import UserError
from samplecnn.text import printable
from samplecnn.threads import available

if TYPE_CHECKING:
    from samplecnn.inference.many import Heard
    from samplecnn.inference.table import Table

UNREADABLE = 3  # exit status
DESCRIPTION = """\
Tag audio files, and all audio below folders, with the probability of each tag.

A segment of 2.7 s at a time goes through the network; a file's probabilities are their average. Files are
read as they are tagged, in constant memory, however long they are. What cannot be read is reported, and the
rest goes on. Of a file that was cut off, what is there is tagged, with a warning."""
EPILOG = """\
exit status: 0 if all files were tagged, also with warnings; 3 if some could not be read, or their pictures
not be written; 1 if the command could not be carried out (no such model, say); 2 for a wrong command line.
With --strict a file that was cut off counts as one that cannot be read.

M4A, AAC, WMA, WebM and other files that soundfile does not read are decoded by ffmpeg, if it is installed.
In --json names of files are exact; elsewhere characters that are not printable are written as \\x1b.

examples:
  samplecnn tag song.mp3
  samplecnn tag music/ --csv > tags.csv
  samplecnn tag mix.flac --over-time --overlap 0.5 --json
  samplecnn tag music/ --plot pictures --quiet"""


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    tag = commands.add_parser(
        "tag",
        parents=[own_block_option()],
        help="tags of audio files, as a whole or over time",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tag.add_argument("files", nargs="+", type=Path, metavar="PATH", help="audio files, and folders of them")
    tag.add_argument(
        "--model",
        type=Path,
        help="run folder, checkpoint, bundle, or hf:OWNER/NAME "
        "(default: that of `samplecnn use`, or the newest finished run)",
    )
    tag.add_argument("--over-time", action="store_true", help="a row per segment, not one per file")
    tag.add_argument(
        "--overlap",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of a segment that the next one hears again, 0 to 0.95 (default: 0)",
    )
    tag.add_argument(
        "--average",
        choices=("mean", "median", "max"),
        default="mean",
        help="of a file's segments (default: mean)",
    )
    tag.add_argument("--strict", action="store_true", help="refuse files that were cut off")
    tag.add_argument("--top", type=positive, default=5, metavar="N", help="tags to show (default: 5)")
    tag.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="files at a time, each decoded in a process of its own (default: as many as there are cores)",
    )
    form = tag.add_mutually_exclusive_group()
    form.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="a row per file in a .csv, .jsonl, .sqlite or .parquet file; the same command goes on with it",
    )
    form.add_argument("--csv", action="store_true", help="all tags, a column each, times in seconds")
    form.add_argument("--json", action="store_true", help="all tags, a JSON object per line")
    form.add_argument("--quiet", action="store_true", help="print nothing but errors")
    tag.add_argument("--again", action="store_true", help="with --out, tag what has not changed too")
    tag.add_argument("--plot", type=Path, metavar="DIR", help="draw waveform and tags over time of each file")
    tag.set_defaults(command=run_tag)


def run_tag(options: argparse.Namespace) -> int:
    """Tag files; report those that cannot be read and go on."""
    from samplecnn.data.audio import DecoderProcess
    from samplecnn.inference.many import listen_to
    from samplecnn.inference.picture import picture_files
    from samplecnn.inference.table import Source, open_table

    check(options)
    paths = gather(options.files)
    pictures = picture_files(paths, options.files, options.plot) if options.plot else {}
    failed = 0
    with ExitStack() as stack:
        workers = min(options.workers or available(), len(paths))
        decoders = [stack.enter_context(DecoderProcess()) for _ in range(workers)]
        model = options.model or default_model()
        tagger = load_tagger(model, options.block)
        name = model_name(model, tagger.description.block["name"])
        table = None
        if options.out:
            source = Source.of(tagger, name, options.average, options.overlap)
            table = stack.enter_context(open_table(options.out, source))
            paths = new_files(paths, table, again=options.again)
        elif not (options.json or options.csv or options.quiet):
            print(f"model: {printable(str(model))}")
        report = Report(options, table, Printer(options, name, tagger.tags), pictures)
        progress = stack.enter_context(Progress(len(paths), lines=table is not None))
        heard_files = listen_to(
            tagger,
            paths,
            decoders,
            overlap=options.overlap,
            strict=options.strict,
            progress=progress.listens,
        )
        try:
            for heard in heard_files:
                with progress.above():
                    failed += not report(heard)
                progress.advance(heard.timeline.seconds if heard.timeline else 0)
        except KeyboardInterrupt:
            if table is not None:
                complain(f"{progress.done} of {len(paths)} files are done; the same command goes on")
            raise
        finally:
            heard_files.close()
        if table is not None and paths:
            complain(progress.summary())
    if failed:
        complain(f"{failed} of {len(paths)} files could not be read or drawn")
    return UNREADABLE if failed else 0


def check(options: argparse.Namespace) -> None:
    """Raise UserError for what cannot be carried out, before anything is loaded."""
    from samplecnn.inference.table import require_format
    from samplecnn.inference.timeline import hop_samples

    hop_samples(options.overlap)
    if options.again and not options.out:
        raise UserError("--again is for --out FILE: it tags what has a row there already")
    if options.out:
        if options.over_time:
            raise UserError("--out has a row per file: --over-time goes with --csv and --json")
        require_format(options.out)


def new_files(paths: Sequence[Path], table: "Table", *, again: bool) -> list[Path]:
    """Return the files that have no row, or have changed since; say how many others there are."""
    named = list(dict.fromkeys(paths))
    new = named if again else [path for path in named if not table.has(path)]
    if len(new) < len(named):
        complain(f"{len(named) - len(new)} of {len(named)} files are in {table.path} and have not changed")
    return new


class Report:
    """Writes what was heard wherever it is wanted: a table or the terminal, and a picture."""

    def __init__(
        self,
        options: argparse.Namespace,
        table: "Table | None",
        printer: Printer,
        pictures: dict[Path, Path],
    ) -> None:
        self._options, self._table, self._printer, self._pictures = options, table, printer, pictures

    def __call__(self, heard: "Heard") -> bool:
        """Write a file's; return whether it could be read and drawn."""
        from samplecnn.inference.picture import write_picture

        if self._table is not None:
            self._table.write(heard)
        if heard.error is not None:
            complain(heard.error)
            if self._table is None:
                self._printer.error(heard)
            return False
        assert heard.timeline is not None
        if heard.warning:
            complain(f"{heard.path}: {heard.warning}; what there is was tagged")
        if self._table is None:
            self._printer(heard.path, heard.timeline, heard.warning)
        if heard.path in self._pictures:
            try:
                write_picture(heard.timeline, heard.path.name, self._pictures[heard.path])
            except OSError as error:
                complain(error)
                return False
        return True


def gather(named: Sequence[Path]) -> list[Path]:
    """Return the files named, as they are, and in place of a folder all audio files in it at any depth.

    Says what else is in the folders. Raises UserError for a folder without audio, naming what counts as such.
    """
    from samplecnn.data.audio_files import ENDINGS, passed_over, walk

    paths: list[Path] = []
    others: Counter[str] = Counter()
    for path in named:
        if not path.is_dir():
            paths.append(path)
            continue
        found = walk(path)
        if not found.files:
            rest = f"; {passed_over(found.passed_over)}" if found.passed_over else ""
            counted = ", ".join(sorted(ENDINGS))
            raise UserError(f"no audio file in the folder {path}; counted are {counted}{rest}")
        paths += found.files
        others += found.passed_over
    if others:
        complain(passed_over(others))
    return paths
