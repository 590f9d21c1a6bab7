"""What probabilities are worth where something is decided by them: calibration, thresholds, curves.

All of it is of the test clips of one run. Thresholds come from its validation clips (`samplecnn thresholds`).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from samplecnn.analysis.architectures import Architecture
from samplecnn.analysis.charts import WIDTH, Figure
from samplecnn.analysis.svg import Canvas, Scale
from samplecnn.analysis.tabular import Column, Record, Table, number
from samplecnn.runs.metrics import by_threshold
from samplecnn.runs.predictions import Predictions
from samplecnn.runs.results import mean_of_defined
from samplecnn.runs.thresholds import TagThreshold, Thresholds

BINS = 10  # ranges of probability, equally wide
SMALL = 130.0  # width and height of a tag's curves, in pixels
STEP = 1.0  # pixels that a point of a curve is from the one before, at least
UNCHOSEN = TagThreshold(threshold=None, precision=None, recall=None, f1=None, positives=0)

Floats = NDArray[np.float64]


def reliability(truth: NDArray[Any], probabilities: NDArray[Any]) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Sort predictions of any shape into ranges of probability, equally wide.

    Returns how many predictions are in each, their mean probability, and the share of them that is true;
    ranges without any are left out.
    """
    said, true = probabilities.ravel().astype(np.float64), truth.ravel()
    places = np.minimum((said * BINS).astype(int), BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    some = counts > 0
    sums = (np.bincount(places, weights=values, minlength=BINS) for values in (said, true))
    probability, share = (total[some] / counts[some] for total in sums)
    return counts[some], probability, share


def calibration_error(truth: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """Return the expected calibration error: the mean distance of the ranges' probabilities and shares."""
    counts, probability, share = reliability(truth, probabilities)
    return float(np.average(np.abs(probability - share), weights=counts))


def curves(truth: NDArray[np.bool_], scores: NDArray[Any]) -> tuple[Floats, Floats] | None:
    """Return ROC and PR curve of one tag, exact, ties included; None without positive or negative clips.

    A curve is what every threshold does, from the highest on, ``(thresholds, 2)``: false and true positive
    rate from (0, 0) on; recall and precision.
    """
    positives = int(truth.sum())
    if not 0 < positives < len(truth):
        return None
    _, given, hits = by_threshold(truth, scores)
    recall, false_rate = hits / positives, (given - hits) / (len(truth) - positives)
    roc = np.vstack([np.zeros((1, 2)), np.stack([false_rate, recall], axis=1)])
    return roc, np.stack([recall, hits / given], axis=1)


def decided_scores(
    truth: NDArray[np.bool_], scores: NDArray[Any], threshold: float | None
) -> tuple[float | None, float | None, float | None]:
    """Return precision, recall and F1 of one tag; None where they are 0 of 0, and without a threshold."""
    if threshold is None:
        return None, None, None
    given = scores >= threshold
    hits, count, positives = int((given & truth).sum()), int(given.sum()), int(truth.sum())
    precision = hits / count if count else None
    recall = hits / positives if positives else None
    return precision, recall, 2 * hits / (count + positives) if count + positives else None


def decisions(best: Architecture) -> list[Table | Figure]:
    """Return table and figures of an architecture's first run that has predictions; none without one."""
    for run in best.runs:
        if run.predictions is not None:
            of_run = f"{best.label}, seed {run.seed}" if len(best.runs) > 1 else best.label
            return [
                decision_table(best, run.predictions, run.thresholds, of_run),
                reliability_figure(run.predictions, of_run),
                *curve_figures(run.predictions, run.thresholds, of_run),
            ]
    return []


def _by_tag(
    predictions: Predictions, thresholds: Thresholds | None
) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.float32], TagThreshold]]:
    """Yield each tag with labels and probabilities of its clips, ``(clips,)``, and its threshold."""
    labels, said = predictions.labels.T.astype(bool), predictions.probabilities.T
    for tag, *of_tag in zip(predictions.tags, labels, said, strict=True):
        yield tag, *of_tag, thresholds.per_tag[tag] if thresholds else UNCHOSEN


def decision_table(
    best: Architecture, predictions: Predictions, thresholds: Thresholds | None, of_run: str
) -> Table:
    """Return what the thresholds do on the test clips, and how calibrated the probabilities are."""
    records: list[Record] = []
    for tag, truth, said, chosen in _by_tag(predictions, thresholds):
        precision, recall, f1 = decided_scores(truth, said, chosen.threshold)
        records.append(
            {
                "cell": best.label,
                "tag": tag,
                "positives": int(truth.sum()),
                "threshold": chosen.threshold,
                "precision": precision,
                "recall": recall,
                "f1": f1,
                "f1_validation": chosen.f1,
                "calibration_error": calibration_error(truth, said),
            }
        )
    records.sort(key=lambda record: -(record["f1"] or 0))
    three = partial(number, digits=3)
    columns = [
        Column("tag", "tag"),
        Column("positive clips", "positives"),
        Column("threshold", "threshold", three, optional=True),
        Column("precision", "precision", three, optional=True),
        Column("recall", "recall", three, optional=True),
        Column("F1", "f1", three, optional=True),
        Column("F1, validation", "f1_validation", three, optional=True),
        Column("calibration error", "calibration_error", three),
    ]
    note = f"{of_run}. {_on_thresholds(thresholds, records)} {ON_CALIBRATION}"
    return Table("decisions", "Decisions and calibration of each tag", note, columns, records)


