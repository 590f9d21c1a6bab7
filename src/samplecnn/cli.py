"""The ``samplecnn`` command: tag audio, test a run again, show an example of what it says."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samplecnn.inference.tagger import Tagger
    from samplecnn.training.metrics import Scores

RUNS = Path("runs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 where something failed, 2 for a wrong command line."""
    options = parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (ValueError, OSError) as error:
        print(f"samplecnn {options.name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="samplecnn", description="Music auto-tagging from raw waveforms with sample-level CNNs."
    )
    commands = top.add_subparsers(required=True, dest="name", metavar="COMMAND")

    own_block = argparse.ArgumentParser(add_help=False)
    own_block.add_argument(
        "--block",
        metavar="NAME=MODULE.CLASS",
        action="append",
        default=[],
        help="the class of a block that is not one of the paper's six",
    )

    tag = commands.add_parser("tag", parents=[own_block], help="top tags of audio files")
    tag.add_argument("files", nargs="+", type=Path, metavar="FILE")
    tag.add_argument("--model", type=Path, help="run folder or checkpoint (default: the newest finished run)")
    tag.add_argument("--top", type=_positive, default=5, metavar="N", help="tags to show (default: 5)")
    tag.add_argument("--json", action="store_true", help="a JSON line per file, with all tags")
    tag.set_defaults(command=run_tag)

    evaluate = commands.add_parser(
        "evaluate", parents=[own_block], help="test a run again, from its folder and the prepared data"
    )
    evaluate.add_argument("run", type=Path, metavar="RUN")
    evaluate.add_argument("--data-root", type=Path, help="where the stores are, if not where they were")
    evaluate.add_argument("--json", action="store_true", help="the scores as JSON")
    evaluate.set_defaults(command=run_evaluate)

    example = commands.add_parser(
        "example", parents=[own_block], help="tag a clip of the test split, with its true tags beside"
    )
    example.add_argument("run", type=Path, metavar="RUN")
    example.add_argument("--clip", metavar="ID", help="clip id (default: the first with three tags or more)")
    example.set_defaults(command=run_example)

    add_data_commands(commands)
    return top


def add_data_commands(commands: Any) -> None:
    """Add ``samplecnn data check|info|plot``."""
    data = commands.add_parser("data", help="look into a prepared store")
    inside = data.add_subparsers(required=True, dest="what", metavar="check|info|plot")

    check = inside.add_parser("check", help="verify checksums, shapes and labels")
    check.add_argument("store", type=Path, metavar="STORE")
    check.set_defaults(command=run_check)

    info = inside.add_parser("info", help="counts per part of a split and per tag")
    info.add_argument("store", type=Path, metavar="STORE")
    info.add_argument("--split", help="default: the first that the store has")
    info.add_argument("--top", type=_positive, metavar="N", help="most frequent tags (default: all)")
    info.set_defaults(command=run_info)

    plot = inside.add_parser("plot", help="draw the waveform and mel spectrogram of a clip")
    plot.add_argument("store", type=Path, metavar="STORE")
    plot.add_argument("clip", metavar="CLIP", help="clip id")
    plot.add_argument("--out", type=Path, metavar="FILE", help="a .png or .svg file (default: CLIP.png)")
    plot.set_defaults(command=run_plot)


def run_check(options: argparse.Namespace) -> int:
    """Verify a store; print what is wrong with it."""
    from samplecnn.data.inspect import check

    problems = check(options.store)
    print("\n".join(problems) or f"{options.store} is sound")
    return 1 if problems else 0


def run_info(options: argparse.Namespace) -> int:
    """Print what a store holds."""
    from rich.console import Console

    from samplecnn.data.inspect import info, render
    from samplecnn.data.store import Store

    split = options.split or next(iter(Store.open(options.store).splits))
    Console().print(render(info(options.store, split, options.top)))
    return 0


def run_plot(options: argparse.Namespace) -> int:
    """Draw a clip of a store."""
    from samplecnn.data.inspect import plot

    out = options.out or Path(f"{options.clip}.png")
    plot(options.store, options.clip, out)
    print(out)
    return 0


