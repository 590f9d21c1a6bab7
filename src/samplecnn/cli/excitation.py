"""``samplecnn excitation``: what the SE blocks of a run do with each tag (section 5 of the paper)."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplecnn.cli.common import comma_separated, named_run, own_class_options, own_classes
from samplecnn.cli.report import print_rows
from samplecnn.text import printable

if TYPE_CHECKING:
    from samplecnn.analysis.excitation import Excitations
    from samplecnn.data.datamodule import SegmentDataModule
    from samplecnn.model.networks.network import Network

DATA = "excitation.npz"


def add_commands(commands: Any) -> None:
    """Add ``samplecnn excitation``."""
    excitation = commands.add_parser(
        "excitation",
        parents=[own_class_options()],
        help="excitations of the SE blocks per tag, on the test split: figures 2 and 3, table 3",
    )
    excitation.add_argument(
        "run",
        type=named_run,
        metavar="RUN",
        help=f"run folder, or {DATA} of an earlier call, to draw it again",
    )
    excitation.add_argument(
        "--tags",
        type=comma_separated,
        metavar="A,B,C",
        help="tags to compare (default: classical,metal,dance, or three that rarely occur together)",
    )
    excitation.add_argument(
        "--blocks",
        type=block_numbers,
        metavar="N,N,...",
        help="blocks to draw (default: first, middle and last)",
    )
    excitation.add_argument("--out", type=Path, metavar="DIR", help="default: RUN/excitation")
    excitation.add_argument("--data-root", type=Path, help="where the stores are, if not where they were")
    excitation.set_defaults(command=run_excitation)


def block_numbers(text: str) -> list[int]:
    """Read block numbers between commas, as argparse's ``type``."""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of block numbers such as 1,5,9") from error


def run_excitation(options: argparse.Namespace) -> int:
    """Measure (or read) the excitations, print what they say, and write data and figures."""
    from samplecnn.analysis import figures
    from samplecnn.analysis.cooccurrence import TagCounts
    from samplecnn.analysis.excitation import Excitations, choose_blocks, excitations, write_tables
    from samplecnn.analysis.report import refuse_unwritable
    from samplecnn.model.excitation import se_layers
    from samplecnn.style import PlotsMissingError

    drawn_again = options.run.is_file()
    out: Path = options.out or (options.run.parent if drawn_again else options.run / "excitation")
    refuse_unwritable(out)
    if drawn_again:
        excited = Excitations.load(options.run)
        tags = excited.counts.choose(options.tags)
        blocks = choose_blocks(excited.blocks, options.blocks)
    else:  # what is asked for in vain is refused before minutes of computing
        network, data = load_run(options)
        blocks = choose_blocks(tuple(se_layers(network)), options.blocks)
        tags = TagCounts.of(data.tags, data.parts["test"].labels).choose(options.tags)
        excited = excitations(network, data)
    print_findings(excited, tags)

    out.mkdir(parents=True, exist_ok=True)
    excited.save(out / DATA)
    written = [out / DATA, *write_tables(excited, tags, out)]
    try:
        written += figures.write_figure(figures.excitation_figure(excited, tags, blocks), out / "excitation")
        written += figures.write_figure(figures.deviation_figure(excited), out / "deviation")
    except PlotsMissingError as error:
        again = shlex.join(["samplecnn", "excitation", str(out / DATA)])
        print(f"samplecnn excitation: {error}, and then: {again}", file=sys.stderr)
    print("\n".join(map(str, written)))
    return 0


def load_run(options: argparse.Namespace) -> "tuple[Network, SegmentDataModule]":
    """Return the network of a run, on the device that it is to run on, and the run's data."""
    from samplecnn import threads
    from samplecnn.hardware import usable_device
    from samplecnn.memory import keep_freed_memory
    from samplecnn.runs.folder import load_model
    from samplecnn.training.evaluate import open_data

    model = load_model(options.run, **own_classes(options))
    data = open_data(options.run, options.data_root)
    keep_freed_memory()
    threads.use_available()
    return model.network.to(usable_device()), data


def print_findings(excited: "Excitations", tags: tuple[str, ...]) -> None:
    """Print Table 3, how often the tags occur together, and the values of Figure 3."""
    from samplecnn.analysis.cooccurrence import PAPER_TAGS, PAPER_TOGETHER

    counts = excited.counts
    print(printable(f"test split of {excited.data} ({excited.split})"))
    if counts.unused:
        print(printable(f"left out, without clips: {', '.join(counts.unused)}"))
    together = [[str(number) for number in row] for row in counts.table(tags)]
    if (excited.data, excited.split, tags) == ("mtat", "clean", PAPER_TAGS):
        together = [
            [f"{ours} (paper: {theirs})" for ours, theirs in zip(*rows, strict=True)]
            for rows in zip(together, PAPER_TOGETHER, strict=True)
        ]
    rows = [[tag, *cells] for tag, cells in zip(tags, together, strict=True)]
    print_rows(["clips with both", *map(printable, tags)], rows, title="co-occurrence")
    print_rows(
        ["block", "channels", "mean over channels"],
        [[str(b), str(excited.overall[b].size), f"{value:.4f}"] for b, value in excited.deviation.items()],
        title=f"standard deviation across {len(counts.tags)} tags",
    )
