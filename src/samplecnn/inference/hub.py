"""Bundles on the Hugging Face Hub, by repository: ``hf:owner/name``, or ``hf:owner/name@revision``.

Nothing is asked of the network unless such a name, or ``push``, asks for it; and what is in the Hub's cache
(``HF_HOME``) is used as it is, without asking whether there is anything newer: ``pull`` does that.
"""

import importlib.util
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from samplecnn.errors import UserError, network_reason
from samplecnn.inference.bundle import check_place, replacing
from samplecnn.inference.onnx_export import MAX_BYTES
from samplecnn.runs.bundle import (
    CARD,
    CONFIG,
    FILES,
    MAX_CONFIG,
    ONNX,
    ONNX_HALF,
    ONNX_INT8,
    WEIGHTS,
    own_file,
    read_bundle,
)
from samplecnn.runs.weights import MAX_FILE, MAX_TABLE, sha256

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PREFIX = "hf:"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9][\w./-]*", re.ASCII)
MAX_SIZES = {  # bytes that are downloaded at most
    CONFIG: MAX_CONFIG,
    WEIGHTS: MAX_FILE + MAX_TABLE,
    CARD: MAX_CONFIG,
    ONNX: MAX_BYTES,
    ONNX_HALF: MAX_BYTES,
    ONNX_INT8: MAX_BYTES,
}


class HubError(UserError):
    """The Hub cannot give or take a model."""


@dataclass(frozen=True)
class Reference:
    """A model on the Hub."""

    repository: str  # owner/name
    revision: str = "main"  # branch, tag or commit

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read ``owner/name`` or ``owner/name@revision``, with or without ``hf:`` in front."""
        repository, at, revision = text.removeprefix(PREFIX).partition("@")
        if not REPOSITORY.fullmatch(repository) or (at and not REVISION.fullmatch(revision)):
            raise HubError(f"{text!r} is no model on the Hub: write hf:owner/name or hf:owner/name@revision")
        return cls(repository, revision or "main")


def local(path: str | Path) -> Path:
    """Return the folder of the model ``hf:owner/name``, downloaded where the cache lacks it.

    Any other path is returned as it is. Raises HubError where the model cannot be had.
    """
    if not str(path).startswith(PREFIX):
        return Path(path)
    reference = Reference.parse(str(path))
    return _cached(reference) or fetch(reference, (CONFIG, WEIGHTS))


def fetch(reference: Reference, names: tuple[str, ...] = FILES) -> Path:
    """Return the folder in the Hub's cache with the newest files of a model, those of ``names`` it has.

    Raises HubError where the Hub cannot be reached or does not have it, and for files that are too large.
    """
    with _client(f"{PREFIX}{reference.repository}") as api:
        info = api.model_info(reference.repository, revision=reference.revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        for name in (CONFIG, WEIGHTS):
            if name not in sizes:
                raise HubError(f"{PREFIX}{reference.repository} is no samplecnn model: it has no {name}")
        wanted = [name for name in names if name in sizes]
        for name in wanted:
            if sizes[name] > MAX_SIZES[name]:
                raise HubError(
                    f"{PREFIX}{reference.repository}: {name} has {sizes[name]:,} bytes; "
                    f"up to {MAX_SIZES[name]:,} are downloaded"
                )
        # The first by the revision's name, which makes it known to the cache; the others of the same commit.
        first = api.hf_hub_download(reference.repository, CONFIG, revision=reference.revision)
        folder = Path(first).parent
        for name in wanted:
            api.hf_hub_download(reference.repository, name, revision=folder.name)
    return folder


def pull(reference: Reference, folder: Path, *, force: bool = False) -> Path:
    """Copy the newest files of a model into ``folder``, as a bundle of plain files.

    Raises HubError as ``fetch`` does, and RunError where the model is not sound or the folder is taken.
    """
    check_place(folder.resolve(), force=force)
    cached = fetch(reference)
    bundle = read_bundle(cached)
    with replacing(folder, force=force) as made:
        for name in FILES:
            if (cached / name).exists():
                shutil.copyfile(own_file(cached, name), made / name)
        _check_weights(made, bundle.checksum)
    return folder


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload a bundle in one commit, into a repository that is made if it is not there; return its address.

    Only a bundle's own files are uploaded. Raises HubError where the Hub does not take them, RunError for
    what is not a sound bundle.
    """
    reference = Reference.parse(repository)
    _check_weights(folder, read_bundle(folder).checksum)
    files = {name: own_file(folder, name) for name in FILES if (folder / name).exists()}
    with _client(f"{PREFIX}{reference.repository}") as api:
        from huggingface_hub import CommitOperationAdd

        url = api.create_repo(reference.repository, private=not public, exist_ok=True)
        api.create_commit(
            reference.repository,
            [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in files.items()],
            commit_message=f"samplecnn {version('samplecnn')} bundle",
        )
    return str(url)


def _cached(reference: Reference) -> Path | None:
    """Return the folder of a model in the cache, without the network; None unless all of it is there."""
    _require_client()
    from huggingface_hub import try_to_load_from_cache

    found = [
        try_to_load_from_cache(reference.repository, name, revision=reference.revision)
        for name in (CONFIG, WEIGHTS)
    ]
    folders = {Path(path).parent for path in found if isinstance(path, str)}
    return folders.pop() if len(folders) == 1 and all(isinstance(path, str) for path in found) else None


def _check_weights(folder: Path, checksum: str) -> None:
    if sha256(own_file(folder, WEIGHTS).read_bytes()) != checksum:
        raise HubError(f"{folder / WEIGHTS} is damaged or was changed: its SHA-256 is not that of {CONFIG}")


def _require_client() -> None:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise HubError('huggingface_hub is not installed: pip install "samplecnn[hub]"')


@contextmanager
def _client(what: str) -> Iterator["HfApi"]:
    """Give the Hub's client; whatever it raises becomes a HubError that names ``what``."""
    _require_client()
    from huggingface_hub import HfApi

    try:
        yield HfApi(library_name="samplecnn", library_version=version("samplecnn"))
    except HubError:
        raise
    except Exception as error:  # the client raises its own, its HTTP library's and the system's
        raise HubError(f"{what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, RepositoryNotFoundError):
        return "Repository not found: it has another name, or is private and needs `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return "it has no such branch, tag or commit"
    return network_reason(error)