def run_tag(options: argparse.Namespace) -> int:
    """Tag files; report those that cannot be read and go on."""
    from samplecnn.data.audio import AudioError

    model = options.model or newest_run(RUNS)
    tagger = load_tagger(model, options.block)
    if not options.json:
        print(f"model: {model}")
    failed = 0
    for path in options.files:
        try:
            probabilities = tagger.predict_file(path)
        except (AudioError, OSError) as error:
            failed += 1
            print(f"samplecnn tag: {error}", file=sys.stderr)
            if options.json:
                print(json.dumps({"file": str(path), "error": str(error)}), flush=True)
            continue
        ranked = sorted(zip(tagger.tags, map(float, probabilities), strict=True), key=lambda pair: -pair[1])
        if options.json:
            print(json.dumps({"file": str(path), "tags": dict(ranked)}), flush=True)
        else:
            print(path)
            for name, probability in ranked[: options.top]:
                print(f"  {probability:5.1%}  {name}")
    return 1 if failed else 0


def run_evaluate(options: argparse.Namespace) -> int:
    """Test a run again and print its scores per tag."""
    from samplecnn.training.evaluate import evaluate

    scores = evaluate(options.run, data_root=options.data_root, blocks=own_blocks(options.block))
    if options.json:
        print(json.dumps(scores.as_dict(), indent=1))
    else:
        print_scores(scores)
    return 0


def run_example(options: argparse.Namespace) -> int:
    """Tag one test clip and print its true tags beside."""
    from samplecnn.training.evaluate import example_clip

    clip = example_clip(options.run, options.clip)
    tagger = load_tagger(options.run, options.block)
    probabilities = tagger.predict_file(clip.path)
    print(f"clip {clip.id} of the test split, never trained on: {clip.path}")
    for name, probability in sorted(zip(tagger.tags, probabilities, strict=True), key=lambda pair: -pair[1]):
        truth = "true" if name in clip.tags else ""
        print(f"  {probability:5.1%}  {name:<24}{truth}".rstrip())
    return 0


def newest_run(folder: Path) -> Path:
    """Return the run folder below ``folder`` that finished last; ValueError if there is none."""
    finished = [path.parent for path in folder.rglob("results.json")]
    trained = [run for run in finished if (run / "checkpoints" / "best.ckpt").is_file()]
    if not trained:
        raise ValueError(
            f"no finished run below {folder.resolve()}: name one with --model, or train one first"
        )
    return max(trained, key=lambda run: (run / "results.json").stat().st_mtime)


def load_tagger(path: Path, blocks: Sequence[str]) -> "Tagger":
    """Return the tagger in a run folder or checkpoint, with the classes of the user's own blocks."""
    from samplecnn.inference.tagger import load

    return load(path, blocks=own_blocks(blocks))


def own_blocks(named: Sequence[str]) -> dict[str, Any]:
    """Return the classes that ``NAME=MODULE.CLASS`` of the command line name."""
    from hydra.utils import get_class

    blocks: dict[str, Any] = {}
    for text in named:
        name, separator, target = text.partition("=")
        if not separator or "." not in target:
            raise ValueError(f"--block {text}: write NAME=MODULE.CLASS, such as mine=my_module.MyBlock")
        sys.path.insert(0, "")  # as `python train.py` finds it: beside where one stands
        try:
            blocks[name] = get_class(target)
        except Exception as error:  # Hydra wraps whatever an import raises
            raise ValueError(f"--block {text}: {target} cannot be imported: {error}") from error
    return blocks


def print_scores(scores: "Scores") -> None:
    """Print the scores of all tags as a table, best first."""
    from rich.console import Console
    from rich.table import Table

    table = Table("tag", "ROC-AUC", "PR-AUC", "positive clips")
    told = scores.as_dict()
    for tag, values in sorted(told["per_tag"].items(), key=lambda item: -(item[1]["roc_auc"] or 0)):
        cells = [
            "undefined" if values[key] is None else f"{values[key]:.4f}" for key in ("roc_auc", "pr_auc")
        ]
        table.add_row(tag, *cells, str(values["positives"]))
    table.add_section()
    table.add_row("mean", f"{scores.macro_roc_auc:.4f}", f"{scores.macro_pr_auc:.4f}", "")
    Console().print(table)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
