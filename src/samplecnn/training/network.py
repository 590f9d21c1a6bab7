"""The network that a configuration asks for, ready to be trained."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from samplecnn.data.store import Selection
from samplecnn.hardware import settle
from samplecnn.model.architecture import build
from samplecnn.model.network import PLAIN, PRODUCTS, STEM, SampleCNN
from samplecnn.model.networks.network import Network
from samplecnn.model.norm import synchronise, use_keras_statistics
from samplecnn.runs.checkpoint import read_checkpoint
from samplecnn.runs.config import RunConfig
from samplecnn.runs.description import Description
from samplecnn.training.augment import Augmentation
from samplecnn.training.backends.choice import Choice, choose, test_backend
from samplecnn.training.backends.proof import Plan, Trial
from samplecnn.training.config import ConfigError
from samplecnn.training.init import own_classes, start
from samplecnn.training.module import TaggingModule
from samplecnn.training.ranks import from_rank_zero
from samplecnn.training.trainer import device_and_precision

log = logging.getLogger(__name__)


def make_module(config: RunConfig, selection: Selection, last: Path | None = None) -> TaggingModule:
    """Build the network and choose how to compute its training.

    Its weights are drawn from the seed, or of the model that it starts from. Where it goes on from the
    checkpoint ``last`` they will come out of that, and it is computed as before.
    """
    pl.seed_everything(config.seed, verbose=False)
    network = build(architecture(config), len(selection.tags), *own_classes(config))
    start(network, config, selection.tags, own_classes(config), goes_on=last is not None)
    description = describe_network(config, selection, network)
    device, precision = device_and_precision(config.trainer)
    settle(device)  # on every rank: only the first chooses
    if isinstance(network, SampleCNN) and config.running_statistics == "keras":
        use_keras_statistics(network)
    trial = Trial(network, device, precision, config.batch_size, config.optimizer)
    before = None if last is None else read_checkpoint(last).get("choice")
    choice = from_rank_zero(lambda: choose(trial, fast=config.fast, graphs=config.world == 1, before=before))
    augmentation = None
    if config.augment["name"] != "none":
        augmentation = Augmentation(config.augment, config.seed, network.sample_rate)
        choice = replace(choice, rate=None)  # of the network alone: not to be compared with
    if config.world > 1:
        choice = for_several_devices(config, network, choice, device)
    return TaggingModule(
        network,
        description=description.as_dict(),
        optimizer=config.optimizer,
        weight_decay=config.weight_decay,
        features_rate=config.features_rate,
        label_smoothing=config.label_smoothing,
        seed=config.seed,
        choice=choice,
        augmentation=augmentation,
        log_every=config.trainer.log_every_n_steps,
        test_backend=test_backend(config.fast),
    )


def for_several_devices(
    config: RunConfig, network: nn.Module, choice: Choice, device: torch.device
) -> Choice:
    """Return the choice that holds where a step waits for other devices; synchronise batch norms if wanted.

    Raises ConfigError for a network whose batch norms cannot be.
    """
    if device.type == "cuda":
        log.info("several devices: a step is not replayed from a CUDA graph")
    choice = replace(choice, rate=None)  # of one device alone: not to be compared with
    if not config.trainer.sync_batchnorm:
        return choice
    if not isinstance(network, SampleCNN):
        raise ConfigError(
            f"trainer.sync_batchnorm=true: the batch norms of model={config.model['name']} cannot be"
        )
    synchronise(network)
    if choice.plan.backend not in (PLAIN, PRODUCTS, STEM):
        log.info("trainer.sync_batchnorm=true: computing on backend: %s, not %s", STEM, choice.plan.backend)
        return replace(choice, plan=Plan(STEM))
    return choice


def heard(config: RunConfig) -> tuple[int, int]:
    """Return the rate in Hz and the samples of the segments that the network hears; nothing is allocated."""
    with torch.device("meta"):
        network = build(architecture(config), 1, *own_classes(config))
    return network.sample_rate, network.segment_samples


def architecture(config: RunConfig) -> dict[str, Any]:
    """Return what the network is built of, in plain values."""
    return {
        "model": _options(config.model, "dropout"),
        "block": _options(config.block) if config.block else None,
        "multi": config.multi,
        "width": config.width,
        "dropout": config.dropout,
        "sample_rate": config.rate,
        "probe": asdict(config.probe) if config.probe else None,
    }


def _options(chosen: Mapping[str, Any], *others: str) -> dict[str, Any]:
    return {key: value for key, value in chosen.items() if key not in ("_target_", *others)}


def describe_network(config: RunConfig, selection: Selection, network: Network) -> Description:
    """Return what a checkpoint says of the network that the configuration asks for."""
    return Description(
        **{**architecture(config), "sample_rate": network.sample_rate, "probe": config.probe},
        segment_samples=network.segment_samples,
        tags=selection.tags,
        data=config.data.name,
        split=selection.split,
        split_hash=selection.split_hash,
    )


def count_parameters(network: nn.Module) -> int:
    """Count weights as Keras does: batch norms' running means and variances are among them."""
    statistics = sum(buffer.numel() for key, buffer in network.named_buffers() if "running_" in key)
    return statistics + sum(p.numel() for p in network.parameters())
