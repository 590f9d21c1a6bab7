"""``samplecnn export``, ``import-keras``, ``push`` and ``pull``: models to give away, and those of others."""

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplecnn.cli.common import own_block_option, own_blocks, positive

if TYPE_CHECKING:
    from samplecnn.analysis.statistics import Bootstrap
    from samplecnn.inference.onnx_export import OnnxFile

LARGEST_TAGS = 1 << 20  # bytes of a file of tags


def add_commands(commands: Any) -> None:
    """Add the commands to the parser."""
    placed = argparse.ArgumentParser(add_help=False)
    placed.add_argument("--force", action="store_true", help="replace a bundle that is there")

    export = commands.add_parser(
        "export",
        parents=[own_block_option(), placed],
        help="write a model to give away: weights, configuration, model card, perhaps ONNX",
    )
    export.add_argument("run", type=Path, metavar="RUN", help="run folder, checkpoint or bundle")
    export.add_argument("folder", type=Path, metavar="DIR", help="the bundle to write")
    export.add_argument("--onnx", action="store_true", help="model.onnx too")
    export.add_argument("--half", action="store_true", help="with --onnx, model_fp16.onnx too: half the size")
    export.add_argument(
        "--license", metavar="ID", help="of the weights, for the card, such as mit or cc-by-4.0"
    )
    export.add_argument(
        "--draws", type=positive, default=1000, metavar="N", help="of the bootstrap (default: 1000)"
    )
    export.set_defaults(command=run_export)

    keras = commands.add_parser(
        "import-keras", parents=[placed], help="make a bundle of weights that the paper's authors published"
    )
    keras.add_argument("file", type=Path, metavar="FILE", help="an .hdf5 file of tae-jun/resemul")
    keras.add_argument("folder", type=Path, metavar="DIR", help="the bundle to write")
    keras.add_argument(
        "--tags",
        type=Path,
        metavar="TAGS",
        help="text file that names the outputs, a line each (default: the authors' 50 tags of MagnaTagATune)",
    )
    keras.set_defaults(command=run_import_keras)

    push = commands.add_parser("push", help="upload a bundle to the Hugging Face Hub")
    push.add_argument("folder", type=Path, metavar="DIR")
    push.add_argument("repository", metavar="OWNER/NAME")
    push.add_argument("--public", action="store_true", help="for everybody to see, if the repository is new")
    push.set_defaults(command=run_push)

    pull = commands.add_parser("pull", parents=[placed], help="download a bundle from the Hugging Face Hub")
    pull.add_argument("repository", metavar="OWNER/NAME[@REVISION]")
    pull.add_argument("folder", type=Path, metavar="DIR")
    pull.set_defaults(command=run_pull)


def run_export(options: argparse.Namespace) -> int:
    """Write a bundle of a run, with intervals where its predictions are there."""
    from samplecnn.inference.bundle import check_place, write_bundle
    from samplecnn.inference.onnx_export import require_libraries, write_onnx
    from samplecnn.runs.bundle import WEIGHTS, read_bundle
    from samplecnn.runs.folder import load_model, read_config

    if options.half and not options.onnx:
        raise ValueError("--half is a variant of the ONNX file: say --onnx --half")
    check_place(options.folder.resolve(), force=options.force)
    if options.onnx:
        require_libraries()
    model = load_model(options.run, own_blocks(options.block))
    source, config, results = "trained with samplecnn", None, None
    if model.checkpoint.name == WEIGHTS:
        given = read_bundle(model.checkpoint.parent)
        source, config, results = given.source, given.config, given.results
        check_told(results)
    elif options.run.is_dir():
        config = read_config(options.run)
        results = tested(options.run, draws=options.draws)
    exported = write_bundle(
        model,
        options.folder,
        source=source,
        results=results,
        config=config,
        license_id=options.license,
        onnx=partial(write_onnx, half=options.half) if options.onnx else None,
        force=options.force,
    )
    print_bundle(options.folder, exported)
    return 0


def check_told(results: Mapping[str, Any] | None) -> None:
    """Raise RunError for results in a bundle that cannot be passed on."""
    from samplecnn.runs.records import check_results

    if results is not None:
        check_results(results)


