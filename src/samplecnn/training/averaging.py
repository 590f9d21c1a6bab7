"""Averages of a training's weights, which are validated and tested in their place.

By PyTorch's own rules. Why not with its ``AveragedModel`` or Lightning's callback: docs/decisions.md
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn, update_bn

from samplecnn.model.norm import BatchNorm
from samplecnn.training.module import TaggingModule

BATCHES = 100  # that statistics are measured on: from there on our batch norms forget the first ones


class Averaging(pl.Callback, ABC):
    """Keeps an average of the network's weights and running statistics.

    From the start of a validation to the end of its epoch the average is in the network, and the training's
    own weights lie aside. So a schedule that keeps the best weights, and ``best.ckpt``, have what was judged.
    Where weights are loaded into the network meanwhile, as the next stage of a schedule does, the training
    goes on with these, and a new average begins.
    """

    name: ClassVar[str]
    unit: ClassVar[str]  # of what is counted

    def __init__(self) -> None:
        self.count = 0  # of the weights in the average
        self.aside: dict[str, Tensor] = {}  # the average; while it is in the network, the training's weights
        self._weights: dict[str, Tensor] = {}  # the network's, in its own memory

    @abstractmethod
    def average(self, averaged: list[Tensor], weights: list[Tensor]) -> None:
        """Take one more set of weights into the average, in its memory."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average of a resumed training where the network is."""
        assert isinstance(pl_module, TaggingModule)
        self._weights = dict(pl_module.network.state_dict())
        self.aside = {name: tensor.to(self._weights[name].device) for name, tensor in self.aside.items()}

        def begin_anew(*_: Any) -> None:
            self.count = 0

        pl_module.network.register_load_state_dict_post_hook(begin_anew)

    @torch.no_grad()
    def update(self) -> None:
        """Take the network's weights into the average. Batch norms' counts of batches are the network's."""
        if self.count == 0:
            self.aside = {name: tensor.clone() for name, tensor in self._weights.items()}
        else:
            pairs = [(self.aside[name], tensor) for name, tensor in self._weights.items()]
            floats = [pair for pair in pairs if pair[1].is_floating_point()]
            self.average([mean for mean, _ in floats], [now for _, now in floats])
            for mean, now in pairs:
                if not now.is_floating_point():
                    mean.copy_(now)
        self.count += 1

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Have the average validated."""
        assert isinstance(pl_module, TaggingModule)
        if self.count:
            self._exchange()
            pl_module.averaged = f"{self.name} of {self.count} {self.unit}{'s' if self.count > 1 else ''}"

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with the training's own weights."""
        assert isinstance(pl_module, TaggingModule)
        if self.count:
            self._exchange()
        pl_module.averaged = None

    @torch.no_grad()
    def _exchange(self) -> None:
        """Change places with the network's weights, whose memory stays what it is."""
        own = {name: tensor.clone() for name, tensor in self._weights.items()}
        for name, tensor in self._weights.items():
            tensor.copy_(self.aside[name])
        self.aside = own

    def state_dict(self) -> dict[str, Any]:
        """Return the average."""
        return {"count": self.count, "weights": self.aside if self.count else {}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the average of a checkpoint."""
        self.count, self.aside = state_dict["count"], state_dict["weights"]


class EMA(Averaging):
    """An exponential moving average over the steps, which keeps ``decay`` of itself at each.

    After n steps it keeps at most (1 + n) / (10 + n), so that a short training does not average the weights
    of its beginning. Running statistics are averaged as the weights are.
    """

    name, unit = "ema", "step"

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    def average(self, averaged: list[Tensor], weights: list[Tensor]) -> None:
        """Move the average towards the weights."""
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        get_ema_multi_avg_fn(decay)(averaged, weights, self.count)

    def on_train_batch_end(self, *_: Any) -> None:
        """Take the step's weights in."""
        self.update()


class SWA(Averaging):
    """Stochastic weight averaging: the mean of the weights at the ends of epochs, from ``first`` (from 0) on.

    Running statistics of weights that no step has had are measured on batches of the training part.
    """

    name, unit = "swa", "epoch"

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first

    def average(self, averaged: list[Tensor], weights: list[Tensor]) -> None:
        """Take one more epoch into the mean."""
        get_swa_multi_avg_fn()(averaged, weights, self.count)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the epoch's weights in, and have the mean validated."""
        assert isinstance(pl_module, TaggingModule)
        if trainer.current_epoch >= self.first:
            self.update()
        super().on_validation_start(trainer, pl_module)
        if self.count:
            measure_statistics(trainer, pl_module)


def measure_statistics(trainer: pl.Trainer, pl_module: TaggingModule) -> None:
    """Set the running statistics of batch norms to those of the weights in the network.

    They are the mean over the first batches of the first epoch's order, the same each time, computed as in
    training. Those of frozen parts stay.
    """
    frozen = [(b, b.clone()) for part in pl_module.network.frozen_parts for b in part.buffers()]

    def batches() -> Iterator[Tensor]:
        for buffer, kept in frozen:  # update_bn has reset them before it asks for the first batch
            buffer.copy_(kept)
        for batch in islice(pl_module.data.train_dataloader(), BATCHES):
            yield trainer.strategy.batch_to_device(batch).waveforms

    norms = [module for module in pl_module.network.modules() if isinstance(module, BatchNorm)]
    rules = [norm.from_first_step for norm in norms]
    for norm in norms:
        norm.from_first_step = True  # by Keras' rule, a third of what they began with would be left
    with trainer.precision_plugin.forward_context():
        update_bn(batches(), pl_module.network)
    for norm, rule in zip(norms, rules, strict=True):
        norm.from_first_step = rule


def make_averaging(settings: Mapping[str, Any], max_epochs: int | None) -> list[Averaging]:
    """Return the callback that ``settings`` ask for; nothing for ``average=none``.

    ``max_epochs`` has to be known for an average that starts later than with the first epoch.
    """
    if settings["name"] == "ema":
        return [EMA(settings["decay"])]
    if settings["name"] == "swa":
        return [SWA(int(settings["start"] * (max_epochs or 0)))]
    return []
