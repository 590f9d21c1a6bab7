"""What ``samplecnn tag`` and ``embed`` have in common: a model listens to files, with a bar."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tqdm import tqdm

from samplecnn.cli.common import named_run, own_class_options, positive
from samplecnn.errors import UserError
from samplecnn.text import counted, printable
from samplecnn.threads import available

if TYPE_CHECKING:
    from samplecnn.data.audio import DecoderProcess
    from samplecnn.inference.many import Heard
    from samplecnn.inference.tagger import Predict, Tagger

UNREADABLE = 3  # exit status
LINE_SECONDS = 60.0  # between two lines of progress where there is no bar


def listening_options() -> argparse.ArgumentParser:
    """Return a parent parser with the model, and how it listens to files."""
    shared = argparse.ArgumentParser(add_help=False, parents=[own_class_options()])
    shared.add_argument(
        "--model",
        type=named_run,
        help="run folder, checkpoint, bundle, or hf:OWNER/NAME "
        "(default: that of `samplecnn use`, or the newest finished run)",
    )
    shared.add_argument(
        "--overlap",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of a segment that the next one hears again, 0 to 0.95 (default: 0)",
    )
    shared.add_argument("--strict", action="store_true", help="refuse files that were cut off")
    shared.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="files at a time, each decoded in a process of its own (default: as many as there are cores)",
    )
    return shared


def decoders(options: argparse.Namespace, files: int) -> "list[DecoderProcess]":
    """Return a process for each file that is decoded at a time; they start while the model is loaded."""
    from samplecnn.data.audio import DecoderProcess

    return [DecoderProcess() for _ in range(min(options.workers or available(), files))]


def listen(
    options: argparse.Namespace,
    tagger: "Tagger",
    paths: Sequence[Path],
    decoders: "Sequence[DecoderProcess]",
    progress: "Progress",
    predict: "Predict | None" = None,
) -> "Generator[Heard, None, None]":
    """Yield what is heard in each file; what is printed until the next one stands above the bar.

    ``predict`` is as for `Tagger.listen`.
    """
    from samplecnn.inference.many import listen_to

    heard_files = listen_to(
        tagger,
        paths,
        decoders,
        overlap=options.overlap,
        strict=options.strict,
        progress=progress.listens,
        predict=predict,
    )
    with closing(heard_files):
        for heard in heard_files:
            with progress.above():
                yield heard
            progress.advance(heard.timeline.seconds if heard.timeline else 0)


def gather(named: Sequence[Path], command: str = "tag") -> list[Path]:
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
            endings = ", ".join(sorted(ENDINGS))
            raise UserError(f"no audio file in the folder {path}; counted are {endings}{rest}")
        paths += found.files
        others += found.passed_over
    if others:
        complain(passed_over(others), command)
    return paths


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
