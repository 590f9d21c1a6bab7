"""The tags of a sound over time, as lines of JSON that are sent while the network computes."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from anyio import to_thread
from numpy.typing import NDArray

from samplecnn.data.audio import segments
from samplecnn.errors import UserError
from samplecnn.inference.tagger import BATCH, Tagger
from samplecnn.model.excitation import ExcitationError, recorded_excitations, se_layers

Excitations = dict[int, NDArray[np.uint8]]


def has_excitations(tagger: Tagger) -> bool:
    """Say whether a network has squeeze-and-excitation."""
    try:
        return bool(se_layers(tagger.network))
    except ExcitationError:
        return False


def tag(tagger: Tagger, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], Excitations]:
    """Return probabilities ``(batch, tags)`` of segments ``(batch, samples)``, and per block the excitations.

    The latter are ``(batch, channels)``, from 0 to 255 in place of 1, of the same forward pass; none for a
    network without squeeze-and-excitation. Raises UserError as `Tagger.predict_segments` does.
    """
    if not has_excitations(tagger):
        probabilities, gates = tagger.predict_segments(batch), {}
    else:
        with recorded_excitations(tagger.network) as gates:
            probabilities = tagger.predict_segments(batch)
    return probabilities, {
        block: (values.float() * 255).round().byte().cpu().numpy() for block, values in gates.items()
    }


async def lines(tagger: Tagger, samples: NDArray[np.float32], network: asyncio.Lock) -> AsyncIterator[str]:
    """Yield JSON lines: what is to come, then each batch of segments, then the mean, or an error.

    ``samples`` are at the tagger's rate. The first line has ``tags``, ``segments`` (how many) and
    ``segment_seconds`` (how long: each begins where the one before ends). A batch has ``probabilities``, a
    row for each segment, and ``excitations``, per block the base64 of bytes ``(batch, channels)``. The last
    has ``mean``, the mean over the segments, unrounded, or ``error``. The lock ``network`` is held for one
    batch at a time, so that several models take turns.
    """
    waveforms = segments(samples, tagger.segment_samples)
    seconds = tagger.segment_samples / tagger.sample_rate
    yield _line(tags=tagger.tags, segments=len(waveforms), segment_seconds=seconds)
    rows = []
    try:
        for first in range(0, len(waveforms), BATCH):
            batch = np.array(waveforms[first : first + BATCH])
            async with network:
                probabilities, excitations = await to_thread.run_sync(tag, tagger, batch)
            rows.append(probabilities)
            yield _line(
                probabilities=[[round(value, 4) for value in row] for row in probabilities.tolist()],
                excitations={block: _base64(values) for block, values in excitations.items()},
            )
        yield _line(mean=np.concatenate(rows).mean(axis=0).tolist())
    except UserError as error:  # the answer has begun: its last line says what went wrong
        yield _line(error=f"{str(error)[:1].upper()}{str(error)[1:]}.")
    except Exception as error:
        logging.getLogger(__name__).exception("tagging failed")
        yield _line(error=str(error) or type(error).__name__)


def _base64(values: NDArray[np.uint8]) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _line(**values: Any) -> str:
    return json.dumps(values, allow_nan=False, separators=(",", ":")) + "\n"
