"""``samplecnn tag``: the tags of audio files, of each as a whole or over time."""

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from samplecnn.cli.common import RUNS, load_tagger, newest_run, own_class_options, positive
from samplecnn.errors import UserError
from samplecnn.text import FORMULA, csv_text, printable

if TYPE_CHECKING:
    from samplecnn.data.audio import RemoteDecoder
    from samplecnn.inference.tagger import Tagger
    from samplecnn.inference.timeline import Timeline

UNREADABLE = 3  # exit status
DESCRIPTION = """\
Tag audio files, and all audio below folders, with the probability of each tag.

A segment at a time goes through the network (2.7 s, if it is a SampleCNN); a file's probabilities are their
average. Files are read as they are tagged, in constant memory, however long they are. What cannot be read is
reported, and the rest goes on. Of a file that was cut off, what is there is tagged, with a warning."""
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
        parents=[own_class_options()],
        help="tags of audio files, as a whole or over time",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tag.add_argument("files", nargs="+", type=Path, metavar="PATH", help="audio files, and folders of them")
    tag.add_argument(
        "--model",
        type=Path,
        help="run folder, checkpoint, bundle, or hf:OWNER/NAME (default: the newest finished run)",
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
    form = tag.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="all tags, a column each, times in seconds")
    form.add_argument("--json", action="store_true", help="all tags, a JSON object per line")
    form.add_argument("--quiet", action="store_true", help="print nothing but errors")
    tag.add_argument("--plot", type=Path, metavar="DIR", help="draw waveform and tags over time of each file")
    tag.set_defaults(command=run_tag)


def run_tag(options: argparse.Namespace) -> int:
    """Tag files; report those that cannot be read and go on."""
    from samplecnn.data.audio import AudioError, DecoderProcess, decoded_ahead
    from samplecnn.inference.picture import picture_files
    from samplecnn.inference.timeline import hop_samples

    hop_samples(options.overlap)  # said before a model is loaded
    paths = gather(options.files)
    pictures = picture_files(paths, options.files, options.plot) if options.plot else {}
    failed = 0
    with ExitStack() as stack:
        decoders = [stack.enter_context(DecoderProcess()) for _ in paths[:2]]
        model = options.model or newest_run(RUNS)
        tagger = load_tagger(model, options)
        if not (options.json or options.csv or options.quiet):
            print(f"model: {printable(str(model))}")
        if options.csv:
            times = ("start", "end") if options.over_time else ()
            table = csv.writer(sys.stdout, lineterminator="\n")
            table.writerow(["file", *times, *map(csv_text, tagger.tags)])
        with tqdm(total=len(paths), unit="file", disable=None, leave=False) as bar:
            for decoder in decoded_ahead(paths, decoders, strict=options.strict):
                try:
                    tag_file(decoder, pictures.get(decoder.path), tagger, bar, options)
                except BrokenPipeError:  # whoever reads has seen enough
                    raise
                except (AudioError, OSError) as error:
                    failed += 1
                    with bar.external_write_mode():
                        complain(error)
                        if options.json:
                            line = {"file": str(decoder.path), "error": str(error)}
                            print(json.dumps(line), flush=True)
                bar.update()
    if failed:
        complain(f"{failed} of {len(paths)} files could not be read or drawn")
    return UNREADABLE if failed else 0


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


def tag_file(
    decoder: "RemoteDecoder",
    picture: Path | None,
    tagger: "Tagger",
    bar: "tqdm[Path]",
    options: argparse.Namespace,
) -> None:
    """Tag a file, write what was found, draw its picture."""
    from samplecnn.inference.picture import write_picture
    from samplecnn.inference.timeline import clock

    path = decoder.path
    name = printable(path.name)
    bar.set_postfix_str(name)

    def progress(done: float, whole: float | None) -> None:
        bar.set_postfix_str(f"{name}: {clock(done)}" + (f" of {clock(whole)}" if whole is not None else ""))

    with decoder:
        timeline = tagger.listen(decoder, overlap=options.overlap, progress=progress)
    with bar.external_write_mode():
        if decoder.warning:
            complain(f"{path}: {decoder.warning}; what there is was tagged")
        write(path, timeline, options, decoder.warning)
    if picture is not None:
        write_picture(timeline, path.name, picture)


def complain(message: object) -> None:
    """Write a line to the standard error."""
    print(f"samplecnn tag: {printable(str(message))}", file=sys.stderr)


def write(path: Path, timeline: "Timeline", options: argparse.Namespace, warning: str | None) -> None:
    """Write what was found in a file, in the form that was asked for."""
    from samplecnn.inference.timeline import clock

    rows = list(spans(timeline) if options.over_time else [({}, timeline.average(options.average).tolist())])
    if options.json:
        for span, probabilities in rows:
            tags = dict(ranked(timeline.tags, probabilities))
            line = {"file": str(path), **span, "tags": tags} | ({"warning": warning} if warning else {})
            print(json.dumps(line), flush=True)
    elif options.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        # A path that would be a formula to spreadsheets stays a path.
        name = printable(f"./{path}" if str(path).startswith(FORMULA) else str(path))
        for span, probabilities in rows:
            writer.writerow([name, *span.values(), *(f"{value:.6f}" for value in probabilities)])
        sys.stdout.flush()
    elif not options.quiet:
        print(printable(str(path)))
        for span, probabilities in rows:
            best = ranked(timeline.tags, probabilities)[: options.top]
            if span:
                print(
                    f"  {clock(span['start'], 1):>9}  "
                    + ", ".join(f"{printable(tag)} {p:.0%}" for tag, p in best)
                )
            else:
                print("\n".join(f"  {probability:5.1%}  {printable(tag)}" for tag, probability in best))


def spans(timeline: "Timeline") -> Iterator[tuple[dict[str, float], list[float]]]:
    """Yield start and end in seconds and the probabilities of each segment."""
    for start, probabilities in zip(timeline.starts.tolist(), timeline.probabilities.tolist(), strict=True):
        end = min(start + timeline.segment_seconds, timeline.seconds)
        yield {"start": round(start, 3), "end": round(end, 3)}, probabilities


def ranked(tags: Sequence[str], probabilities: Sequence[float]) -> list[tuple[str, float]]:
    """Return the tags with their probabilities, the highest first."""
    return sorted(zip(tags, probabilities, strict=True), key=lambda pair: -pair[1])
