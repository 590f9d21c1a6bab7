"""Published weights in a file of PyTorch, Keras or NumPy, as a model of ours; untrusted input."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samplecnn.data.download import GIT_BLOB, checksum
from samplecnn.inference.known.catalog import SPLITS, Known, with_blob
from samplecnn.inference.known.convert import convert
from samplecnn.inference.known.keras import convert_keras
from samplecnn.inference.known.pons import convert_npz, is_npz
from samplecnn.inference.known.tags import AUTHORS_TAGS, TAGS
from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import Model
from samplecnn.text import printable, shown

HDF5, ZIP, PICKLE = b"\x89HDF\r\n\x1a\n", b"PK", b"\x80"  # how files of Keras, PyTorch and NumPy begin
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
    if path.exists() and not path.is_file():
        raise RunError(f"{path} is no regular file")
    with path.open("rb") as file:
        start = file.read(len(HDF5))
    if not start.startswith((HDF5, ZIP, PICKLE)):
        raise RunError(
            f"{path} is not an HDF5 file of Keras, nor one of PyTorch's or an .npz file of NumPy's"
        )
    orders, data = TAGS, None  # the tags of data sets, and which of these it was trained on
    splits: dict[str, str] = {}
    if start == HDF5:
        found = convert_keras(path)
        # The authors' networks have MagnaTagATune's tags in an order of their own, which is the default.
        orders, splits, data = {**TAGS, "mtat": AUTHORS_TAGS}, {"mtat": SPLITS["mtat"]}, "mtat"
    else:
        found = convert_npz(path) if is_npz(path) else convert(path)
        known = known or with_blob(checksum(path, GIT_BLOB))
    if known is not None:
        splits, data = {known.data: known.split}, known.data
    chosen = data if tags is None else tags
    outputs = found.network.tags
    if chosen is None:
        raise RunError(
            f"{path} is {found.title}, but does not say what its {outputs} outputs are. Say it with "
            f"--tags: {', '.join(TAGS)} (their 50 most frequent), or a text file with a name in each line"
        )
    if isinstance(chosen, str) and chosen not in TAGS:
        raise RunError(f"{path}: tags of {shown(chosen)} are not known; known are those of {', '.join(TAGS)}")
    names, data = (orders[chosen], chosen) if isinstance(chosen, str) else (chosen, UNKNOWN)
    if len(names) != outputs:
        raise RunError(
            f"{path} has {outputs} outputs, but {len(names)} tags were named: name all, in their order"
        )
    model = found.model(path, names, data, splits.get(data, UNKNOWN))
    if known is not None:
        return Imported(found.title, model, known.source, known.license_id)
    source = f"imported from {printable(path.name)}, recognised as {found.title}"
    return Imported(found.title, model, source, None)
