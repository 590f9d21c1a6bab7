"""The results of a run with intervals beside its scores, for a bundle that is given away."""

from dataclasses import replace
from pathlib import Path

from samplecnn.analysis.statistics import bootstrap, score_interval
from samplecnn.runs.errors import RunError
from samplecnn.runs.predictions import belong_to, read_predictions
from samplecnn.runs.results import Results, read_results


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
    per_tag = {
        tag: replace(
            scores,
            roc_auc_interval=score_interval(drawn.roc_auc.tag([0], i)),
            pr_auc_interval=score_interval(drawn.pr_auc.tag([0], i)),
        )
        for i, (tag, scores) in enumerate(results.test.per_tag.items())
    }
    test = replace(
        results.test,
        per_tag=per_tag,
        roc_auc_interval=score_interval(drawn.roc_auc.macro([0])),
        pr_auc_interval=score_interval(drawn.pr_auc.macro([0])),
    )
    made = f"95 % intervals, from {draws:,} draws of the test clips (bootstrap)"
    return replace(results, test=test, interval=made)
