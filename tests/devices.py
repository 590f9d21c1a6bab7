"""The devices that tests run on: the CPU, and a GPU where there is one."""

import pytest
import torch

from samplecnn.model.network import backends

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = pytest.param("cuda", marks=GPU)
DEVICES = pytest.mark.parametrize("device", ["cpu", CUDA])
# Every backend on the device that it is for.
BACKENDS = pytest.mark.parametrize(
    ("device", "backend"),
    [("cpu", backend) for backend in backends("cpu")]
    + [pytest.param("cuda", backend, marks=GPU) for backend in backends("cuda")],
)
