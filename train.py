"""Train and test one network, or a grid of them.

    python train.py block=se multi=true
    python train.py -m block=basic,se,res1,res2,rese1,rese2 multi=true,false
    python train.py -m experiment=table1    # and others in conf/experiment/
    python train.py resume=RUN

What can be set, and what it is by default: conf/train.yaml and the folders beside it.
"""

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from samplecnn.training import config as configuration
from samplecnn.training.sweep import SweepGuard, print_table, started, title

CONF = Path(__file__).parent / "conf"


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> None:
    """Run one job."""
    settings = HydraConfig.get()
    overrides = list(settings.overrides.task)
    sweep = settings.mode == RunMode.MULTIRUN
    try:
        plain = configuration.validate(config)
        if plain["resume"] is not None:
            plain = configuration.resumed(plain, overrides)

        from samplecnn.training.job import train  # after the checks: it loads PyTorch

        results = train(
            plain,
            Path(settings.runtime.output_dir),
            name=title(settings) if sweep else configuration.describe(overrides),
            group=Path(settings.sweep.dir).name if sweep else None,
        )
    except (ValueError, OSError) as error:
        if sweep:
            raise  # Hydra goes on with the next job and fails at the end
        sys.exit(f"{error}")
    auc = results.test.roc_auc
    told = "undefined" if auc is None else f"{auc:.4f}"
    print(f"test ROC-AUC {told}; everything is in {settings.runtime.output_dir}")


if __name__ == "__main__":
    configuration.register()
    try:
        main()
    except SystemExit as stop:
        if stop.code and (hint := configuration.explain(sys.argv[1:], CONF)):
            print(hint, file=sys.stderr)
        raise
    finally:
        sweep = SweepGuard.folder
        if sweep is not None and not print_table(SweepGuard.planned or started(sweep)):
            sys.exit(f"for what is missing, the same command again, with hydra.sweep.dir={sweep}")
