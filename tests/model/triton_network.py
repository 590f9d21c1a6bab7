"""Whole networks on the Triton backend against the plain one; run by test_triton_network.py.

    TRITON_INTERPRET=1 python tests/model/triton_network.py se rese2

Runs on a GPU if there is one, else in Triton's interpreter. Prints the largest difference of loss, gradients
and running statistics, relative to the largest entry of each, in float64.
"""

import inspect
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path[:0] = [str(Path(__file__).parents[2] / folder) for folder in ("src", "tests")]
from golden.reference import narrow  # noqa: E402
from samplecnn.model.blocks import BLOCKS  # noqa: E402
from samplecnn.model.network import SEGMENT_SAMPLES, SampleCNN  # noqa: E402
from samplecnn.model.norm import BatchNorm  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def patch_interpreter() -> None:
    """Triton 3.6's interpreter turns arrays of one value into int, which NumPy 2.4 refuses: put it right."""
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched


if os.environ.get("TRITON_INTERPRET") == "1":
    patch_interpreter()


def run_checks(marks: str, file: str) -> None:
    """Run the functions ``check_*`` of a file in a process of its own, which imports Triton its own way."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", marks, "--timeout=3000"]
    command += ["-p", "no:cacheprovider", "-p", "no:benchmark"]  # that plugin warns within xdist
    command += ["-o", "python_functions=check_*", file]
    where = {} if DEVICE == "cuda" else {"TRITON_INTERPRET": "1"}
    result = subprocess.run(command, env={**os.environ, **where}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr[-2_000:]


def network(kind: str) -> SampleCNN:
    torch.manual_seed(0)
    options = narrow(kind)
    if "dropout" in inspect.signature(BLOCKS[kind]).parameters:
        options["dropout"] = 0.0  # its draws are its own on this backend
    made = SampleCNN(partial(BLOCKS[kind], **options), tags=5, width=4, dropout=0.0)
    for module in made.modules():
        if isinstance(module, BatchNorm):
            nn.init.uniform_(module.weight, -0.5, 2)
            nn.init.normal_(module.bias)
    return made.to(DEVICE, torch.float64).train()


def step(kind: str, backend: str) -> dict[str, Tensor]:
    made = network(kind)
    made.use(backend)
    generator = torch.Generator().manual_seed(1)
    waveforms = torch.rand(3, SEGMENT_SAMPLES, generator=generator, dtype=torch.float64) - 0.4
    logits = made(waveforms.to(DEVICE))
    loss = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, 0.25))
    loss.backward()
    gradients = {name: p.grad for name, p in made.named_parameters() if p.grad is not None}
    statistics = {name: b for name, b in made.named_buffers() if "running" in name}
    return {"loss": loss.detach(), **gradients, **statistics}


def difference(kind: str) -> float:
    plain, fused = step(kind, "plain"), step(kind, "triton")
    assert plain.keys() == fused.keys()
    return max(
        ((fused[name] - value).abs().max() / value.abs().max().clamp(min=1e-3)).item()
        for name, value in plain.items()
    )


if __name__ == "__main__":
    for kind in sys.argv[1:]:
        print(kind, difference(kind))
