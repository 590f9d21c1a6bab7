"""Published weights fetched and converted, once, into the user's cache.

$XDG_CACHE_HOME/samplecnn/models/NAME        a bundle (by default in ~/.cache)
$XDG_CACHE_HOME/samplecnn/downloads/         what is on its way; what has come stays until it is whole
"""

from pathlib import Path

from samplecnn.data.download import Remote, fetch
from samplecnn.errors import UserError, require_libraries
from samplecnn.files import cache_folder, locked
from samplecnn.inference.bundle import check_place, write_bundle
from samplecnn.inference.known.catalog import Known
from samplecnn.inference.known.importing import Imported, import_file
from samplecnn.runs.bundle import CONFIG


def pulled(known: Known) -> Path | None:
    """Return where published weights are in the cache; None if they are not."""
    folder = place(known)
    return folder if (folder / CONFIG).is_file() else None


def place(known: Known) -> Path:
    """Return where published weights go in the cache."""
    return cache_folder() / "models" / known.name


def pull(known: Known, folder: Path | None = None, *, force: bool = False, pause: float = 1.0) -> Path:
    """Return a bundle of published weights: ``folder``, or that in the cache, which is kept unless ``force``.

    Raises DownloadError where they cannot be fetched as published, UserError for a file of another network,
    and RunError where something else is in the place. ``pause`` is that of ``fetch``.
    """
    target = place(known) if folder is None else folder
    downloads = cache_folder() / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    with locked(downloads / f"{known.name}.lock", waiting=f"another process is fetching {known.name}"):
        if folder is None and not force and (there := pulled(known)):
            return there
        check_place(target.resolve(), force=force)
        suffix = ".hdf5" if ".hdf5" in known.url else ".pth"
        if suffix == ".hdf5":
            require_libraries("keras", "h5py")  # before a long download
        remote = Remote(f"{known.name}{suffix}", (known.url,), known.bytes, git_blob=known.git_blob)
        file = fetch(remote, downloads, pause=pause)
        imported = _checked(known, file)
        write_bundle(
            imported.model,
            target,
            source=imported.source,
            license_id=imported.license_id,
            force=force,
        )
        file.unlink()
    return target


def _checked(known: Known, file: Path) -> Imported:
    """Return the model in a file that was fetched; one that is of another network is removed."""
    try:
        imported = import_file(file, known=known)
    except UserError as error:
        file.unlink()
        raise UserError(f"{known.url} is not {known.title} any more ({error}): it was removed") from error
    if imported.title != known.title:
        file.unlink()
        raise UserError(f"{known.url} is {imported.title} now, not {known.title}: it was removed")
    return imported
