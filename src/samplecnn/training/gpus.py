"""A GPU of its own for each of the trainings that run side by side on a machine."""

import logging
import os
import platform
import re
from contextlib import ExitStack
from itertools import takewhile

import torch

from samplecnn.errors import UserError
from samplecnn.files import BusyError, cache_folder, locked

log = logging.getLogger(__name__)

NAME = re.compile(r"\d|GPU-|MIG-")  # how the names of GPUs begin
SHARES = 64  # trainings on one GPU at the most
_held = ExitStack()  # the lock on this process's GPU; it ends with the process


def take_gpu() -> str | None:
    """Let this process see one GPU alone, one that the fewest other trainings of this user hold.

    Returns its number or name as in CUDA_VISIBLE_DEVICES, which is set to it: call this before CUDA starts.
    Nothing is taken, and None returned, where the process sees no more than one. It is held until the process
    ends, however it ends; without locks all stay in sight.
    """
    seen = _visible()
    if len(seen) < 2:
        return None
    folder = cache_folder() / "gpus"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for share in range(SHARES):
            for gpu in seen:
                try:
                    _held.enter_context(locked(folder / f"{platform.node()}-{gpu}-{share}.lock"))
                except BusyError:
                    continue
                os.environ["CUDA_VISIBLE_DEVICES"] = gpu
                log.info("training on GPU %s of %s", gpu, ", ".join(seen))
                return gpu
    except (OSError, UserError) as error:
        log.info("trainings side by side do not take GPUs in turn: %s", error)
    return None


def _visible() -> list[str]:
    """Return the GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them; CUDA is not started.

    CUDA reads the names to the first that is none (-1, NoDevFiles), and sees no GPU where one is there twice.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(number) for number in range(torch.cuda.device_count())]
    seen = list(takewhile(NAME.match, map(str.strip, named.split(","))))
    return seen if len(set(seen)) == len(seen) else []
