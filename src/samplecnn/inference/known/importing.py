"""Published weights in a file of PyTorch, Keras or NumPy, as a model of ours; untrusted input."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samplecnn.data.download import GIT_BLOB, checksum
from samplecnn.inference.keras_import import SIGNATURE, import_keras
from samplecnn.inference.known.catalog import Known, with_blob
from samplecnn.inference.known.convert import Converted, convert
from samplecnn.inference.known.pons import convert_npz, is_npz
from samplecnn.inference.known.tags import TAGS
from samplecnn.model import blocks
from samplecnn.runs.description import Description
from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import Model
from samplecnn.text import printable, shown

ZIP, PICKLE = b"PK", b"\x80"  # how files of PyTorch and NumPy begin
UNKNOWN = "unknown"  # data set or split that no file names


@dataclass(frozen=True)
class Imported:
    """A model out of a file."""

    title: str  # what the file was recognised as
    model: Model
    source: str  # where the weights come from, after "the weights were"
    license_id: str | None


def import_file(path: Path, tags: str | Sequence[str] | None = None, known: Known | None = None) -> Imported:
    """Return the model in a file.

    ``tags`` are the names of the outputs in their order, or a key of TAGS for those of that data set. They
    may be left out where they are certain: for a Keras file of the paper's authors, and for a file that is
    known by its checksum, or as ``known``. Raises UserError, which names the file, for one of no network that
    is known, and for tags that are missing or of another number.
    """
    with path.open("rb") as file:
        start = file.read(len(SIGNATURE))
    if not start.startswith((SIGNATURE, ZIP, PICKLE)):
        raise RunError(
            f"{path} is not an HDF5 file of Keras, nor one of PyTorch's or an .npz file of NumPy's"
        )
    if start == SIGNATURE:
        # The authors' networks have MagnaTagATune's tags in an order of their own, which is the default.
        names = None if tags is None or tags == "mtat" else _names(path, tags)
        model = import_keras(path, names)
        title = keras_title(model.description)
    else:
        found = convert_npz(path) if is_npz(path) else convert(path)
        known = known or with_blob(checksum(path, GIT_BLOB))
        model = _model(path, found, tags, known)
        title = found.title
    if known is not None:
        return Imported(title, model, known.source, known.license_id)
    source = f"imported from {printable(path.name)}, recognised as {title}"
    return Imported(title, model, source, None)


def keras_title(description: Description) -> str:
    """Say what a Keras file is of."""
    assert description.block is not None
    levels = "multi-level" if description.multi else "one level"
    return f"{blocks.title(description.block['name'])}, {levels}, of Kim et al."


def _model(path: Path, found: Converted, tags: str | Sequence[str] | None, known: Known | None) -> Model:
    chosen = tags if tags is not None else known.data if known is not None else None
    if chosen is None:
        raise RunError(
            f"{path} is {found.title}, but does not say what its {found.outputs} outputs are. Say it with "
            f"--tags: {', '.join(TAGS)} (their 50 most frequent), or a text file with a name in each line"
        )
    names = _names(path, chosen)
    if len(names) != found.outputs:
        raise RunError(f"{path} has {found.outputs} outputs, but {len(names)} tags were named")
    data = chosen if isinstance(chosen, str) else UNKNOWN
    split = known.split if known is not None and known.data == data else UNKNOWN
    return Model(found.build().float(), found.describe(names, data, split), path)


def _names(path: Path, tags: str | Sequence[str]) -> Sequence[str]:
    if not isinstance(tags, str):
        return tags
    if tags not in TAGS:
        raise RunError(f"{path}: tags of {shown(tags)} are not known; known are those of {', '.join(TAGS)}")
    return TAGS[tags]
