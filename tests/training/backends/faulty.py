"""Networks to try backends on, one of which misbehaves; a process that tries them imports this file."""

import ast
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from samplecnn.model.blocks import Basic
from samplecnn.model.network import SampleCNN
from samplecnn.model.networks import NETWORKS
from samplecnn.training.backends.proof import Trial

CPU = torch.device("cpu")
# What compilers and drivers raise.
ERRORS: dict[str, Exception] = {
    "asserts": AssertionError(),
    "imports": ImportError("no triton"),
    "compiler": subprocess.CalledProcessError(1, ["gcc", "main.c"]),
    "memory": torch.OutOfMemoryError("CUDA out of memory"),
    "device": torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
}
if find_spec("triton"):
    from triton.compiler.errors import CompilationError
    from triton.runtime.errors import OutOfResources, PTXASError

    ERRORS |= {
        "kernel": CompilationError("x", ast.parse("x").body[0], "no such type"),
        "resources": OutOfResources(300_000, 232_448, "shared memory"),
        "ptxas": PTXASError("unknown register"),
    }


def trial(block: Callable[[int, int], nn.Module] = Basic, width: int = 2, **options: Any) -> Trial:
    torch.manual_seed(0)
    settings = {"device": CPU, "precision": "32-true", "batch_size": 4, **options}
    return Trial(SampleCNN(block, tags=3, width=width), **settings)


class Faulty(Basic):
    """A block that misbehaves where the stem is a matrix product, as far as a block can tell."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.fault = "raises"
        self.calls = 0

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
            case "late":  # in the last turns, when it is proven
                self.calls += 1
                if self.calls == 3:
                    raise FileNotFoundError("no C compiler\nsecond line")
                return super().forward(x)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
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
        if self.fault in ERRORS:
            raise ERRORS[self.fault]
        return super().forward(x).square()


def faulty(fault: str, **options: Any) -> Trial:
    made = trial(Faulty, **options)
    made.network.blocks[0].fault = fault  # type: ignore[union-attr,index]
    return made


def of_others(name: str, device: torch.device = CPU, precision: str = "bf16-mixed") -> Trial:
    """Return a trial of one of the field's other networks."""
    torch.manual_seed(0)
    return Trial(NETWORKS[name](tags=3), device, precision, 2)
