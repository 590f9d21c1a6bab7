"""Which weights a run keeps while it trains.

Apart from `runs.py`, because what reads models needs no Lightning, which takes seconds to import.
"""

from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint

from samplecnn.runs.folder import BEST
from samplecnn.training.schedule import MONITOR


class RunCheckpoint(ModelCheckpoint):
    """Keeps the weights that are tested, and the last ones.

    ``tested`` is the schedule's: ``"best"`` for those with the lowest validation loss of the whole run.

    Goes on with them in a run folder that has been moved, where Lightning's own would start anew.
    """

    def __init__(self, run: Path, tested: str) -> None:
        best = Path(BEST)
        super().__init__(
            dirpath=run / best.parent,
            filename=best.stem,
            monitor=MONITOR if tested == "best" else None,
            save_last=True,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the files of a checkpoint's state where they are now."""

        def here(path: str) -> str:
            return str(Path(self.dirpath or "") / Path(path).name) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved = {key: here(state_dict[key]) for key in paths}
        moved["dirpath"] = str(self.dirpath)
        best = {here(path): value for path, value in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": best})
