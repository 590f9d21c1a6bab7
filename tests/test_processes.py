"""Processes that are started by processes."""

import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile

from samplecnn.data.audio import DecoderProcess
from samplecnn.processes import ctrl_c_waits


def rate_of(path: Path) -> int:
    with DecoderProcess() as process, process.open(path) as decoder:
        assert sum(map(len, decoder)) == 1000
        return decoder.rate


def test_workers_of_joblib_start_others(tmp_path: Path) -> None:
    """As jobs of `hydra/launcher=local` do: joblib has a way of its own to start processes."""
    joblib = pytest.importorskip("joblib")
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.zeros(1000), 16_000)
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(rate_of)(path) for _ in range(2)) == [16_000] * 2


def test_ctrl_c_is_heard_at_the_end() -> None:
    done = []

    def work() -> None:
        with ctrl_c_waits():
            signal.raise_signal(signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done
    with pytest.raises(KeyboardInterrupt):  # and after it at once again
        signal.raise_signal(signal.SIGINT)
