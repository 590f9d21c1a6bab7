"""Prepare a data set: decode, resample and store its audio with all annotations.

    python prepare.py data=mini
    python prepare.py data=mtat data.raw=DIR

Interrupted, it goes on where it stopped. What can be set: conf/prepare.yaml and conf/data/.
"""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from samplecnn.training import config as configuration


@hydra.main(version_base="1.3", config_path="conf", config_name="prepare")
def main(config: DictConfig) -> None:
    """Prepare one data set."""
    try:
        plain = configuration.validate(config)

        from samplecnn.training.job import open_store  # after the checks: it loads PyTorch

        store = open_store(plain["data"], workers=plain["workers"])
    except (ValueError, OSError) as error:
        sys.exit(f"{error}")
    print(f"{store.path}: {len(store.clip_ids)} clips, {len(store.tags)} tags, {len(store.skipped)} skipped")


if __name__ == "__main__":
    configuration.register()
    try:
        main()
    except SystemExit as stop:
        if stop.code and (
            hint := configuration.explain(sys.argv[1:], Path(__file__).parent / "conf", "prepare")
        ):
            print(hint, file=sys.stderr)
        raise
