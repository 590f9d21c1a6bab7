"""Networks to try backends on, one of which misbehaves; a process that tries them imports this file."""

import multiprocessing
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from samplecnn.model.blocks import Basic
from samplecnn.model.network import SampleCNN
from samplecnn.model.networks import NETWORKS
from samplecnn.training.backends.proof import Trial

CPU = torch.device("cpu")


def trial(block: Callable[[int, int], nn.Module] = Basic, width: int = 2, **options: Any) -> Trial:
    torch.manual_seed(0)
    settings = {"device": CPU, "precision": "32-true", "batch_size": 4, **options}
    return Trial(SampleCNN(block, tags=3, width=width), **settings)


class Faulty(Basic):
    """A block that misbehaves where the stem is a matrix product, as far as a block can tell."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.fault = "raises"

    def forward(self, x: Tensor) -> Tensor:
        if (
            x.shape[1] == 2
            and x.shape[3] == 19683
            and x.grad_fn is not None
            and "Permute" in x.grad_fn.name()
        ):
            return self.misbehave(x)
        return super().forward(x)

    def misbehave(self, x: Tensor) -> Tensor:
        match self.fault:
            case "raises":
                raise FileNotFoundError("no C compiler\nsecond line")
            case "asserts":
                raise AssertionError
            case "ends":
                os._exit(7)
            case "aborts":
                os.abort()
            case "locks":  # as the compiler does: a semaphore that the process has to give back at its end
                self.lock = multiprocessing.get_context("spawn").Lock()
                return super().forward(x)
            case "hangs":
                time.sleep(1000)
            case "nan":
                return super().forward(x) * float("nan")
        return super().forward(x).square()


def faulty(fault: str, **options: Any) -> Trial:
    made = trial(Faulty, **options)
    made.network.blocks[0].fault = fault  # type: ignore[union-attr,index]
    return made


def of_others(name: str, device: torch.device = CPU, precision: str = "bf16-mixed") -> Trial:
    """Return a trial of one of the field's other networks."""
    torch.manual_seed(0)
    return Trial(NETWORKS[name](tags=3), device, precision, 2)
