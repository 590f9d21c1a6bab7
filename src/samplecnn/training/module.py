"""The LightningModule: binary cross-entropy on segments, scores on clips."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from samplecnn.data.batches import Batch
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.errors import UserError
from samplecnn.model.network import STEM, use
from samplecnn.model.networks.network import Network
from samplecnn.runs.config import KERAS_SGD
from samplecnn.runs.metrics import ClipAverage, score
from samplecnn.runs.results import SplitScores
from samplecnn.runs.rules import PRINTABLE
from samplecnn.training.augment import Augmentation
from samplecnn.training.backends.choice import Choice, FirstSteps, forget
from samplecnn.training.backends.graph import StepGraph, TrainingStep, no_scaler
from samplecnn.training.backends.proof import PLAIN_PLAN
from samplecnn.training.backends.trials import said
from samplecnn.training.optimiser import Groups, can_be_captured, make_optimizer, with_features_rate
from samplecnn.training.ranks import gather, rank, share
from samplecnn.training.schedule import MONITOR

log = logging.getLogger(__name__)

PLAIN_CHOICE = Choice(PLAIN_PLAN)


class TrainingDivergedError(UserError):
    """The validation loss is not a finite number any more."""


class TaggingModule(pl.LightningModule):
    """Trains and tests a network on the segments of a ``SegmentDataModule``.

    ``description`` (plain values only) goes into every checkpoint under ``samplecnn``: all that is needed
    to build the network again and to name what it says. ``optimizer`` and ``weight_decay`` are as
    `make_optimizer` takes them. The learning rate is set by a schedule, before every step; all but the last
    layer has ``features_rate`` times that. With ``label_smoothing`` e, training aims at e / 2 and 1 - e / 2
    in place of 0 and 1. ``choice`` says how to compute; with a CUDA graph, that takes the whole step, and
    what Lightning would do after the loss does nothing. ``augmentation`` changes what a training step hears.
    The loss is logged every ``log_every`` steps.
    Tests compute on ``test_backend``, so that another test of the same weights gives the same numbers.
    ``averaged`` says what the weights in the network are an average of; None: of nothing.
    """

    def __init__(
        self,
        network: Network,
        *,
        description: dict[str, Any],
        optimizer: Mapping[str, Any] = KERAS_SGD,
        weight_decay: float = 0.0,
        features_rate: float = 1.0,
        label_smoothing: float = 0.0,
        seed: int = 0,
        choice: Choice = PLAIN_CHOICE,
        augmentation: Augmentation | None = None,
        log_every: int | None = None,
        test_backend: str = STEM,
    ) -> None:
        super().__init__()
        self.plan = choice.plan
        use(network, self.plan.backend)
        self.network = network
        self.choice = choice
        self.augmentation = augmentation
        self._graph: StepGraph | None = None
        self._timed = False  # whether cuDNN chooses its algorithms by their time
        self.log_every = log_every
        self.test_backend = test_backend
        self.description = description
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.features_rate = features_rate
        self.label_smoothing = label_smoothing
        self.averaged: str | None = None
        self.seed = seed
        self.test_probabilities: NDArray[np.float32] | None = None  # (clips, tags) after a test
        self.test_scores: SplitScores | None = None
        self.step_loss: float | None = None  # that was logged last
        self._losses = torch.zeros(())  # sum over the epoch so far
        self._outputs: list[tuple[Tensor, Tensor, Tensor]] = []  # probabilities, clips and loss of each batch

    @property
    def data(self) -> SegmentDataModule:
        """The data of the trainer at work."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, SegmentDataModule)
        return data

    def with_features_rate(self, groups: Groups) -> Groups:
        """Return parameter groups for an optimiser, the features' rate apart from the last layer's."""
        return with_features_rate(groups, self.network, self.features_rate)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser of what is trained; its rate is a schedule's to set."""
        return make_optimizer(self.network, self.optimizer, self.weight_decay, self.features_rate)

    def configure_callbacks(self) -> list[pl.Callback]:
        """Have the first steps compared with what was measured."""
        return [FirstSteps(self.choice)]

    def on_fit_end(self) -> None:
        """Give back the graph's memory."""
        self._graph = None

    def seed_dropout(self) -> None:
        """Make the epoch's dropout a function of seed, epoch and rank: resuming does not change it."""
        place = [rank()] if rank() else []
        mixed = np.random.SeedSequence([self.seed, self.current_epoch, *place]).generate_state(1)[0]
        torch.manual_seed(int(mixed))

    def on_train_epoch_start(self) -> None:
        """Seed the dropout, and begin the sum of the losses."""
        self.seed_dropout()
        self._losses = torch.zeros((), device=self.device)  # the sum stays there: no wait per step

    def on_train_start(self) -> None:
        """Go on with the losses of a resumed epoch."""
        self._losses = self._losses.to(self.device)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the mean cross-entropy of the batch; with a graph, take the whole step."""
        if self.augmentation is not None:
            batch = self.augmentation(batch, self.current_epoch)
        loss = self._graphed_step(batch) if self.plan.graph else self._loss(batch)
        self._losses += loss.detach()
        if self.log_every is not None and (index + 1) % self.log_every == 0:
            self._log_step(loss.detach().clone())
        if self.trainer.is_last_batch:
            mean = self._losses / (index + 1)
            self.log("train/loss_epoch", mean, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def _log_step(self, loss: Tensor) -> None:
        """Log loss and rate of this step, and wait for the device.

        Lightning's own ``log`` would do both in each step from here to the end of the epoch.
        """
        self.step_loss = float(self.trainer.strategy.reduce(loss, reduce_op="mean"))
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        values = {"train/loss_step": self.step_loss, "learning_rate": rate, "epoch": self.current_epoch}
        for logger in self.trainer.loggers:
            logger.log_metrics(values, self.trainer.global_step)

    def _loss(self, batch: Batch) -> Tensor:
        labels = batch.labels
        if self.label_smoothing:
            labels = labels * (1 - self.label_smoothing) + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(self.network(batch.waveforms).float(), labels)

    def _graphed_step(self, batch: Batch) -> Tensor:
        """Take the step out of a graph, captured at the first step and where the optimiser changed."""
        optimizer = self._captured_optimizer()
        if self._graph is None or not self._graph.holds(optimizer):
            self._graph = None  # its memory, before another takes as much
            scaler = getattr(self.trainer.precision_plugin, "scaler", None) or no_scaler()
            step = TrainingStep(self.network, self._loss, str(self.trainer.precision), optimizer, scaler)
            try:
                self._graph = StepGraph(step, batch)
            except Exception as error:
                return self._loss_without_graph(batch, error)
        return self._graph(batch)

    def _loss_without_graph(self, batch: Batch, error: Exception) -> Tensor:
        """Compute on the plain backend from here on, and have the next run measure again."""
        log.warning("backend %s does not work any more (%s): going on with plain", self.plan, said(error))
        forget(self.choice)
        self.plan = PLAIN_PLAN
        self.choice = Choice(PLAIN_PLAN, key=self.choice.key)
        use(self.network, PLAIN_PLAN.backend)
        return self._loss(batch)

    def _captured_optimizer(self) -> torch.optim.Optimizer | None:
        """Return the optimiser whose update is in the graph; None where a schedule has one that cannot be."""
        optimizer = self.trainer.optimizers[0]
        return optimizer if self.plan.graph and can_be_captured(optimizer) else None

    def optimizer_zero_grad(self, *arguments: Any) -> None:
        """Let go of the gradients, but for a graph's: it writes them anew."""
        if not self.plan.graph:
            super().optimizer_zero_grad(*arguments)

    def backward(self, loss: Tensor, *arguments: Any, **options: Any) -> None:
        """Compute the gradients, where a graph has not."""
        if not self.plan.graph:
            super().backward(loss, *arguments, **options)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        """Take the step, whose update may be in the graph."""
        if self._captured_optimizer() is None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        loss = optimizer_closure()
        if not self.plan.graph:  # it could not be captured, and has left gradients alone
            super().optimizer_step(epoch, batch_idx, optimizer, lambda: loss)

    def _evaluation_step(self, batch: Batch) -> None:
        logits = self.network(batch.waveforms).float()
        loss = F.binary_cross_entropy_with_logits(logits, batch.labels)
        self._outputs.append((logits.sigmoid(), batch.clips, loss))

    def _gather(self, part: str) -> tuple[float, NDArray[np.float32]]:
        """Return the loss per segment and the clips' probabilities of a part, of all ranks' batches.

        They are added up batch by batch in the order that one process has, and so to the same numbers.
        """
        ranks = gather([tuple(tensor.cpu() for tensor in output) for output in self._outputs])
        self._outputs = []
        in_order = [output for turn in zip(*ranks, strict=True) for output in turn]
        average = ClipAverage(len(self.data.parts[part].clip_ids), len(self.data.tags))
        total, segments = torch.zeros(()), 0
        for probabilities, clips, loss in in_order[: len(self.data.in_order(part))]:
            average.update(probabilities, clips)
            total, segments = total + loss * len(clips), segments + len(clips)
        return float(total / segments), average.compute()

    def _score_clips(self, part: str, logged: str, probabilities: NDArray[np.float32]) -> SplitScores:
        """Return the scores of the part's clips; log the means under ``logged``."""
        selection = self.data.selection
        scores = score(selection.tags, selection.parts[part].labels, probabilities)
        for key, mean in (("roc_auc", scores.roc_auc), ("pr_auc", scores.pr_auc)):
            in_bar = (logged, key) == ("val", "roc_auc")
            self.log(f"{logged}/{key}", math.nan if mean is None else mean, prog_bar=in_bar)
        return scores

    def on_validation_start(self) -> None:
        """Have cuDNN choose its algorithms as `samplecnn evaluate` does, not by their time."""
        self._timed, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False

    def on_validation_end(self) -> None:
        """Have it choose as before."""
        torch.backends.cudnn.benchmark = self._timed

    on_test_start, on_test_end = on_validation_start, on_validation_end

    def on_validation_epoch_start(self) -> None:
        """Have the batch norms' running statistics of rank 0, which the checkpoints have, on all ranks."""
        share(self.network.buffers())

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Compute the batch."""
        self._evaluation_step(batch)

    def on_validation_epoch_end(self) -> None:
        """Log loss and clip-level scores; stop with a clear error where the training has diverged."""
        loss, probabilities = self._gather("valid")
        self.log(MONITOR, loss)
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"{MONITOR} is {loss} after epoch {self.current_epoch}: the training has diverged. "
                "Try a smaller schedule.learning_rate, or trainer.precision=32"
            )
        self._score_clips("valid", "val", probabilities)

    def on_test_epoch_start(self) -> None:
        """Choose the backend of tests."""
        use(self.network, self.test_backend)

    def test_step(self, batch: Batch, _index: int) -> None:
        """Compute the batch."""
        self._evaluation_step(batch)

    def on_test_epoch_end(self) -> None:
        """Keep the clips' probabilities and scores, and log loss and means."""
        loss, self.test_probabilities = self._gather("test")
        self.log("test/loss", loss)
        self.test_scores = self._score_clips("test", "test", self.test_probabilities)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the weights are of, how they are computed, and what the epoch's losses sum up to."""
        checkpoint["samplecnn"] = self.description
        checkpoint["choice"] = self.choice.state()
        if self.averaged is not None:
            checkpoint["averaged"] = self.averaged
        # The mean over the ranks, with which each of them goes on.
        checkpoint["losses"] = torch.stack(gather(self._losses.cpu())).mean()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the losses of an epoch to go on within, and what the weights are an average of."""
        self._losses = checkpoint.get("losses", self._losses)
        averaged = checkpoint.get("averaged")
        self.averaged = averaged if PRINTABLE.holds(averaged) else None
