"""``samplecnn tag``: the tags of audio files, of each as a whole or over time."""

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from samplecnn.cli.common import RUNS, load_tagger, newest_run, own_block_option, positive

if TYPE_CHECKING:
    from samplecnn.inference.timeline import Timeline

UNREADABLE = 3  # exit status
DESCRIPTION = """\
Tag audio files, and all audio below folders, with the probability of each tag.

A segment of 2.7 s at a time goes through the network; a file's probabilities are their average. Files are
read as they are tagged, in constant memory, however long they are. What cannot be read is reported, and the
rest goes on."""
EPILOG = """\
exit status: 0 if all files were tagged; 3 if some could not be read; 1 if the command could not be carried
out (no such model, say); 2 for a wrong command line.

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
    tag.add_argument("--top", type=positive, default=5, metavar="N", help="tags to show (default: 5)")
    form = tag.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="all tags, a column each, times in seconds")
    form.add_argument("--json", action="store_true", help="all tags, a JSON object per line")
    form.add_argument("--quiet", action="store_true", help="print nothing but errors")
    tag.add_argument("--plot", type=Path, metavar="DIR", help="draw waveform and tags over time of each file")
    tag.set_defaults(command=run_tag)


def run_tag(options: argparse.Namespace) -> int:
    """Tag files; report those that cannot be read and go on."""
    from samplecnn.data.audio import AudioError
    from samplecnn.inference.files import audio_files
    from samplecnn.inference.timeline import clock, hop_samples

    hop_samples(options.overlap)  # said before a model is loaded
    paths = list(audio_files(options.files))
    model = options.model or newest_run(RUNS)
    tagger = load_tagger(model, options.block)
    if not (options.json or options.csv or options.quiet):
        print(f"model: {model}")
    if options.csv:
        header = ("file", "start", "end", *tagger.tags) if options.over_time else ("file", *tagger.tags)
        csv.writer(sys.stdout, lineterminator="\n").writerow(header)
    failed = 0
    with tqdm(paths, unit="file", disable=None, leave=False) as bar:
        for path in bar:
            bar.set_postfix_str(path.name)

            def progress(done: float, whole: float, name: str = path.name) -> None:
                bar.set_postfix_str(f"{name}: {clock(done)} of {clock(whole)}")

            try:
                timeline = tagger.timeline(path, overlap=options.overlap, progress=progress)
            except (AudioError, OSError) as error:
                failed += 1
                with bar.external_write_mode():
                    print(f"samplecnn tag: {error}", file=sys.stderr)
                    if options.json:
                        print(json.dumps({"file": str(path), "error": str(error)}), flush=True)
                continue
            if options.plot:
                from samplecnn.inference.picture import picture_file, write_picture

                write_picture(timeline, path.name, picture_file(path, options.files, options.plot))
            with bar.external_write_mode():
                write(path, timeline, options)
    if failed:
        print(f"samplecnn tag: {failed} of {len(paths)} files could not be read", file=sys.stderr)
    return UNREADABLE if failed else 0


def write(path: Path, timeline: "Timeline", options: argparse.Namespace) -> None:
    """Write what was found in a file, in the form that was asked for."""
    from samplecnn.inference.timeline import clock

    rows = list(spans(timeline) if options.over_time else [({}, timeline.average(options.average).tolist())])
    if options.json:
        for span, probabilities in rows:
            told = dict(ranked(timeline.tags, probabilities))
            print(json.dumps({"file": str(path), **span, "tags": told}), flush=True)
    elif options.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        for span, probabilities in rows:
            writer.writerow([path, *span.values(), *(f"{value:.6f}" for value in probabilities)])
        sys.stdout.flush()
    elif not options.quiet:
        print(path)
        for span, probabilities in rows:
            best = ranked(timeline.tags, probabilities)[: options.top]
            if span:
                print(f"  {clock(span['start'], 1):>9}  " + ", ".join(f"{tag} {p:.0%}" for tag, p in best))
            else:
                print("\n".join(f"  {probability:5.1%}  {tag}" for tag, probability in best))


def spans(timeline: "Timeline") -> Iterator[tuple[dict[str, float], list[float]]]:
    """Yield start and end in seconds and the probabilities of each segment."""
    for start, probabilities in zip(timeline.starts.tolist(), timeline.probabilities.tolist(), strict=True):
        end = min(start + timeline.segment_seconds, timeline.seconds)
        yield {"start": round(start, 3), "end": round(end, 3)}, probabilities


def ranked(tags: Sequence[str], probabilities: Sequence[float]) -> list[tuple[str, float]]:
    """Return the tags with their probabilities, the highest first."""
    return sorted(zip(tags, probabilities, strict=True), key=lambda pair: -pair[1])
