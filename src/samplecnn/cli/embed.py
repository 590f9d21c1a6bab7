"""``samplecnn embed``: embeddings of audio files, in one file."""

import argparse
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplecnn.cli.common import comma_separated, default_model, load_tagger, model_name
from samplecnn.cli.listening import (
    UNREADABLE,
    Progress,
    complain,
    decoders,
    gather,
    listen,
    listening_options,
)

if TYPE_CHECKING:
    from samplecnn.inference.tagger import Tagger
    from samplecnn.model.levels import Levels

EPILOG = """\
Levels of a SampleCNN are block1 to block9 and last; of other networks last, and fc where there is one.
The file is written at the end, whole or not at all; docs/embeddings.md says what is in it.

exit status: 0 if all files were read; 3 if some could not be, which are named and left out; 1 if the command
could not be carried out; 2 for a wrong command line."""


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    embed = commands.add_parser(
        "embed",
        parents=[listening_options()],
        help="embeddings of audio files: what a network has made of them, in one file",
        description="Write what a network has made of audio files, and of all audio below folders.",
        epilog=EPILOG,
    )
    embed.add_argument("files", nargs="+", type=Path, metavar="PATH", help="audio files, and folders of them")
    embed.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a .npz, .npy or .parquet file to write"
    )
    embed.add_argument("--force", action="store_true", help="replace a file that is there")
    embed.add_argument(
        "--levels",
        type=comma_separated,
        metavar="A,B,C",
        help="that are joined, in this order (default: what the network tags by)",
    )
    embed.add_argument(
        "--over-time", action="store_true", help="a row per segment, not their mean for each file"
    )
    embed.set_defaults(command=run_embed)


def run_embed(options: argparse.Namespace) -> int:
    """Embed files; name those that cannot be read and go on."""
    from samplecnn.inference.embedding import with_embeddings
    from samplecnn.inference.embedding_file import Embeddings, require_place
    from samplecnn.inference.timeline import hop_samples
    from samplecnn.model.levels import Levels

    require_place(options.out, force=options.force)
    hop_samples(options.overlap)
    paths = gather(options.files, "embed")
    with ExitStack() as stack:
        processes = [stack.enter_context(process) for process in decoders(options, len(paths))]
        model = options.model or default_model()
        # Single precision, so that they are the same on every machine.
        tagger = load_tagger(model, options, precision="32")
        levels = stack.enter_context(Levels(tagger.network, options.levels))
        predict = with_embeddings(tagger, levels)
        embeddings = stack.enter_context(Embeddings(options.out, over_time=options.over_time))
        with (
            Progress(len(paths), lines=True, command="embed") as progress,
            closing(listen(options, tagger, paths, processes, progress, predict)) as heard_files,
        ):
            for heard in heard_files:
                if heard.timeline is None:
                    complain(heard.error, "embed")
                    continue
                if heard.warning:
                    complain(f"{heard.path}: {heard.warning}; what there is was embedded", "embed")
                embeddings.add(heard.path, heard.timeline)
        failed = len(paths) - len(embeddings.paths)
        if not embeddings.paths:
            complain(f"none of {len(paths)} files could be read: {options.out} is not written", "embed")
            return UNREADABLE
        require_place(options.out, force=options.force)
        rows = embeddings.write(about(options, tagger, model, levels))
    joined = ", ".join(f"{n} {w}" for n, w in zip(levels.names, levels.widths, strict=True))
    print(f"{options.out}: {rows:,} embeddings of {len(paths) - failed:,} files, features: {joined}")
    if failed:
        complain(f"{failed} of {len(paths)} files could not be read", "embed")
    return UNREADABLE if failed else 0


def about(options: argparse.Namespace, tagger: "Tagger", model: Path, levels: "Levels") -> dict[str, Any]:
    """Return what the file says of its embeddings."""
    from samplecnn.inference.table import Source

    name = model_name(model, tagger.description.words[0])
    source = Source.of(tagger, name, "mean", options.overlap).columns()
    del source["average"]  # over time there is none
    return {"levels": list(levels.names), "widths": list(levels.widths), **source}
