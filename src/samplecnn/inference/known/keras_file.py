"""The arrays in an HDF5 file of Keras, read in a child process (`keras_hdf5.py`).

The HDF5 library may crash on a file that is untrusted.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from samplecnn.errors import require_libraries
from samplecnn.inference.known import keras_hdf5
from samplecnn.runs.errors import RunError
from samplecnn.text import printable

MAX_FILE = 2 << 30  # bytes; the authors' have about 100 MB, with the optimiser's state 200 MB
SECONDS = 300.0  # for reading a file


def read_arrays(path: Path, *, seconds: float = SECONDS) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the arrays of a file by "layer/weight", and its metadata; see ``keras_hdf5.read``.

    Raises RunError for a file that is damaged, or takes longer than ``seconds``.
    """
    require_libraries("keras", "h5py")
    if (size := path.stat().st_size) > MAX_FILE:
        raise RunError(f"{path} has {size:,} bytes; files of up to {MAX_FILE:,} are read")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "arrays.safetensors"
        _run_child(path, out, seconds)
        try:
            with safe_open(out, "pt") as file:
                metadata = file.metadata()
                json.loads(metadata["layers"])
                return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
        except (SafetensorError, ValueError, LookupError, TypeError) as error:
            raise RunError(
                f"{path} made the process that read it answer nonsense: do not trust it"
            ) from error


def _run_child(path: Path, out: Path, seconds: float) -> None:
    # Isolated from the user's Python settings; threads and plugins would only cost address space, and trust.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "HDF5_PLUGIN_PRELOAD": "::"}
    command = [sys.executable, "-I", "-B", keras_hdf5.__file__, str(path.resolve()), str(out)]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RunError(
            f"{path} could not be read within {seconds:g} s: it is damaged, or was made to do that"
        ) from error
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise RunError(f"{path} is damaged, or was made to do that: the HDF5 library died of it ({name})")
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise RunError(f"{path} cannot be read as weights of Keras: {printable(reason[-1])[:500]}")
