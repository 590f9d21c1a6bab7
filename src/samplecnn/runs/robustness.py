"""How well a model does on a disturbed test part: ``robustness.json``; untrusted input.

``samplecnn evaluate --under`` writes it, into the run folder by default, and ``samplecnn report`` shows it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

from samplecnn.files import write
from samplecnn.runs.errors import RunError
from samplecnn.runs.results import Scores
from samplecnn.runs.rules import NUMBER, OBJECT, PRINTABLE, checked
from samplecnn.runs.untrusted import read_json
from samplecnn.text import shown

ROBUSTNESS = "robustness.json"


class Disturbance(NamedTuple):
    """What is done to the clips, and how strong."""

    axis: str  # what a strength is, with its unit
    strengths: tuple[float, ...]  # that are tried where none are named
    allowed: tuple[float, float]
    neutral: float | None  # the strength that changes nothing; None: no number does

    def place(self, strength: float | None) -> float:
        """Return a number to sort strengths by (None: undisturbed): the weakest first, or by their value."""
        if self.neutral is None:  # the lower, the stronger
            return -math.inf if strength is None else -strength
        return self.neutral if strength is None else strength

    def tick(self, strength: float | None) -> str:
        """Return what a scale says of a strength."""
        value = self.neutral if strength is None else strength
        return "none" if value is None else f"{value:g}"


DISTURBANCES = {
    "noise": Disturbance("signal to noise, dB", (40, 30, 20, 10, 0), (-20, 100), None),
    "pitch": Disturbance("shift, semitones", (-4, -2, -1, 1, 2, 4), (-12, 12), 0),
    "stretch": Disturbance("speed, times the original", (0.7, 0.85, 1.15, 1.4), (0.25, 4), 1),
    "mp3": Disturbance("bit rate, kbit/s", (64, 32, 24, 16, 8), (8, 320), None),
    "level": Disturbance("level, dB", (-24, -12, -6, 6, 12), (-60, 40), 0),
    "lowpass": Disturbance("cut-off, Hz", (6000, 3000, 1500, 750), (20, 500_000), None),
}


@dataclass(frozen=True, kw_only=True)
class Point(Scores):
    """The scores under one strength of a disturbance: macro means with 95 % intervals."""

    strength: Annotated[float | None, NUMBER] = None  # None: undisturbed


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """The scores of one model on one test part, undisturbed and under disturbances."""

    model: Annotated[str, PRINTABLE]  # SHA-256 of the file of its weights
    data: Annotated[str, PRINTABLE]
    split: Annotated[str, PRINTABLE]
    split_hash: Annotated[str, PRINTABLE]
    undisturbed: Point
    under: Annotated[Mapping[str, tuple[Point, ...]], OBJECT] = field(default_factory=dict)

    def found(self, name: str, strength: float) -> Point | None:
        """Return the scores under a disturbance; None where they are not known."""
        return next((point for point in self.under.get(name, ()) if point.strength == strength), None)

    def curve(self, name: str) -> list[Point]:
        """Return the scores under a disturbance, the undisturbed ones in their place, the weakest first."""
        disturbance = DISTURBANCES[name]
        points = [point for point in self.under.get(name, ()) if point.strength != disturbance.neutral]
        return sorted([*points, self.undisturbed], key=lambda point: disturbance.place(point.strength))


def read_robustness(path: Path) -> Robustness | None:
    """Return what a file holds, None without one; RunError for a file that is not sound."""
    if not path.is_file():
        return None
    found = checked(Robustness, read_json(path), str(path))
    for name, points in found.under.items():
        if name not in DISTURBANCES:
            known = ", ".join(DISTURBANCES)
            raise RunError(f"{path}: there is no disturbance {shown(name)}; there are {known}")
        strengths = [point.strength for point in points]
        if None in strengths or len(set(strengths)) < len(strengths):
            raise RunError(f"{path}: under.{name} has no strength, or one twice")
    return found


def write_robustness(path: Path, robustness: Robustness) -> None:
    """Write a file that `read_robustness` reads."""
    write(path, json.dumps(asdict(robustness), indent=1, allow_nan=False) + "\n")
