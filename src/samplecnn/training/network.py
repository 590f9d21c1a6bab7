"""The network that a configuration asks for, ready to be trained."""

import logging

import pytorch_lightning as pl
from hydra.utils import get_class
from torch import nn

from samplecnn.data.audio import SAMPLE_RATE
from samplecnn.data.store import Selection
from samplecnn.model.architecture import build
from samplecnn.model.blocks import BLOCKS
from samplecnn.model.network import PLAIN, STEM
from samplecnn.model.norm import synchronise, use_keras_statistics
from samplecnn.runs.config import RunConfig
from samplecnn.runs.description import Description
from samplecnn.training.backends import Plan, choose, test_backend
from samplecnn.training.config import ConfigError
from samplecnn.training.module import TaggingModule
from samplecnn.training.ranks import from_rank_zero
from samplecnn.training.trainer import device_and_precision

log = logging.getLogger(__name__)


def make_module(config: RunConfig, selection: Selection) -> TaggingModule:
    """Build the network, its weights drawn from the seed, and choose how to compute its training."""
    pl.seed_everything(config.seed, verbose=False)
    description = describe_network(config, selection)
    plain = description.as_dict()
    network = build(plain, len(description.tags), own_blocks(config))
    if config.running_statistics == "keras":
        use_keras_statistics(network)
    device, precision = device_and_precision(config.trainer)
    if config.world > 1 and device.type == "cuda":
        log.info("several devices: a step is not replayed from a CUDA graph")
    plan = from_rank_zero(
        lambda: choose(
            network,
            fast=config.fast,
            device=device,
            precision=precision,
            batch_size=config.batch_size,
            description=plain,
            graphs=config.world == 1,
        )
    )
    if config.trainer.sync_batchnorm and config.world > 1:
        synchronise(network)  # after the choice, for which rank 0 computes alone
        if plan.backend not in (PLAIN, STEM):
            log.info("trainer.sync_batchnorm=true: computing on backend: %s, not %s", STEM, plan.backend)
            plan = Plan(STEM)
    return TaggingModule(
        network,
        description=plain,
        weight_decay=config.weight_decay,
        seed=config.seed,
        plan=plan,
        log_every=config.trainer.log_every_n_steps,
        test_backend=test_backend(config.fast),
    )


def own_blocks(config: RunConfig) -> dict[str, type[nn.Module]]:
    """Return the class of the block under its name, if it is not one of ours."""
    name, target = config.block["name"], config.block["_target_"]
    try:
        block = get_class(target)
    except Exception as error:  # Hydra wraps whatever an import raises
        raise ConfigError(f"block._target_={target} cannot be imported: {error}") from error
    return {} if block is BLOCKS.get(name) else {name: block}


def describe_network(config: RunConfig, selection: Selection) -> Description:
    """Return what a checkpoint says of the network that the configuration asks for."""
    return Description(
        block={key: value for key, value in config.block.items() if key != "_target_"},
        multi=config.multi,
        width=config.width,
        dropout=config.dropout,
        tags=selection.tags,
        sample_rate=SAMPLE_RATE,
        data=config.data.name,
        split=selection.split,
        split_hash=selection.split_hash,
    )


def count_parameters(network: nn.Module) -> int:
    """Count weights as Keras does: batch norms' running means and variances are among them."""
    statistics = sum(buffer.numel() for key, buffer in network.named_buffers() if "running_" in key)
    return statistics + sum(p.numel() for p in network.parameters())
