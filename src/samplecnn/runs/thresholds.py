"""A run's ``thresholds.json``: the probability from which on a recording has a tag; untrusted input.

`samplecnn thresholds` chooses them on the validation clips. A bundle has the same in its ``config.json``.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from samplecnn.files import write
from samplecnn.runs import weights
from samplecnn.runs.bundle import CONFIG, WEIGHTS, read_bundle
from samplecnn.runs.errors import RunError
from samplecnn.runs.rules import COUNT, PRINTABLE, UNIT, WHOLE, Rule, checked
from samplecnn.runs.untrusted import read_json

FILE = "thresholds.json"
BY_TAG = Rule("thresholds by tag, of at least one", lambda v: isinstance(v, dict) and bool(v))


@dataclass(frozen=True, kw_only=True)
class TagThreshold:
    """The threshold of one tag, and what it does on the validation clips.

    All is None but ``positives`` where no threshold does what was wanted: the tag is then never given.
    """

    threshold: Annotated[float | None, UNIT]  # the lowest probability that counts
    precision: Annotated[float | None, UNIT]  # share of the clips that get the tag which have it
    recall: Annotated[float | None, UNIT]  # share of the clips that have the tag which get it
    f1: Annotated[float | None, UNIT]
    positives: Annotated[int, WHOLE]  # clips that have the tag


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The thresholds of all tags, and what they were chosen for and on."""

    wanted_precision: Annotated[float | None, UNIT]  # None: the highest F1
    split: Annotated[str, PRINTABLE]
    split_hash: Annotated[str, PRINTABLE]
    clips: Annotated[int, COUNT]  # of the validation part
    checkpoint: Annotated[str | None, PRINTABLE] = None  # SHA-256 of the file; in a bundle None
    per_tag: Annotated[Mapping[str, TagThreshold], BY_TAG]

    def decided(self, probabilities: Mapping[str, float]) -> dict[str, float]:
        """Return the tags whose probability reaches their threshold, the likeliest first."""
        ranked = sorted(probabilities.items(), key=lambda item: -item[1])
        lowest = {tag: of_tag.threshold for tag, of_tag in self.per_tag.items()}
        return {tag: p for tag, p in ranked if (least := lowest[tag]) is not None and p >= least}


def read_run_thresholds(run: Path) -> Thresholds | None:
    """Return the thresholds in a run folder, None if it has none; RunError for a file that is not sound."""
    path = run / FILE
    return checked(Thresholds, read_json(path), str(path)) if path.is_file() else None


def read_thresholds(checkpoint: Path, tags: Sequence[str]) -> Thresholds:
    """Return the thresholds of the model whose weights are in the file ``checkpoint``.

    Raises RunError, which says what to do, where there are none, and for those of other tags or weights.
    """
    if checkpoint.name == WEIGHTS:
        where, plain = checkpoint.parent / CONFIG, read_bundle(checkpoint.parent).thresholds
        if plain is None:
            raise RunError(
                f"{checkpoint.parent} has no thresholds: `samplecnn thresholds RUN` before `samplecnn export "
                "RUN` puts them into a bundle, and --threshold P is one for all tags"
            )
        found = checked(Thresholds, plain, str(where), "thresholds.")
    else:
        run = checkpoint.parent.parent
        again = f"`samplecnn thresholds {shlex.quote(str(run))}` chooses them on its validation clips"
        chosen = read_run_thresholds(run)
        if chosen is None:
            raise RunError(f"the model {checkpoint} has no thresholds: {again}")
        where, found = run / FILE, chosen
        if found.checkpoint != weights.file_sha256(checkpoint):
            raise RunError(f"{where} is of other weights than those in {checkpoint}: {again}")
    if set(found.per_tag) != set(tags):
        raise RunError(f"{where} has thresholds of other tags than the model")
    return found


def write_thresholds(run: Path, thresholds: Thresholds) -> None:
    """Write thresholds into a run folder."""
    write(run / FILE, json.dumps(asdict(thresholds), indent=1, allow_nan=False) + "\n")
