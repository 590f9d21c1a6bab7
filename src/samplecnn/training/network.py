"""The network that a configuration asks for, ready to be trained."""

import pytorch_lightning as pl
from hydra.utils import get_class
from torch import nn

from samplecnn.data.audio import SAMPLE_RATE
from samplecnn.data.store import Selection
from samplecnn.model.architecture import build
from samplecnn.model.blocks import BLOCKS
from samplecnn.model.norm import use_keras_statistics
from samplecnn.runs.config import RunConfig
from samplecnn.runs.description import Description
from samplecnn.training.backends import choose, test_backend
from samplecnn.training.config import ConfigError
from samplecnn.training.module import TaggingModule
from samplecnn.training.proof import Trial
from samplecnn.training.trainer import device_and_precision


def make_module(config: RunConfig, selection: Selection) -> TaggingModule:
    """Build the network, its weights drawn from the seed, and choose how to compute its training."""
    pl.seed_everything(config.seed, verbose=False)
    description = describe_network(config, selection)
    plain = description.as_dict()
    network = build(plain, len(description.tags), own_blocks(config))
    if config.running_statistics == "keras":
        use_keras_statistics(network)
    device, precision = device_and_precision(config.trainer)
    trial = Trial(network, device, precision, config.batch_size)
    choice = choose(trial, fast=config.fast, graphs=config.trainer.devices == 1)
    return TaggingModule(
        network,
        description=plain,
        weight_decay=config.weight_decay,
        seed=config.seed,
        choice=choice,
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
