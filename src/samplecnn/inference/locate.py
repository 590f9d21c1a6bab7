"""One door for all models: a path, the name of published weights, or one of the Hugging Face Hub."""

import difflib
from pathlib import Path

from samplecnn.errors import UserError
from samplecnn.inference import hub
from samplecnn.inference.known.catalog import KNOWN
from samplecnn.inference.known.pull import pulled


def local(path: str | Path) -> Path:
    """Return where a model is on this machine.

    ``path`` is a run folder, checkpoint or bundle, returned as it is; else a name that ``samplecnn models``
    lists; or ``hf:owner/name``, downloaded where the Hub's cache lacks it. Raises UserError for published
    weights that were not fetched yet, and where a model of the Hub cannot be had.
    """
    name = str(path)
    if name.startswith(hub.PREFIX):
        return hub.local(name)
    if Path(path).exists():
        return Path(path)
    if name in KNOWN:
        if folder := pulled(KNOWN[name]):
            return folder
        raise UserError(f"{name} is not on this machine yet: samplecnn pull {name} fetches it")
    if similar := difflib.get_close_matches(name, KNOWN, n=1):
        raise UserError(f"there is no model {name}: did you mean {similar[0]}, which samplecnn models lists?")
    return Path(path)
