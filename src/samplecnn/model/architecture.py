"""A network from the plain description that run folders and model files hold."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from samplecnn.errors import UserError
from samplecnn.model.blocks import BLOCKS
from samplecnn.model.network import SampleCNN


class BlockError(UserError):
    """There is no such block, or it does not take what is asked of it."""


def build(
    architecture: Mapping[str, Any], tags: int, blocks: Mapping[str, type[nn.Module]] | None = None
) -> SampleCNN:
    """Build the network that ``architecture`` describes, with fresh weights.

    ``architecture`` holds ``block`` (its short name and options, such as ``{"name": "se", "alpha": 16}``),
    ``multi``, ``width`` and ``dropout``. Blocks other than those of ``BLOCKS`` come from ``blocks``, by name:
    nothing that a file names is ever imported.

    Raises BlockError for an unknown block, for an own block under the name of one of these, and for
    options that the block does not take.
    """
    options = dict(architecture["block"])
    name = options.pop("name")
    own = dict(blocks or {})
    taken = sorted(own.keys() & BLOCKS.keys())
    if taken:
        raise BlockError(
            f"{taken[0]!r} is one of samplecnn's own blocks ({', '.join(BLOCKS)}): give your own another name"
        )
    known = {**BLOCKS, **own}
    if name not in known:
        raise BlockError(
            f"unknown block {name!r}; known are {', '.join(known)}. "
            f"A block of your own is passed in by the caller: blocks={{{name!r}: TheClass}}"
        )
    try:
        return SampleCNN(
            partial(known[name], **options),
            tags=tags,
            width=architecture["width"],
            multi=architecture["multi"],
            dropout=architecture["dropout"],
        )
    except (TypeError, ValueError) as error:
        raise BlockError(f"block {name!r} cannot be built with the options {options}: {error}") from error
