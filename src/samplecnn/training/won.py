"""The recipe of Won, Ferraro, Bogdanov and Serra (2020): Adam, then stochastic gradient descent in stages.

They trained all networks of their comparison so, on one random chunk per clip and epoch
(``data.random_chunks=1``), in batches of 16.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import pytorch_lightning as pl
import torch

from samplecnn.training.config import ConfigError
from samplecnn.training.module import TaggingModule
from samplecnn.training.optimiser import Groups
from samplecnn.training.schedule import Staged, set_rate


class WonSchedule(Staged):
    """Adam at ``learning_rate`` for ``adam_epochs``, then SGD at each of ``sgd_rates`` for its epochs.

    SGD has Nesterov momentum 0.9. Each of its stages starts from the weights with the lowest validation loss
    so far, with fresh momentum; after the last training stops. ``weight_decay`` is PyTorch's: it adds
    ``weight_decay * w`` to the gradient of every weight, in both optimisers.
    """

    kept = ("stage", "epochs", "best", "best_weights")

    def __init__(
        self,
        learning_rate: float,
        *,
        adam_epochs: int,
        sgd_rates: Sequence[float],
        sgd_epochs: Sequence[int],
        weight_decay: float,
    ) -> None:
        if len(sgd_rates) != len(sgd_epochs):
            raise ConfigError(
                f"sgd_rates has {len(sgd_rates)} stages, sgd_epochs {len(sgd_epochs)}: as many are needed"
            )
        super().__init__(1 + len(sgd_rates))
        self.rates = (learning_rate, *sgd_rates)
        self.ends = tuple(accumulate((adam_epochs, *sgd_epochs)))  # epochs behind each stage
        self.least_epochs = self.ends[-1]
        self.weight_decay = weight_decay
        self.epochs = 0  # that have ended

    def optimiser(self, module: pl.LightningModule) -> torch.optim.Optimizer:
        """Return the optimiser of the present stage, of what is trained."""
        groups: Groups = [{"params": [p for p in module.parameters() if p.requires_grad]}]
        if isinstance(module, TaggingModule):
            groups = module.with_features_rate(groups)
        rate, decay = self.rates[self.stage], self.weight_decay
        if self.stage == 0:
            return torch.optim.Adam(groups, lr=rate, weight_decay=decay)
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the stage's optimiser in the module's place, before a checkpoint's state comes into it."""
        trainer.strategy.optimizers = [self.optimiser(pl_module)]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Set the rate of this step."""
        set_rate(trainer, pl_module, self.rates[self.stage])

    def ends_stage(self, *, better: bool) -> bool:
        """Say whether the stage has its number of epochs."""
        self.epochs += 1
        return self.epochs >= self.ends[self.stage]

    def begin_stage(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with an optimiser of its own."""
        trainer.strategy.optimizers = [self.optimiser(pl_module)]
