"""What a network starts from: weights of a trained model, of which some parts may be frozen."""

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from samplecnn.model.architecture import Blocks, Networks
from samplecnn.model.network import SampleCNN, last_layer
from samplecnn.model.networks.network import Network
from samplecnn.model.norm import restart_statistics
from samplecnn.runs import weights
from samplecnn.runs.config import RunConfig
from samplecnn.runs.folder import Model, load_model, unfinished
from samplecnn.training.config import ConfigError
from samplecnn.training.ranks import on_all

log = logging.getLogger(__name__)

Classes = tuple[Blocks, Networks]  # of blocks and networks that are the user's own


def start(
    network: Network, config: RunConfig, tags: Sequence[str], classes: Classes, *, goes_on: bool
) -> None:
    """Give a fresh network the weights of the model that ``config.init`` names, and freeze parts of it.

    Where the model's tags are others, or in another order, the last layer stays as it is: fresh. A run that
    ``goes_on`` has its weights in its checkpoint, and needs the model no more. Raises RunError where that
    cannot be read, and ConfigError where its weights are not those that the configuration is of.
    """
    if config.init is None:
        return
    if not goes_on:
        path = Path(config.init)
        model, sha256 = on_all(lambda: read_model(path, classes))
        if sha256 != config.init_sha256:
            raise ConfigError(f"{path} holds other weights than before (SHA-256 {sha256})")
        log.info("starting from %s: %s", path, ", ".join(model.description.words))
        if (sentence := unfinished(path)) is not None:
            log.warning(sentence)
        take_over(network, model, tags)
    freeze(network, config.freeze)
    restart_statistics(network)


def read_model(path: Path, classes: Classes) -> tuple[Model, str]:
    """Return a model and the SHA-256 of its weights, the same in a checkpoint and in a bundle.

    Raises RunError for what is not a model, or is damaged.
    """
    model = load_model(path, *classes)
    return model, weights.sha256(weights.encode(model.network.state_dict()))


def take_over(network: Network, model: Model, tags: Sequence[str]) -> None:
    """Copy a model's weights into a network of its architecture; log what is taken and what is new."""
    taken = model.network.state_dict()
    if model.tags != tuple(tags):
        last = f"{last_layer(network)}."
        taken = {name: tensor for name, tensor in taken.items() if not name.startswith(last)}
    new = network.load_state_dict(taken, strict=False).missing_keys
    number = sum(tensor.numel() for tensor in taken.values() if tensor.is_floating_point())
    log.info("taken over: %d tensors, %s parameters", len(taken), f"{number:,}")
    if not new:
        log.info("its %d tags are those of the data: nothing is new", len(tags))
        return
    common = len(set(model.tags) & set(tags))
    log.info(
        "new: %s, for %d tags; the model has %d, of which %d are of the same name and begin anew too",
        *(", ".join(new), len(tags), len(model.tags), common),
    )


def freeze(network: Network, what: str | int) -> None:
    """Freeze ``"features"`` (all but the last layer), or the stem and so many blocks of a SampleCNN.

    The network's own dropout, which is in front of the last layer, goes on.
    """
    if what == "none":
        return
    if what == "features":
        last = last_layer(network)
        network.requires_grad_(False)
        network.get_submodule(last).requires_grad_(True)
        children = network.named_children()
        network.freeze(m for name, m in children if name != last and not isinstance(m, nn.Dropout))
    else:
        assert isinstance(network, SampleCNN)
        network.freeze([network.stem_conv, network.stem_bn, *network.blocks[: int(what)]])
    sizes = [parameter.numel() for parameter in network.parameters()]
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    log.info("frozen (freeze=%s): %s of %s weights", what, f"{sum(sizes) - trained:,}", f"{sum(sizes):,}")
