"""``samplecnn export`` and ``push``: models to give away."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplecnn.cli.common import named_run, own_class_options, own_classes, positive, warn_unfinished
from samplecnn.cli.listening import complain, gather
from samplecnn.errors import UserError, require_libraries

if TYPE_CHECKING:
    from samplecnn.inference.onnx_export import Music, OnnxFile
    from samplecnn.runs.description import Description
    from samplecnn.runs.folder import Model

CALIBRATION = 200  # segments of music at most; of every other file they check what the rest gave


def place_options() -> argparse.ArgumentParser:
    """Return a parent parser with ``--force``."""
    placed = argparse.ArgumentParser(add_help=False)
    placed.add_argument("--force", action="store_true", help="replace a bundle that is there")
    return placed


def add_commands(commands: Any) -> None:
    """Add the commands to the parser."""
    export = commands.add_parser(
        "export",
        parents=[own_class_options(), place_options()],
        help="write a model to give away: weights, configuration, model card, perhaps ONNX",
    )
    export.add_argument("run", type=named_run, metavar="RUN", help="run folder, checkpoint, bundle or name")
    export.add_argument("folder", type=Path, metavar="DIR", help="the bundle to write")
    export.add_argument("--onnx", action="store_true", help="model.onnx too")
    export.add_argument("--half", action="store_true", help="with --onnx, model_fp16.onnx too: half the size")
    export.add_argument(
        "--int8", action="store_true", help="with --onnx, model_int8.onnx too: 8-bit integers, faster on CPUs"
    )
    export.add_argument(
        "--calibrate",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="music that --int8 is calibrated on (default: validation clips of the run)",
    )
    export.add_argument(
        "--page", action="store_true", help="ONNX, and a page that tags music in a browser, without a server"
    )
    export.add_argument(
        "--runtime",
        type=Path,
        metavar="DIR",
        help="with --page, the folder dist/ of the npm package onnxruntime-web, whose files the page needs",
    )
    export.add_argument(
        "--license", metavar="ID", help="of the weights, for the card, such as mit or cc-by-4.0"
    )
    export.add_argument(
        "--draws", type=positive, default=1000, metavar="N", help="of the bootstrap (default: 1000)"
    )
    export.set_defaults(command=run_export)

    push = commands.add_parser("push", help="upload a bundle to the Hugging Face Hub")
    push.add_argument("folder", type=Path, metavar="DIR")
    push.add_argument("repository", metavar="OWNER/NAME")
    push.add_argument("--public", action="store_true", help="for everybody to see, if the repository is new")
    push.set_defaults(command=run_push)


def run_export(options: argparse.Namespace) -> int:
    """Write a bundle of a run, with intervals where its predictions are there."""
    from samplecnn.analysis.statistics import results_with_intervals
    from samplecnn.inference.bundle import write_bundle
    from samplecnn.inference.known.catalog import with_source
    from samplecnn.inference.locate import local
    from samplecnn.inference.onnx_export import write_onnx
    from samplecnn.inference.page.export import RUNTIME, write_page
    from samplecnn.runs.bundle import WEIGHTS, read_bundle
    from samplecnn.runs.folder import load_model, read_config
    from samplecnn.runs.thresholds import FILE, read_thresholds

    check_export(options)
    options.run = local(options.run)
    model = load_model(options.run, **own_classes(options))
    source, config, results, has_thresholds = "trained with samplecnn", None, None, False
    probe = model.description.probe
    license_id = probe.license if probe else None
    if model.checkpoint.name == WEIGHTS:
        given = read_bundle(model.checkpoint.parent)
        source, config, results = given.source, given.config, given.results()
        has_thresholds = given.thresholds is not None
        if known := with_source(source):
            license_id = known.license_id
    elif options.run.is_dir():
        config, has_thresholds = read_config(options.run).plain, (options.run / FILE).is_file()
        if warn_unfinished(options.run):
            complain("the bundle has no results", "export")
        else:
            results = results_with_intervals(options.run, draws=options.draws)
    music = calibration_music(options, model.description) if options.int8 else None

    def export_onnx(model: "Model", folder: Path) -> "list[OnnxFile]":
        if options.page:
            write_page(folder, options.runtime)
        return write_onnx(model, folder, half=options.half, music=music)

    exported = write_bundle(
        model,
        options.folder,
        source=source,
        results=results,
        config=config,
        thresholds=read_thresholds(model.checkpoint, model.tags) if has_thresholds else None,
        license_id=options.license or license_id,
        onnx=export_onnx if options.onnx else None,
        force=options.force,
    )
    print_bundle(options.folder, exported)
    if options.page:
        print(f"to see the page: python3 -m http.server --directory {shlex.quote(str(options.folder))}")
        if options.runtime is None:
            print(
                f"it needs onnxruntime-web in {options.folder / RUNTIME}: `npm pack onnxruntime-web`, unpack "
                "that, and export again with --force --page --runtime package/dist"
            )
    return 0


def check_export(options: argparse.Namespace) -> None:
    """Raise UserError for what cannot be carried out, before anything is loaded."""
    from samplecnn.inference.bundle import check_place
    from samplecnn.inference.onnx_export import LIBRARIES
    from samplecnn.inference.page.export import require_runtime

    options.onnx = options.onnx or options.page
    for variant in ("half", "int8"):
        if getattr(options, variant) and not options.onnx:
            raise UserError(f"--{variant} is a variant of the ONNX file: say --onnx --{variant}")
    if options.calibrate and not options.int8:
        raise UserError("--calibrate is for the file in 8-bit integers: say --onnx --int8 --calibrate ...")
    if options.runtime:
        if not options.page:
            raise UserError("--runtime is for the page: say --page --runtime DIR")
        require_runtime(options.runtime)
    check_place(options.folder.resolve(), force=options.force)
    if options.onnx:
        require_libraries("onnx", *LIBRARIES)


def calibration_music(options: argparse.Namespace, heard: "Description") -> "Music":
    """Return what integers are calibrated on: the beginnings of files that are named, or the run's own data.

    ``heard`` says at which rate and in which lengths. Raises UserError for a model without data of its own,
    and AudioError for a file that cannot be decoded.
    """
    import numpy as np

    from samplecnn.data import audio

    if options.calibrate:
        paths = gather(options.calibrate, "export")
        paths = paths[:: -(-len(paths) // CALIBRATION)]
        seconds = CALIBRATION // len(paths) * heard.segment_samples / heard.sample_rate
        loaded = [audio.load(path, rate=heard.sample_rate, max_seconds=seconds) for path in paths]
        cut = [audio.segments(waveform, heard.segment_samples) for waveform in loaded]
        return np.concatenate(cut), np.repeat(np.arange(len(cut)), [len(segments) for segments in cut])
    if not (options.run / "config.yaml").is_file():
        raise UserError(
            f"{options.run} is not a run with data of its own: name music, --int8 --calibrate PATH"
        )
    from samplecnn.training.evaluate import validation_segments  # only here: it needs the extra "train"

    return validation_segments(options.run, CALIBRATION)


def print_bundle(folder: Path, exported: "list[OnnxFile]") -> None:
    """Say what has been written."""
    from samplecnn.runs.bundle import FILES

    for name in FILES:
        if (folder / name).is_file():
            print(f"{folder / name}  {(folder / name).stat().st_size:,} bytes")
    for file in exported:
        print(
            f"{file.path.name}: opset {file.opset}, {file.bytes:,} bytes; "
            f"probabilities {file.agreement} {file.difference:.1e} of PyTorch's "
            f"({file.tolerance:.0e} allowed)"
        )


def run_push(options: argparse.Namespace) -> int:
    """Upload a bundle."""
    from samplecnn.inference.hub import push

    print(push(options.folder, options.repository, public=options.public))
    return 0
