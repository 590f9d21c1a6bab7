"""The scores of a test with 95 % intervals: means of several runs, or of one for a bundle."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from samplecnn.analysis.statistics import Bootstrap, Estimate, bootstrap, score_interval
from samplecnn.runs.errors import RunError
from samplecnn.runs.predictions import belong_to, read_predictions
from samplecnn.runs.results import Results, SplitScores, TagScores, read_results


def split_scores(drawn: Bootstrap, tags: Sequence[str], models: Sequence[int]) -> SplitScores:
    """Return the mean scores of some models, with their intervals where there are clips enough."""
    per_tag = {}
    for index, (tag, positives) in enumerate(zip(tags, drawn.positives.tolist(), strict=True)):
        roc, pr = drawn.roc_auc.tag(models, index), drawn.pr_auc.tag(models, index)
        per_tag[tag] = TagScores(
            roc_auc=_defined(roc),
            pr_auc=_defined(pr),
            positives=positives,
            roc_auc_interval=score_interval(roc),
            pr_auc_interval=score_interval(pr),
        )
    roc, pr = drawn.roc_auc.macro(models), drawn.pr_auc.macro(models)
    return SplitScores(
        roc_auc=_defined(roc),
        pr_auc=_defined(pr),
        undefined=tuple(tag for tag, scores in per_tag.items() if scores.roc_auc is None),
        per_tag=per_tag,
        roc_auc_interval=score_interval(roc),
        pr_auc_interval=score_interval(pr),
    )


def _defined(estimate: Estimate) -> float | None:
    return None if math.isnan(estimate.value) else estimate.value


def results_with_intervals(run: Path, *, draws: int) -> Results:
    """Return the results of a finished run, with 95 % intervals where its predictions are there.

    Raises RunError for a run that has not finished, and for results and predictions of different runs.
    """
    results, predictions = read_results(run), read_predictions(run)
    if predictions is None:
        return results
    if not belong_to(predictions, results.test):
        raise RunError(f"{run}: predictions.npz and results.json are of different runs: tags or AUC differ")
    drawn = bootstrap(predictions.labels, [predictions.probabilities], draws=draws)
    test = replace(split_scores(drawn, predictions.tags, [0]), loss=results.test.loss)
    made = f"95 % intervals, from {draws:,} draws of the test clips (bootstrap)"
    return replace(results, test=test, interval=made)
