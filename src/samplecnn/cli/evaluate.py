"""``samplecnn evaluate`` and ``example``: test a run again, and show what it says of a clip."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplecnn.cli import robustness
from samplecnn.cli.common import load_tagger, named_run, own_class_options, own_classes, warn_unfinished
from samplecnn.cli.report import aucs, print_rows
from samplecnn.errors import UserError
from samplecnn.text import printable

if TYPE_CHECKING:
    from samplecnn.runs.results import SplitScores


def add_commands(commands: Any) -> None:
    """Add the commands to the parser."""
    shared = own_class_options()
    shared.add_argument("run", type=named_run, metavar="RUN")
    shared.add_argument("--data-root", type=Path, help="where the stores are, if not where they were")

    evaluate = commands.add_parser(
        "evaluate",
        parents=[shared],
        help="test a run again from its folder, or any model on a prepared store",
    )
    evaluate.add_argument(
        "--store",
        type=Path,
        help="test on this prepared store: any model of its tags, such as one that `samplecnn models` lists",
    )
    evaluate.add_argument("--split", help="with --store (default: the one that the model was trained on)")
    evaluate.add_argument("--json", action="store_true", help="the scores as JSON")
    robustness.add_options(evaluate)
    evaluate.set_defaults(command=run_evaluate)

    example = commands.add_parser(
        "example", parents=[shared], help="tag a clip of the test split, with its true tags beside"
    )
    example.add_argument("--clip", metavar="ID", help="clip id (default: the first with three tags or more)")
    example.set_defaults(command=run_example)


def run_evaluate(options: argparse.Namespace) -> int:
    """Test a run again and print its scores per tag."""
    from samplecnn.inference.locate import local
    from samplecnn.training.evaluate import open_subject

    if options.split is not None and options.store is None:
        raise UserError("--split is of a store: say --store STORE --split NAME")
    if options.out is not None and options.under is None:
        raise UserError("--out is of --under, which keeps its results there")
    warn_unfinished(options.run)
    if options.under is not None:
        return robustness.run_under(options)
    where = {"store": options.store, "split": options.split, "data_root": options.data_root}
    scores = open_subject(local(options.run), **where, **own_classes(options)).scores()
    if options.json:
        print(json.dumps(scores.as_dict(), indent=1))
    else:
        print_scores(scores)
    return 0


def run_example(options: argparse.Namespace) -> int:
    """Tag one test clip and print its true tags beside."""
    import numpy as np

    from samplecnn.training.evaluate import example_clip, open_data

    data = open_data(options.run, options.data_root)
    part, store = data.parts["test"], data.store
    index = example_clip(part, options.clip)
    clip = int(part.clips[index])
    true = {tag for tag, label in zip(data.tags, part.labels[index], strict=True) if label}
    tagger = load_tagger(options.run, options)
    probabilities = tagger.predict(store.clip(clip) / np.float32(32768), store.sample_rate)
    clip_id, path = printable(part.clip_ids[index]), printable(store.clip_paths[clip])
    print(f"clip {clip_id} of the test split, never trained on: {path}")
    for name, probability in sorted(zip(tagger.tags, probabilities, strict=True), key=lambda pair: -pair[1]):
        truth = "true" if name in true else ""
        print(f"  {probability:5.1%}  {printable(name):<24} {truth}".rstrip())
    return 0


def print_scores(scores: "SplitScores") -> None:
    """Print the scores of all tags as a table, best first."""
    rows = [[tag, *aucs(of_tag), str(of_tag.positives)] for tag, of_tag in scores.best_first]
    heads = ("tag", "ROC-AUC", "PR-AUC", "positive clips")
    print_rows(heads, rows, below=["mean", *aucs(scores), ""])
