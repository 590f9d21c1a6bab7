"""``samplecnn probe``: a small classifier on a model's embeddings of a prepared store."""

import argparse
from datetime import datetime
from pathlib import Path
from typing import Any

from samplecnn.cli.common import (
    RUNS,
    comma_separated,
    default_model,
    model_name,
    named_run,
    own_class_options,
    own_classes,
    positive,
    warn_unfinished,
    whole,
)
from samplecnn.cli.evaluate import print_scores

KINDS = ("linear", "mlp")  # as in `samplecnn.training.classifiers`, which loads PyTorch


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    probe = commands.add_parser(
        "probe",
        parents=[own_class_options()],
        help="a model put to other tags: a classifier on its embeddings of a prepared store",
        description="Fit a classifier to a model's embeddings of a store's training clips, choose by the "
        "validation clips, test on the test clips, and leave a run folder that tags, and goes wherever other "
        "runs go. Embeddings are kept beside it, so that a second classifier takes seconds.",
    )
    probe.add_argument("store", type=Path, metavar="STORE")
    probe.add_argument(
        "--model", type=named_run, help="(default: that of `samplecnn use`, or the newest finished run)"
    )
    probe.add_argument(
        "--kind",
        choices=KINDS,
        default="linear",
        help="a logistic regression per tag, or a network with one hidden layer (default: linear)",
    )
    probe.add_argument(
        "--levels",
        type=comma_separated,
        metavar="A,B,C",
        help="that are joined (default: what the network tags by); `samplecnn embed --help` lists them",
    )
    probe.add_argument("--split", help="(default: the store's first)")
    probe.add_argument(
        "--top", type=positive, default=50, metavar="N", help="most frequent tags (default: 50)"
    )
    probe.add_argument("--seed", type=whole, default=0, metavar="N", help="of --kind mlp (default: 0)")
    probe.add_argument("--out", type=Path, metavar="RUN", help="default: a new folder in runs/probe")
    probe.set_defaults(command=run_probe)


def run_probe(options: argparse.Namespace) -> int:
    """Fit and test a classifier, and print its scores."""
    from samplecnn.analysis.statistics import results_with_intervals
    from samplecnn.analysis.tabular import number, span
    from samplecnn.inference.known.catalog import with_source
    from samplecnn.inference.locate import local
    from samplecnn.runs.bundle import WEIGHTS, read_bundle
    from samplecnn.runs.folder import BEST, find_checkpoint, read_description
    from samplecnn.training.probe import probe

    model = options.model or default_model()
    warn_unfinished(model)
    found = find_checkpoint(local(model))
    source = read_bundle(found.parent).source if found.name == WEIGHTS else "trained with samplecnn"
    known = with_source(source)
    out: Path = options.out or RUNS / "probe" / f"{datetime.now():%Y-%m-%d-%H-%M-%S}"
    probe(
        options.store,
        found,
        out,
        name=model_name(model, read_description(found).words[0]),
        source=source,
        license_id=known.license_id if known else None,
        kind=options.kind,
        levels=options.levels,
        split=options.split,
        top=options.top,
        seed=options.seed,
        **own_classes(options),
    )
    results = results_with_intervals(out, draws=1000)
    test = results.test
    print_scores(test)
    for title, value, interval in (
        ("ROC-AUC", test.roc_auc, test.roc_auc_interval),
        ("PR-AUC", test.pr_auc, test.pr_auc_interval),
    ):
        covers = f" (95 % interval {span(interval)})" if interval else ""
        print(f"macro {title} {number(value)}{covers}")
    chosen = ", ".join(f"{key} {value:g}" for key, value in results.val.items())
    size = (out / BEST).stat().st_size
    print(f"validation: {chosen}\n{out}: {size:,} bytes of weights, those of {results.probe_of} among them")
    return 0
