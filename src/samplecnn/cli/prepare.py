"""``samplecnn prepare``, or ``python prepare.py`` in a checkout: the store of a data set."""

import sys

import hydra
from omegaconf import DictConfig

from samplecnn.errors import UserError
from samplecnn.text import lines
from samplecnn.training import config as configuration


@hydra.main(version_base="1.3", config_path=str(configuration.CONF), config_name="prepare")
def prepare_store(config: DictConfig) -> None:
    """Prepare one data set."""
    try:
        plain = configuration.validate(config)

        # After the checks: it loads PyTorch.
        from samplecnn.data.resampling import SAMPLE_RATE
        from samplecnn.data.store import MANIFEST, Store
        from samplecnn.training import stores

        data, shard = plain["data"], plain["shard"]
        rate = plain["rate"] or SAMPLE_RATE
        path = stores.prepare_store(data, rate=rate, workers=plain["workers"], shard=shard, fetch=True)
        if shard is not None and not (path / MANIFEST).is_file():
            print(f"shard {shard} of {path} is prepared; the call that finds all finished finishes the store")
            return
        print(lines("\n".join(stores.describe(Store.open(path), data))))
    except (UserError, OSError) as error:
        sys.exit(lines(error))


def main() -> int | str | None:
    """Prepare what the command line asks for; return the exit status, or a message in its place."""
    if wrong := configuration.without_choice(sys.argv[1:]):
        return wrong
    configuration.register()
    try:
        prepare_store()
    except SystemExit as stop:
        if stop.code:
            configuration.print_hint("prepare")
        return stop.code
    return 0
