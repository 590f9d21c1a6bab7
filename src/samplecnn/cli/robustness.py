"""``samplecnn evaluate --under``: how well a model does on a disturbed test part."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from samplecnn.cli.common import own_classes
from samplecnn.errors import UserError
from samplecnn.text import printable

if TYPE_CHECKING:
    from samplecnn.runs.robustness import Robustness
    from samplecnn.training.evaluate import Subject

LOCK = "robustness.lock"
Under = Sequence[tuple[str, float]]  # disturbances, each with a strength


def add_options(evaluate: argparse.ArgumentParser) -> None:
    """Add the options to the parser of ``samplecnn evaluate``."""
    evaluate.add_argument(
        "--under",
        type=disturbances,
        metavar="NAME,...",
        help="test under disturbances of several strengths: noise, pitch, stretch, mp3, level, lowpass; or "
        "strengths of your own, NAME=STRENGTH:STRENGTH",
    )
    evaluate.add_argument(
        "--out", type=Path, metavar="DIR", help="with --under: where to put its results (default: the run)"
    )


def disturbances(text: str) -> Under:
    """Read ``noise,pitch=-1:1`` as argparse's ``type``: disturbances with their strengths."""
    from samplecnn.runs.robustness import DISTURBANCES

    found: list[tuple[str, float]] = []
    for part in text.split(","):
        name, separator, listed = part.partition("=")
        if name not in DISTURBANCES:
            known = ", ".join(DISTURBANCES)
            raise argparse.ArgumentTypeError(f"there is no disturbance {name!r}: allowed are {known}")
        disturbance = DISTURBANCES[name]
        low, high = disturbance.allowed
        try:
            strengths = tuple(map(float, listed.split(":"))) if separator else disturbance.strengths
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{part}: write numbers, as in {name}={low:g}:{high:g}"
            ) from None
        if beyond := [strength for strength in strengths if not low <= strength <= high]:
            allowed = f"allowed are {low:g} to {high:g} ({disturbance.axis})"
            raise argparse.ArgumentTypeError(f"{name}={beyond[0]:g}: {allowed}")
        found += [(name, strength) for strength in strengths]
    return found


def run_under(options: argparse.Namespace) -> int:
    """Test a model under disturbances; print the table, and write it with the figure beside the results."""
    from samplecnn.analysis.robustness import robustness_table, write_files
    from samplecnn.cli.report import print_table
    from samplecnn.files import locked
    from samplecnn.inference.locate import local
    from samplecnn.runs.config import CONFIG
    from samplecnn.runs.robustness import ROBUSTNESS
    from samplecnn.training.evaluate import open_subject
    from samplecnn.training.robustness import check_strength

    model = local(options.run)
    if options.out is None and (options.store is not None or not (model / CONFIG).is_file()):
        raise UserError(
            "--under keeps its results in the run folder: with --store, or of a bundle, say --out DIR"
        )
    folder: Path = options.out or model
    where = {"store": options.store, "split": options.split, "data_root": options.data_root}
    subject = open_subject(model, **where, **own_classes(options))
    for name, strength in options.under:
        check_strength(name, strength, subject.data.store.sample_rate)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK):
        try:
            found = measure(subject, options.under, folder / ROBUSTNESS)
        except KeyboardInterrupt:
            print("stopped: the same command goes on with the next strength", file=sys.stderr)
            raise
        write_files(found, folder)
    asked = {
        name: tuple(point for point in found.under[name] if (name, point.strength) in options.under)
        for name, _ in options.under
    }
    found = replace(found, under=asked)
    if options.json:
        print(json.dumps(asdict(found), indent=1))
    else:
        print_table(robustness_table({printable(str(options.run)): found}, whole=True))
        print(f"\n{folder / 'robustness.csv'}, {folder / 'robustness.svg'}")
    return 0


def measure(subject: "Subject", under: Under, path: Path) -> "Robustness":
    """Return all that is known of a model, after what is missing was measured; each strength is kept at once.

    Raises UserError where the file holds the results of another model or test part.
    """
    from samplecnn.analysis.robustness import score_point
    from samplecnn.runs.robustness import Point, Robustness, read_robustness, write_robustness
    from samplecnn.runs.weights import file_sha256
    from samplecnn.training.robustness import clip_probabilities

    def point(name: str | None = None, strength: float | None = None) -> Point:
        said = clip_probabilities(subject, name, strength or 0.0)
        return score_point(subject.tags, subject.labels, said, strength)

    selection = subject.data.selection
    digest = file_sha256(subject.file)
    found = read_robustness(path)
    if found is None:
        found = Robustness(
            model=digest,
            data=subject.data.store.name,
            split=selection.split,
            split_hash=selection.split_hash,
            undisturbed=point(),
        )
        write_robustness(path, found)
    elif (found.model, found.split_hash) != (digest, selection.split_hash):
        raise UserError(
            f"{path} is of other weights or another test part: say another --out DIR, or delete it"
        )
    for name, strength in under:
        if found.found(name, strength) is None:
            known = (*found.under.get(name, ()), point(name, strength))
            found = replace(found, under={**found.under, name: known})
            write_robustness(path, found)
    return found
