"""``samplecnn models``, ``pull``, ``import`` and ``import-keras``: models that others have published."""

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplecnn.cli.models import place_options, print_bundle
from samplecnn.errors import UserError
from samplecnn.text import is_printable, shown

if TYPE_CHECKING:
    from samplecnn.runs.description import Description

LARGEST_TAGS = 1 << 20  # bytes of a file of tags
COLUMNS = ("name", "network", "data", "split", "ROC-AUC", "PR-AUC", "licence", "size", "here")


def add_commands(commands: Any) -> None:
    """Add the commands to the parser."""
    listing = commands.add_parser("models", help="list published models that `pull` fetches")
    listing.add_argument("--json", action="store_true", help="all that is known of them, as JSON")
    listing.set_defaults(command=run_models)

    pull = commands.add_parser(
        "pull",
        parents=[place_options()],
        help="fetch published weights, or a bundle from the Hugging Face Hub",
    )
    pull.add_argument(
        "model", metavar="NAME", help="one that `samplecnn models` lists, or OWNER/NAME[@REVISION] of the Hub"
    )
    pull.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="DIR",
        help="the bundle to write (of a listed one the default is the user's cache, where --model finds it)",
    )
    pull.set_defaults(command=run_pull)

    for name, file, described in (
        (
            "import",
            "weights of PyTorch (.pth), Keras (.hdf5) or NumPy (.npz)",
            "published weights that you have",
        ),
        ("import-keras", "an .hdf5 file of tae-jun/resemul", "weights that the paper's authors published"),
    ):
        imported = commands.add_parser(name, parents=[place_options()], help=f"make a bundle of {described}")
        imported.add_argument("file", type=Path, metavar="FILE", help=file)
        imported.add_argument("folder", type=Path, metavar="DIR", help="the bundle to write")
        imported.add_argument(
            "--tags",
            metavar="TAGS",
            help="what the outputs are: mtat, msd or jamendo (their 50 most frequent tags), or a text file "
            "that names them, a line each (default: those of a file that is known, or the paper's authors')",
        )
        imported.add_argument("--license", metavar="ID", help="of the weights, for the card, such as mit")
        imported.set_defaults(command=run_import)


def run_models(options: argparse.Namespace) -> int:
    """List the published models that are known."""
    from dataclasses import asdict

    from samplecnn.inference.known.catalog import KNOWN
    from samplecnn.inference.known.pull import pulled

    places = {name: pulled(known) for name, known in KNOWN.items()}
    if options.json:
        rows = [
            {**asdict(known), "folder": places[name] and str(places[name])} for name, known in KNOWN.items()
        ]
        print(json.dumps(rows, indent=1))
        return 0
    table = [
        (
            *(known.name, known.title, known.data, known.split, f"{known.roc_auc:.4f}"),
            "" if known.pr_auc is None else f"{known.pr_auc:.4f}",
            known.license_id or "none stated",
            "" if known.bytes is None else f"{known.bytes / 1e6:.1f} MB",
            "yes" if places[known.name] else "",
        )
        for known in KNOWN.values()
    ]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *table, strict=True)]
    for row in (COLUMNS, *table):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    unchecked = [known.name for known in KNOWN.values() if known.git_blob is None]
    print("\nScores are those that were published, on those splits: not measured here.")
    print(f"Files without a known checksum, whose structure alone is checked: {', '.join(unchecked)}.")
    print("samplecnn pull NAME fetches one; then: samplecnn tag song.mp3 --model NAME")
    return 0


def run_pull(options: argparse.Namespace) -> int:
    """Fetch published weights, or a bundle of the Hub."""
    from samplecnn.inference import hub
    from samplecnn.inference.known import pull
    from samplecnn.inference.known.catalog import KNOWN

    if known := KNOWN.get(options.model):
        folder = pull.pull(known, options.folder, force=options.force)
        print_bundle(folder, [])
        print(f"samplecnn tag song.mp3 --model {shlex.quote(str(options.folder or known.name))}")
        return 0
    if "/" not in options.model:
        raise UserError(
            f"{options.model!r} is no published model that is known (samplecnn models lists them), and no "
            "OWNER/NAME of the Hugging Face Hub"
        )
    if options.folder is None:
        raise UserError(f"where should the bundle go? samplecnn pull {options.model} DIR")
    print_bundle(hub.pull(options.model, options.folder, force=options.force), [])
    return 0


def run_import(options: argparse.Namespace) -> int:
    """Write a bundle of published weights."""
    from samplecnn.inference.bundle import check_place, write_bundle
    from samplecnn.inference.known.importing import import_file
    from samplecnn.inference.known.tags import TAGS

    check_place(options.folder.resolve(), force=options.force)
    named = options.tags
    tags = named if named is None or named in TAGS else read_tags(Path(named))
    imported = import_file(options.file, tags)
    write_bundle(
        imported.model,
        options.folder,
        source=imported.source,
        license_id=options.license or imported.license_id,
        force=options.force,
    )
    print(f"{imported.title}: {in_words(imported.model.description)}")
    print_bundle(options.folder, [])
    return 0


def in_words(description: "Description") -> str:
    """Return what a network is, and what it hears."""
    name, *others = description.words
    of_block = [f"{key} {value:g}" for key, value in (description.block or {}).items() if key != "name"]
    seconds = description.segment_samples / description.sample_rate
    heard = f"{description.sample_rate:,} Hz, {seconds:.1f} s at once"
    return ", ".join([name, *of_block, *others, f"{len(description.tags)} tags", heard])


def read_tags(path: Path) -> list[str]:
    """Return the names in a text file, a line each; UserError for one that cannot be a tag."""
    from samplecnn.inference.known.tags import TAGS
    from samplecnn.runs.untrusted import read_bytes

    if not path.exists():
        raise UserError(f"--tags {path}: there is no such file, and known are {', '.join(TAGS)}")
    try:
        names = read_bytes(path, LARGEST_TAGS).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text in UTF-8: {error}") from error
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        if not name.strip() or not is_printable(name) or name in seen:
            raise UserError(f"{path}, line {number}: {shown(name)} is empty, repeated or not printable")
        seen.add(name)
    return names
