"""Prepare a data set: decode, resample and store its audio with all annotations.

    python prepare.py data=mini
    python prepare.py data=mtat               # downloads MagnaTagATune
    python prepare.py data=mtat data.raw=DIR  # or any folder in its layout
    python prepare.py data=mtat rate=16000    # beside the store at 22,050 Hz
    python prepare.py -m data=msd data.raw=DIR shard=0,1,2,3  # on many machines, by any Hydra launcher

Interrupted, it goes on where it stopped. What can be set: conf/prepare.yaml and conf/data/.
"""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from samplecnn.errors import UserError
from samplecnn.text import lines
from samplecnn.threads import wait_without_spinning
from samplecnn.training import config as configuration


@hydra.main(version_base="1.3", config_path="conf", config_name="prepare")
def main(config: DictConfig) -> None:
    """Prepare one data set."""
    try:
        plain = configuration.validate(config)

        # After the checks: it loads PyTorch.
        from samplecnn.data.store import MANIFEST, Store
        from samplecnn.training.stores import describe, prepare_store

        data, shard = plain["data"], plain["shard"]
        rate = plain["rate"]
        path = prepare_store(data, rate=rate, workers=plain["workers"], shard=shard, fetch=True)
        if shard is not None and not (path / MANIFEST).is_file():
            print(f"shard {shard} of {path} is prepared; the call that finds all finished finishes the store")
            return
        print(*describe(Store.open(path), data), sep="\n")
    except (UserError, OSError) as error:
        sys.exit(lines(error))


if __name__ == "__main__":
    wait_without_spinning()
    configuration.register()
    try:
        main()
    except SystemExit as stop:
        if stop.code and (
            hint := configuration.explain(sys.argv[1:], Path(__file__).parent / "conf", "prepare")
        ):
            print(hint, file=sys.stderr)
        raise
