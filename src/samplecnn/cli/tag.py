"""``samplecnn tag``: the tags of audio files, of each as a whole or over time."""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplecnn.cli.common import default_model, load_tagger, model_name, positive
from samplecnn.cli.listening import (
    UNREADABLE,
    Progress,
    complain,
    decoders,
    gather,
    listen,
    listening_options,
)
from samplecnn.cli.tag_files import Players, add_options, run_undo
from samplecnn.cli.tag_output import Report
from samplecnn.errors import UserError, require_libraries
from samplecnn.text import printable

if TYPE_CHECKING:
    from samplecnn.inference.table import Table

DESCRIPTION = """\
Tag audio files, and all audio below folders, with the probability of each tag.

A segment at a time goes through the network (2.7 s, if it is a SampleCNN); a file's probabilities are their
average. Files are read as they are tagged, in constant memory, however long they are. What cannot be read is
reported, and the rest goes on. Of a file that was cut off, what is there is tagged, with a warning."""
EPILOG = """\
exit status: 0 if all files were tagged, also with warnings; 3 if some could not be read, or their pictures
or tags not be written; 1 if the command could not be carried out (no such model, say); 2 for a wrong command
line. With --strict a file that was cut off counts as one that cannot be read.

M4A, AAC, WMA, WebM and other files that soundfile does not read are decoded by ffmpeg, if it is installed.
--out goes on with the file that is there: it takes what is new, or changed in size or time,
with --strict also what was cut off. Its rows name the model, and are of one model, --average and --overlap.
A .sqlite file has the tables files and probabilities; a .parquet file is made at the end, of the .jsonl file
beside it.
In --json names of files are exact; elsewhere characters that are not printable are written as \\x1b."""


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    tag = commands.add_parser(
        "tag",
        parents=[listening_options()],
        help="tags of audio files, as a whole or over time",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    tag.add_argument("files", nargs="*", type=Path, metavar="PATH", help="audio files, and folders of them")
    tag.add_argument("--over-time", action="store_true", help="a row per segment, not one per file")
    tag.add_argument(
        "--average",
        choices=("mean", "median", "max"),
        default="mean",
        help="of a file's segments (default: mean)",
    )
    tag.add_argument("--top", type=positive, metavar="N", help="tags to show (default: 5; in pictures all)")
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
    add_options(tag)
    tag.set_defaults(command=run_tag)


def run_tag(options: argparse.Namespace) -> int:
    """Tag files; report those that cannot be read and go on."""
    if options.undo:
        return run_undo(options)
    players = Players(options)
    check(options, players)
    paths = gather(options.files)

    from samplecnn.inference.table import Source, open_table  # after the checks: it loads PyTorch

    with ExitStack() as stack:
        processes = [stack.enter_context(process) for process in decoders(options, len(paths))]
        model = options.model or default_model()
        tagger = load_tagger(model, options)
        name = model_name(model, tagger.description.words[0])
        players.thresholds = tagger.thresholds if options.decide else None
        table = None
        if options.out is not None:
            source = Source.of(tagger, name, options.average, options.overlap)
            table = stack.enter_context(open_table(options.out, source))
        if not (table or options.json or options.csv or options.quiet):
            print(f"model: {printable(str(model))}")
        report = Report(options, name, tagger.tags, paths, table, players)
        new = paths
        if table is not None:
            paths = list(dict.fromkeys(paths))
            known = [p for p in paths if not options.again and table.has(p, strict=options.strict)]
            new, report.failed = new_files(paths, known, table, players)
        with (
            Progress(len(new), lines=options.out is not None) as progress,
            closing(listen(options, tagger, new, processes, progress)) as heard_files,
        ):
            try:
                for heard in heard_files:
                    report(heard)
            except KeyboardInterrupt:
                if options.out:
                    complain(f"{progress.done} of {len(new)} files are done; the same command goes on")
                raise
        if options.out and new:
            complain(progress.summary())
        players.finish()
    if report.failed:
        complain(f"{report.failed} of {len(paths)} files could not be read or drawn")
    return UNREADABLE if report.failed or players.failed else 0


def check(options: argparse.Namespace, players: Players) -> None:
    """Raise UserError for what cannot be carried out, before anything is loaded."""
    from samplecnn.inference.table import require_format
    from samplecnn.inference.timeline import hop_samples

    if not options.files:
        raise UserError("name audio files, or folders of them")
    hop_samples(options.overlap)
    players.check()
    if options.plot:
        require_libraries("plots", "matplotlib")
    if options.again and not options.out:
        raise UserError("--again is for --out FILE: it tags what has a row there already")
    if options.out:
        if options.over_time:
            raise UserError("--out has a row per file: --over-time goes with --csv and --json")
        require_format(options.out)


def new_files(
    paths: Sequence[Path], known: Sequence[Path], table: "Table", players: Players
) -> tuple[list[Path], int]:
    """Return the files that are not among the known ones, and how many of these could not be read.

    They are named again, and the rows of the known ones go to the players.
    """
    errors = {path: table.known[table.key(path)].error for path in known}
    if known:
        complain(f"{len(known)} of {len(paths)} files are in {table.path} and have not changed")
        if players.wanted:
            players.take_rows(table, {table.key(path): path for path in known})
    unread = {path: error for path, error in errors.items() if error}
    for path, error in unread.items():
        complain(f"{path}: {error}")
    return [path for path in paths if path not in errors], len(unread)
