"""Bundles on the Hugging Face Hub, by repository: ``hf:owner/name``, or ``hf:owner/name@revision``.

Nothing is asked of the network unless such a name, or ``push``, asks for it; and what is in the Hub's cache
(``HF_HOME``) is used as it is, without asking whether there is anything newer: ``pull`` does that.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from samplecnn.errors import UserError, network_reason, require_libraries
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
    **dict.fromkeys((ONNX, ONNX_HALF, ONNX_INT8), MAX_BYTES),
}


def parse(name: str) -> tuple[str, str]:
    """Return repository and revision of ``owner/name`` or ``owner/name@revision``, perhaps behind ``hf:``.

    The revision is a branch, tag or commit, "main" where none is named. Raises UserError for other names.
    """
    repository, at, revision = name.removeprefix(PREFIX).partition("@")
    if not REPOSITORY.fullmatch(repository) or (at and not REVISION.fullmatch(revision)):
        raise UserError(f"{name!r} is no model on the Hub: write hf:owner/name or hf:owner/name@revision")
    return repository, revision or "main"


def local(name: str) -> Path:
    """Return the folder of the model ``hf:owner/name``, downloaded where the cache lacks it.

    Raises UserError where the model cannot be had.
    """
    return _cached(name) or fetch(name, (CONFIG, WEIGHTS))


def fetch(name: str, files: tuple[str, ...] = FILES) -> Path:
    """Return the folder in the Hub's cache with the newest files of a model, those of ``files`` it has.

    Raises UserError where the Hub cannot be reached or does not have it, and for files that are too large.
    """
    repository, revision = parse(name)
    what = f"{PREFIX}{repository}"
    with _client(what) as api:
        info = api.model_info(repository, revision=revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        for needed in (CONFIG, WEIGHTS):
            if needed not in sizes:
                raise UserError(f"{what} is no samplecnn model: it has no {needed}")
        wanted = [file for file in files if file in sizes]
        for file in wanted:
            if sizes[file] > MAX_SIZES[file]:
                most = f"up to {MAX_SIZES[file]:,} are downloaded"
                raise UserError(f"{what}: {file} has {sizes[file]:,} bytes; {most}")
        # The first by the revision's name, which makes it known to the cache; the others of the same commit.
        folder = Path(api.hf_hub_download(repository, CONFIG, revision=revision)).parent
        for file in wanted:
            api.hf_hub_download(repository, file, revision=folder.name)
    return folder


def pull(name: str, folder: Path, *, force: bool = False) -> Path:
    """Copy the newest files of a model into ``folder``, as a bundle of plain files.

    Raises UserError as ``fetch`` does, and RunError where the model is not sound or the folder is taken.
    """
    check_place(folder.resolve(), force=force)
    cached = fetch(name)
    bundle = read_bundle(cached)
    with replacing(folder, force=force) as made:
        for file in FILES:
            if (cached / file).exists():
                shutil.copyfile(own_file(cached, file), made / file)
        _check_weights(made, bundle.checksum)
    return folder


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload a bundle in one commit, into a repository that is made if it is not there; return its address.

    Only a bundle's own files are uploaded. Raises UserError where the Hub does not take them, RunError for
    what is not a sound bundle.
    """
    repository, _ = parse(repository)
    _check_weights(folder, read_bundle(folder).checksum)
    files = {name: own_file(folder, name) for name in FILES if (folder / name).exists()}
    with _client(f"{PREFIX}{repository}") as api:
        from huggingface_hub import CommitOperationAdd

        url = api.create_repo(repository, private=not public, exist_ok=True)
        api.create_commit(
            repository,
            [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in files.items()],
            commit_message=f"samplecnn {version('samplecnn')} bundle",
        )
    return str(url)


def _cached(name: str) -> Path | None:
    """Return the folder of a model in the cache, without the network; None unless all of it is there."""
    repository, revision = parse(name)
    require_libraries("hub", "huggingface_hub")
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(repository, file, revision=revision) for file in (CONFIG, WEIGHTS)]
    folders = {Path(path).parent for path in found if isinstance(path, str)}
    return folders.pop() if len(folders) == 1 and all(isinstance(path, str) for path in found) else None


def _check_weights(folder: Path, checksum: str) -> None:
    if sha256(own_file(folder, WEIGHTS).read_bytes()) != checksum:
        raise UserError(f"{folder / WEIGHTS} is damaged or was changed: its SHA-256 is not that of {CONFIG}")


@contextmanager
def _client(what: str) -> Iterator["HfApi"]:
    """Give the Hub's client; whatever it raises becomes a UserError that names ``what``."""
    require_libraries("hub", "huggingface_hub")
    from huggingface_hub import HfApi

    try:
        yield HfApi(library_name="samplecnn", library_version=version("samplecnn"))
    except UserError:
        raise
    except Exception as error:  # the client raises its own, its HTTP library's and the system's
        raise UserError(f"{what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, RepositoryNotFoundError):
        return "Repository not found: it has another name, or is private and needs `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return "it has no such branch, tag or commit"
    return network_reason(error)
