"""What came of a run: ``results.json`` in its folder, and ``results`` in a bundle's ``config.json``."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from samplecnn.files import write
from samplecnn.overrides import command, override
from samplecnn.runs.errors import RunError
from samplecnn.runs.rules import (
    COUNT,
    NAME,
    NOT_NEGATIVE,
    OBJECT,
    OF_SAMPLECNN,
    PRINTABLE,
    SAMPLECNN,
    WHOLE,
    Rule,
    checked,
    require,
)
from samplecnn.runs.untrusted import read_json

RESULTS = "results.json"
INTERVALS = ("roc_auc_interval", "pr_auc_interval")

Interval = tuple[float, float]


def _is_auc(value: Any) -> bool:
    return NOT_NEGATIVE.holds(value) and value < 1 + 1e-5  # single precision may go a little beyond 1


AUC = Rule("null or a number from 0 to 1", _is_auc)
INTERVAL = Rule(
    "null or two numbers from 0 to 1",
    lambda v: isinstance(v, list | tuple) and len(v) == 2 and all(map(_is_auc, v)),
)
BY_TAG = Rule("scores by tag, of at least one", lambda v: isinstance(v, dict) and bool(v))
TAGS = Rule("a list of tags", lambda v: isinstance(v, list | tuple) and all(map(PRINTABLE.holds, v)))


@dataclass(frozen=True, kw_only=True)
class Scores:
    """ROC-AUC and PR-AUC, with 95 % intervals where they were computed; None where there is none."""

    roc_auc: Annotated[float | None, AUC]
    pr_auc: Annotated[float | None, AUC]
    roc_auc_interval: Annotated[Interval | None, INTERVAL] = None
    pr_auc_interval: Annotated[Interval | None, INTERVAL] = None


@dataclass(frozen=True, kw_only=True)
class TagScores(Scores):
    """The scores of one tag; None where it has no positive or no negative clip."""

    positives: Annotated[int, WHOLE]  # clips


@dataclass(frozen=True, kw_only=True)
class SplitScores(Scores):
    """The scores of a split: the means over its tags, and those of each."""

    loss: Annotated[float | None, NOT_NEGATIVE] = None  # cross-entropy per segment
    undefined: Annotated[tuple[str, ...], TAGS] = ()  # tags that the means leave out
    per_tag: Annotated[dict[str, TagScores], BY_TAG]

    @classmethod
    def of(
        cls,
        per_tag: dict[str, TagScores],
        roc_auc_interval: Interval | None = None,
        pr_auc_interval: Interval | None = None,
    ) -> "SplitScores":
        """Return the scores of tags with their means, which leave out the tags that have none."""
        return cls(
            roc_auc=mean_of_defined([scores.roc_auc for scores in per_tag.values()]),
            pr_auc=mean_of_defined([scores.pr_auc for scores in per_tag.values()]),
            undefined=tuple(tag for tag, scores in per_tag.items() if scores.roc_auc is None),
            per_tag=per_tag,
            roc_auc_interval=roc_auc_interval,
            pr_auc_interval=pr_auc_interval,
        )

    @property
    def best_first(self) -> list[tuple[str, TagScores]]:
        """Tags with their scores, the highest ROC-AUC first, and last those that have none."""
        return sorted(self.per_tag.items(), key=lambda item: -(item[1].roc_auc or 0))

    def as_dict(self, *, intervals: bool = False) -> dict[str, Any]:
        """Return plain values for JSON, without the intervals unless they are asked for."""
        plain = asdict(self)
        if self.loss is None:
            del plain["loss"]
        for scores in () if intervals else (plain, *plain["per_tag"].values()):
            for key in INTERVALS:
                del scores[key]
        return plain


def mean_of_defined(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are not None; None if all are."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a run is, what it took and how well it does."""

    model: Annotated[str, NAME] = SAMPLECNN
    block: Annotated[str | None, NAME] = None  # these three of a SampleCNN alone
    multi: bool | None = None
    width: int | None = None
    probe_of: Annotated[str | None, PRINTABLE] = None  # whose embeddings a probe hears: name and weights
    seed: int
    recipe: Annotated[str | None, NAME] = None
    averaged: Annotated[str | None, PRINTABLE] = None  # what the tested weights are an average of
    data: Annotated[str, NAME]
    split: Annotated[str, PRINTABLE]
    split_hash: Annotated[str, PRINTABLE]
    parameters: Annotated[int, COUNT]
    epochs: Annotated[int, COUNT]
    train_seconds: Annotated[float, NOT_NEGATIVE]
    val: Annotated[Mapping[str, float], OBJECT] = field(default_factory=dict)
    test: SplitScores
    segments_per_second: Annotated[float | None, NOT_NEGATIVE] = None  # of training
    peak_memory_bytes: Annotated[int | None, NOT_NEGATIVE] = None
    precision: Annotated[str, PRINTABLE]
    backend: Annotated[str | None, PRINTABLE] = None
    hardware: Annotated[str, PRINTABLE]
    versions: Annotated[Mapping[str, str], OBJECT] = field(default_factory=dict)
    config_hash: Annotated[str, PRINTABLE]
    interval: Annotated[str | None, PRINTABLE] = None  # how the intervals were made

    @classmethod
    def read(cls, plain: Any, where: str = RESULTS) -> "Results":
        """Check plain values; RunError, which names ``where`` and the key, for one that is not allowed."""
        if not isinstance(plain, dict):
            raise RunError(f"{where} holds a {type(plain).__name__}, not an object")
        versions = plain.get("versions")
        pairs = versions.items() if isinstance(versions, dict) else ()
        versions = {key: value for key, value in pairs if PRINTABLE.holds(key) and PRINTABLE.holds(value)}
        absent = _other_version(versions.get("samplecnn", "of unknown version"))
        read = {
            **plain,
            "versions": versions,
            "backend": plain.get("backend", plain.get("path")),  # its name in earlier results
            "test": plain.get("test", {}),
        }
        results = checked(cls, read, where, absent=absent)
        if results.model == SAMPLECNN:
            require(results, OF_SAMPLECNN, where, absent=absent)
        return results

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain = {**asdict(self), "test": self.test.as_dict(intervals=self.interval is not None)}
        if self.model == SAMPLECNN:
            del plain["model"]  # as it was before there were others
        return {key: value for key, value in plain.items() if value is not None}


