"""The store and the batches that a configuration asks for."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.data.prepare import prepare, shard_count
from samplecnn.data.store import MANIFEST, Store
from samplecnn.runs.config import RunConfig
from samplecnn.training.config import ConfigError

log = logging.getLogger(__name__)

MTAT = "samplecnn.data.datasets.mtat.catalog"


def prepare_store(
    data: Mapping[str, Any], *, workers: int | None = None, shard: int | None = None, fetch: bool = False
) -> Path:
    """Prepare the store that the ``data`` configuration names, or one shard of it; return its folder.

    With ``fetch``, MagnaTagATune is downloaded where no raw audio is given. Raises ConfigError where there
    is neither a finished store nor raw audio to make it from.
    """
    path = Path(data["root"]) / data["name"]
    finished, raw = (path / MANIFEST).is_file(), data["raw"]
    download: dict[str, Path] = {}
    if not finished and raw is None:
        if data["catalog"]["_target_"] != MTAT:
            raise ConfigError(
                f"there is no prepared store {path}. Give the folder with the audio and annotations: "
                f"python prepare.py data={data['name']} data.raw=DIR"
            )
        if not fetch:
            raise ConfigError(
                f"there is no prepared store {path}. `python prepare.py data=mtat` downloads MagnaTagATune "
                "and prepares it; `python prepare.py data=mtat data.raw=DIR` takes files that you have"
            )
        download = {"download": path.parent / "raw" / data["name"]}
    if not finished or (raw is not None and Path(raw).is_dir()):
        # Leaves a store of the same catalogue alone, and refuses one of another.
        catalog = instantiate(data["catalog"], **download)
        prepare(catalog, data["root"], workers=workers, shard=shard)
        if shard is not None:
            log.info("shard %d is prepared, one of %d (from 0)", shard, shard_count(catalog))
    return path


def make_data(config: RunConfig, store: Store) -> SegmentDataModule:
    """Return the batches that the configuration asks for, from an open store."""
    data = config.data
    return SegmentDataModule(
        store.path,
        split=data.split,
        top=data.top,
        batch_size=config.batch_size,
        seed=config.seed,
        train_segments=data.train_segments,
        test_segments=data.test_segments,
        resident=data.resident,
    )
