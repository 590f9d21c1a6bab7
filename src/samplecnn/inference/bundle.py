"""Write a model to give away: see `samplecnn/runs/bundle.py` for what is in the folder.

It is made beside its place and renamed, so that there is a whole bundle or none.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from samplecnn.inference import card
from samplecnn.inference.onnx_export import OnnxFile
from samplecnn.inference.page.export import PAGE, RUNTIME
from samplecnn.runs import weights
from samplecnn.runs.bundle import CARD, CONFIG, FILES, FORMAT, WEIGHTS
from samplecnn.runs.config import identity
from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import Model
from samplecnn.runs.results import Results
from samplecnn.runs.thresholds import Thresholds

LIBRARIES = ("samplecnn", "torch", "safetensors")


def write_bundle(
    model: Model,
    folder: Path,
    *,
    source: str,
    results: Results | None = None,
    config: Mapping[str, Any] | None = None,
    thresholds: Thresholds | None = None,
    license_id: str | None = None,
    onnx: Callable[[Model, Path], list[OnnxFile]] | None = None,
    force: bool = False,
) -> list[OnnxFile]:
    """Write a bundle into ``folder``; return its ONNX files.

    ``source`` says in words where the weights come from. ``results`` are those of a run's test, ``config``
    its configuration in plain values, of which paths, logger and machine are left out, ``thresholds`` those
    of its tags. ``onnx`` writes the ONNX files, and what builds on them, into the folder that it is given.
    Raises RunError where something is in the folder's place: with ``force`` a bundle is replaced, and any
    other folder is still left alone.
    """
    data = weights.encode(model.network.state_dict())
    content = {
        "format": FORMAT,
        "library_name": "samplecnn",
        "model": model.description.as_dict(),
        "weights": {"file": WEIGHTS, "sha256": weights.sha256(data), "bytes": len(data)},
        "source": source,
        "results": None if results is None else results.as_dict(),
        # A test gives the same numbers on the backend that it took before, which is no part of the identity.
        "config": None if config is None else {**identity(config), "fast": config.get("fast", "auto")},
        "versions": {name: version(name) for name in LIBRARIES},
    }
    if thresholds is not None:  # the checksum above is that of these weights
        content["thresholds"] = asdict(replace(thresholds, checkpoint=None))
    try:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except (ValueError, TypeError) as error:
        raise RunError(f"the results or the configuration cannot be written as JSON: {error}") from error
    with replacing(folder, force=force) as made:
        (made / WEIGHTS).write_bytes(data)
        (made / CONFIG).write_text(text, encoding="utf-8")
        exported = [] if onnx is None else onnx(model, made)
        readme = card.write(
            model.description,
            folder.resolve().name,
            exported,
            source=source,
            results=results,
            decides=thresholds is not None,
            license_id=license_id,
        )
        (made / CARD).write_text(readme, encoding="utf-8")
    return [replace(file, path=folder / file.path.name) for file in exported]


@contextmanager
def replacing(folder: Path, *, force: bool = False) -> Iterator[Path]:
    """Give a new folder to write into, which takes the place of ``folder`` when all has gone well.

    Raises RunError, before anything is written, where ``folder`` is there; with ``force`` only where it is no
    folder or has something in it that is not of a bundle.
    """
    folder = folder.resolve()
    check_place(folder, force=force)
    folder.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    made, old = workshop / "new", workshop / "old"
    made.mkdir()
    try:
        yield made
        check_place(folder, force=force)
        if folder.exists():
            folder.rename(old)
        try:
            made.rename(folder)
        except OSError:
            with suppress(OSError):  # where another has come into its place, it stays in the workshop
                old.rename(folder)
            raise
    finally:
        if folder.exists() or not old.exists():
            shutil.rmtree(workshop, ignore_errors=True)


def check_place(folder: Path, *, force: bool) -> None:
    """Raise RunError unless a bundle may be written as ``folder``."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is not a folder: it is left as it is")
    if not folder.exists():
        return
    entries = sorted(path.name for path in folder.iterdir())
    if entries and not force:
        raise RunError(f"{folder} is there already: --force replaces a bundle, or choose another folder")
    others = [name for name in entries if name not in (*FILES, *PAGE, RUNTIME)]
    if others:
        raise RunError(
            f"{folder} has {others[0]!r} in it, which is not of a bundle: it is left as it is. "
            "Move that away, or choose another folder"
        )