def _other_version(theirs: str) -> str:
    return (
        f": it was written by samplecnn {theirs[:20]}, and this is {installed('samplecnn')}: "
        "report with that one, or train again"
    )


def read_results(run: Path) -> Results:
    """Return the results of a finished run; RunError if there are none, or no sound ones."""
    path = run / RESULTS
    if not path.is_file():
        again = f"{command('train')} {override('resume', run)}"
        raise RunError(f"{run} has no {RESULTS}: the run has not finished ({again} goes on with it)")
    try:
        plain = read_json(path)
    except RunError as error:
        raise RunError(f"{error}: train the run again") from error
    return Results.read(plain, str(path))


def write_results(run: Path, results: Results) -> None:
    """Write the results into a run folder, which has finished with that."""
    write(run / RESULTS, json.dumps(results.as_dict(), indent=1, allow_nan=False) + "\n")


def installed(name: str) -> str:
    """Return the version of a package; this one says its own where it runs without being installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return str(getattr(sys.modules.get(name), "__version__", "not installed"))


def versions() -> dict[str, str]:
    """Return the versions of what computes, and the commit where the program runs from a git checkout."""
    found = {name: installed(name) for name in ("samplecnn", "torch", "pytorch-lightning")}
    here = Path(__file__).parent
    if (here.parents[2] / ".git").exists() and (git := shutil.which("git")):
        git_says = subprocess.run(
            [git, "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            check=False,
            capture_output=True,
            text=True,
        )
        if git_says.returncode == 0:
            found["commit"] = git_says.stdout.strip()
    return found
