"""Training on the Triton backend is the same function as on the plain one, for every block."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from samplecnn.model.blocks import BLOCKS

pytest.importorskip("triton")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", BLOCKS)
def test_training_is_the_same(kind: str) -> None:
    # The interpreter has to be chosen before Triton is imported, and changes it for good.
    where = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    result = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("triton_network.py")), kind],
        env={**os.environ, **where},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    name, difference = result.stdout.split()
    assert name == kind
    assert float(difference) < 1e-9