def tested(run: Path, *, draws: int) -> dict[str, Any] | None:
    """Return the results of a run with 95 % intervals; None, with a word, for one that has not finished."""
    from samplecnn.analysis.statistics import bootstrap
    from samplecnn.runs.folder import RunError, read_results
    from samplecnn.runs.predictions import belong_to, read_predictions
    from samplecnn.runs.records import check_results

    if not (run / "results.json").is_file():
        print(f"samplecnn export: {run} has not finished: the bundle tells no results", file=sys.stderr)
        return None
    results = read_results(run)
    check_results(results)
    predictions = read_predictions(run)
    if predictions is None:
        return results
    if not belong_to(predictions, results["test"]):
        raise RunError(f"{run}: predictions.npz and results.json are of different runs: tags or AUC differ")
    sampled = bootstrap(predictions.labels, [predictions.probabilities], draws=draws)
    results["test"] = with_intervals(results["test"], sampled)
    results["interval"] = f"95 % intervals, from {draws:,} draws of the test clips (bootstrap)"
    return results


def with_intervals(test: Mapping[str, Any], sampled: "Bootstrap") -> dict[str, Any]:
    """Return the scores of a test with their intervals beside; None where there is none to tell."""
    from samplecnn.analysis.statistics import score_interval

    kinds = {"roc_auc": sampled.roc_auc, "pr_auc": sampled.pr_auc}

    def beside(scores: Mapping[str, Any], intervals: Mapping[str, Any]) -> dict[str, Any]:
        return dict(scores) | {f"{kind}_interval": interval for kind, interval in intervals.items()}

    per_tag = {
        tag: beside(scores, {kind: score_interval(drawn.tag([0], i)) for kind, drawn in kinds.items()})
        for i, (tag, scores) in enumerate(test["per_tag"].items())
    }
    macro = beside(test, {kind: score_interval(drawn.macro([0])) for kind, drawn in kinds.items()})
    return macro | {"per_tag": per_tag}


def print_bundle(folder: Path, exported: "list[OnnxFile]") -> None:
    """Say what has been written."""
    from samplecnn.runs.bundle import FILES

    for name in FILES:
        if (folder / name).is_file():
            print(f"{folder / name}  {(folder / name).stat().st_size:,} bytes")
    for file in exported:
        print(
            f"{file.path.name}: opset {file.opset}, {file.bytes:,} bytes; "
            f"probabilities within {file.difference:.1e} of PyTorch's ({file.tolerance:.0e} allowed)"
        )


def run_import_keras(options: argparse.Namespace) -> int:
    """Write a bundle of a Keras file."""
    from samplecnn.inference.bundle import check_place, write_bundle
    from samplecnn.inference.keras_import import import_keras, source

    check_place(options.folder.resolve(), force=options.force)
    tags = read_tags(options.tags) if options.tags else None
    model = import_keras(options.file, tags)
    write_bundle(model, options.folder, source=source(options.file), force=options.force)
    block = dict(model.description["block"])
    said = ", ".join([block.pop("name"), *(f"{key} {value:g}" for key, value in block.items())])
    levels = "multi" if model.description["multi"] else "no multi"
    print(f"{said}, {levels}, width {model.description['width']}, {len(model.tags)} tags")
    print_bundle(options.folder, [])
    return 0


def read_tags(path: Path) -> list[str]:
    """Return the names in a text file, a line each; ValueError for one that cannot be a tag."""
    with path.open("rb") as file:
        data = file.read(LARGEST_TAGS + 1)
    if len(data) > LARGEST_TAGS:
        raise ValueError(f"{path} has more than {LARGEST_TAGS >> 20} MiB: not a list of tags")
    names = data.decode("utf-8").splitlines()
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        if not name.strip() or not name.isprintable() or name in seen:
            raise ValueError(f"{path}, line {number}: {name[:80]!r} is empty, repeated or not printable")
        seen.add(name)
    return names


def run_push(options: argparse.Namespace) -> int:
    """Upload a bundle."""
    from samplecnn.inference.hub import push

    print(push(options.folder, options.repository, public=options.public))
    return 0


def run_pull(options: argparse.Namespace) -> int:
    """Download a bundle."""
    from samplecnn.inference.hub import Reference, pull

    print_bundle(pull(Reference.parse(options.repository), options.folder, force=options.force), [])
    return 0
