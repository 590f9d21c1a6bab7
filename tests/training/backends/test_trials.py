"""What a fault of one backend costs: itself, however it comes about."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from samplecnn.model.network import STEM
from samplecnn.training.backends import trials
from samplecnn.training.backends.proof import PLAIN_PLAN, Plan
from samplecnn.training.backends.trials import Finding, examine
from training.backends.faulty import ERRORS, faulty


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raises", "FileNotFoundError: no C compiler"),
        ("late", "FileNotFoundError: no C compiler"),
        *((fault, type(error).__name__) for fault, error in ERRORS.items()),
        ("nan", "computes something else (32-true): loss is off by inf of its norm; 1.0e-02 is allowed"),
        ("wrong", "computes something else (32-true)"),
    ],
)
def test_a_fault_costs_one_backend(fault: str, reason: str) -> None:
    sent: list[Any] = []
    trials._try_all(faulty(fault), [Plan(STEM), PLAIN_PLAN], sent.append)
    failed, plain = (message for message in sent if isinstance(message, Finding))
    assert (failed.failure or "").startswith(reason)
    assert failed.plan == Plan(STEM)
    assert plain.failure is None
    assert plain.rate > 0


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("aborts", "ends its process (exit status -6)"),
        ("killed", "ends its process (exit status -9)"),
        ("hangs", "takes more than 8 s"),
    ],
)
def test_a_fault_that_ends_or_holds_up_the_process(
    fault: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trials.PATIENCE, "cpu", 8.0 if fault == "hangs" else 120.0)
    failed, plain = examine(faulty(fault), [Plan(STEM), PLAIN_PLAN])
    assert failed.failure == reason
    assert plain.failure is None
    assert plain.rate > 0


def test_a_process_that_tries_ends_by_itself() -> None:
    code = (
        "from training.backends.faulty import faulty; from samplecnn.training.backends.proof import Plan; "
        "from samplecnn.training.backends.trials import examine; examine(faulty('locks'), [Plan('stem')])"
    )
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    own = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True)
    assert done.stderr == ""  # nothing is leaked
