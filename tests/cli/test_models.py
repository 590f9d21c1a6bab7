"""The music that ``samplecnn export --int8`` is calibrated on."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from inference.models import description
from samplecnn.cli import parser
from samplecnn.cli.models import CALIBRATION, calibration_music
from samplecnn.model.network import SEGMENT_SAMPLES
from samplecnn.runs.description import Description


@pytest.mark.parametrize(("files", "seconds", "each"), [(25, 27, 8), (3, 6, 2), (1, 540, 200), (201, 1, 1)])
def test_it_is_of_all_files_alike(tmp_path: Path, files: int, seconds: int, each: int) -> None:
    for number in range(files):
        level = np.full(seconds * 22_050, 1 + number, dtype=np.int16)
        soundfile.write(tmp_path / f"{number:03}.wav", level, 22_050)
    options = parser().parse_args(["export", "run", "out", "--calibrate", str(tmp_path)])
    segments, recordings = calibration_music(options, Description.read(description(), "made"))
    heard = np.arange(0, files, 1 if files <= CALIBRATION else 2)
    assert segments.shape == (len(heard) * each, SEGMENT_SAMPLES)
    assert recordings.tolist() == np.repeat(np.arange(len(heard)), each).tolist()
    assert (segments[:, 0] * 32768).tolist() == np.repeat(1 + heard, each).tolist()