ON_CALIBRATION = (
    f"Calibration error: clips are sorted into {BINS} equal ranges of probability. It is how far the mean "
    "probability of a range is from the share of its clips that has the tag, the mean over clips."
)


def _on_thresholds(thresholds: Thresholds | None, records: Sequence[Record]) -> str:
    if thresholds is None:
        return "It has no thresholds: samplecnn thresholds RUN chooses them on its validation clips."
    wanted = "the highest F1"
    if thresholds.wanted_precision is not None:
        wanted = f"a precision of {thresholds.wanted_precision:g}"
    means = [mean_of_defined([record[key] for record in records]) for key in ("precision", "recall", "f1")]
    precision, recall, f1 = (number(mean, 3) for mean in means)
    return (
        f"Thresholds were chosen on {thresholds.clips:,} validation clips, for {wanted} of each tag. "
        "Precision, recall and F1 are of the test clips, on which nothing was chosen; means over the tags "
        f"that have them: {precision}, {recall} and {f1}."
    )


def reliability_figure(predictions: Predictions, of_run: str) -> Figure:
    """Draw how often what is said with a probability is true, over all clips and tags."""
    labels, said = predictions.labels, predictions.probabilities
    bins = [row.tolist() for row in reliability(labels, said)]
    height, left = 0.75 * WIDTH, 44.0
    label = "Share of true predictions by their probability"
    canvas = Canvas(WIDTH, height, label, left=left, right=4)
    across, upwards = Scale(0, 1, left + 4, WIDTH - 12), Scale(0, 1, height - 40, 10)
    canvas.scale_beside(upwards, left, WIDTH - 4, 5)
    canvas.scale_below(across, across.ticks(), height - 22, "probability")
    canvas.line("grid", across(0), upwards(0), across(1), upwards(1))
    canvas.curve("line multi", [(across(x), upwards(y)) for x, y in zip(*bins[1:], strict=True)])
    for count, probability, share in zip(*bins, strict=True):
        title = f"{count:,} predictions of {probability:.3f} on average: {share:.3f} are true"
        with canvas.group(title, "multi"):
            canvas.marker(across(probability), upwards(share), "multi")
    error = calibration_error(labels, said)
    note = (
        f"{of_run}: the share of clips that has a tag, by the probability that was said, over all tags and "
        "test clips. On the diagonal a probability is what it says. "
        f"Expected calibration error {number(error)}."
    )
    return Figure("Reliability", note, [("", canvas.markup())])


def curve_figures(predictions: Predictions, thresholds: Thresholds | None, of_run: str) -> list[Figure]:
    """Draw the curves of each tag, a small panel each; nothing where no tag has any."""
    panels = [
        (tag, drawn)
        for tag, truth, said, chosen in _by_tag(predictions, thresholds)
        if (drawn := curves_chart(tag, truth, said, chosen.threshold)) is not None
    ]
    marked = " Marks are at the thresholds." if thresholds else ""
    note = f"{of_run}, on the test clips; both scales go from 0 to 1.{marked}"
    legend = [("multi", "ROC: true over false positive rate"), ("single", "PR: precision over recall")]
    return [Figure("ROC and PR curves of each tag", note, panels, legend, small=True)] if panels else []


def curves_chart(
    tag: str, truth: NDArray[np.bool_], said: NDArray[Any], threshold: float | None
) -> Markup | None:
    """Draw both curves of a tag in one square, with marks at a threshold; None where it has none."""
    if (drawn := curves(truth, said)) is None:
        return None
    canvas = Canvas(SMALL, SMALL, f"ROC and PR curve of {tag}", left=14, right=6)
    across, upwards = Scale(0, 1, 14, SMALL - 6), Scale(0, 1, SMALL - 16, 6)
    for end in (0, 1):
        canvas.line("grid", across(end), upwards(0), across(end), upwards(1))
        canvas.line("grid", across(0), upwards(end), across(1), upwards(end))
        canvas.text(across(end), SMALL - 4, str(end), "tick middle")
        canvas.text(across(0) - 4, upwards(end) + 4, str(end), "tick end")
    precision, recall, _ = decided_scores(truth, said, threshold)
    false_rate = None if threshold is None else float((said[~truth] >= threshold).mean())
    for css, title, points, mark in (
        ("multi", f"ROC curve of {tag}, true over false positive rate", drawn[0], (false_rate, recall)),
        ("single", f"PR curve of {tag}, precision over recall", drawn[1], (recall, precision)),
    ):
        if mark[0] is not None and mark[1] is not None:
            title += f": {number(mark[1], 3)} over {number(mark[0], 3)} at the threshold"
        with canvas.group(title, css):
            places = _thinned([(across(x), upwards(y)) for x, y in points.tolist()])
            canvas.curve("line", places)
            if mark[0] is not None and mark[1] is not None:
                canvas.marker(across(mark[0]), upwards(mark[1]), css)
    return canvas.markup()


def _thinned(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Leave out what cannot be seen: points next to the one before, but for the last."""
    kept = [places[0]]
    for x, y in places[1:-1]:
        if abs(x - kept[-1][0]) + abs(y - kept[-1][1]) >= STEP:
            kept.append((x, y))
    return [*kept, places[-1]]
