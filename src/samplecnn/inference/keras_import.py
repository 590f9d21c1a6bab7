"""The weights that the paper's authors published, as a model of ours.

Their repository (tae-jun/resemul) has `se-multi-auc_0.9111-tfrmodel.hdf5` and
`rese-multi-auc_0.9113-tfrmodel.hdf5`, written by Keras 2.0.5. Block, multi-level aggregation, width and
amplifying ratio are recognised from the shapes. The file is read in a child process (`keras_hdf5.py`),
because the HDF5 library may crash on one that is untrusted.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.numpy
import torch
from safetensors import SafetensorError

from samplecnn.inference import keras_hdf5
from samplecnn.inference.keras_layers import Arrays, KerasError, describe, our_weights
from samplecnn.model.architecture import build
from samplecnn.runs.description import Description
from samplecnn.runs.folder import Model
from samplecnn.runs.untrusted import strict_json
from samplecnn.text import printable

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_FILE = 2 << 30  # bytes; theirs have about 100 MB, with the optimiser's state 200 MB
SECONDS = 300.0  # for reading a file
SAMPLE_RATE = 22_050  # Hz

# The network's outputs: MagnaTagATune's 50 most frequent tags, the rarest first. The list of the authors'
# repository (data/preprocessing/annotation_processing.py), which also settles the three pairs of equally
# frequent tags.
AUTHORS_TAGS = tuple(
    """
    choral, female voice, metal, country, weird, no voice, cello, harp, beats, female vocal,
    male voice, dance, new age, voice, choir, classic, man, solo, sitar, soft,
    pop, no vocal, male vocal, woman, flute, quiet, loud, harpsichord, no vocals, vocals,
    singing, male, opera, indian, female, synth, vocal, violin, beat, ambient,
    piano, fast, rock, electronic, drums, strings, techno, slow, classical, guitar
    """.replace("\n    ", " ")
    .strip()
    .split(", ")
)


def import_keras(path: Path, tags: Sequence[str] | None = None, *, seconds: float = SECONDS) -> Model:
    """Return the model in a Keras HDF5 file.

    ``tags`` names the outputs, in their order; by default they are MagnaTagATune's in the authors' order.
    Raises KerasError for a file that is damaged, takes longer than ``seconds``, or is of another
    network, and where another number of tags is needed.
    """
    arrays, metadata = read_arrays(path, seconds=seconds)
    return make_model(path, arrays, metadata, tags)


def make_model(
    path: Path, arrays: Arrays, metadata: Mapping[str, str], tags: Sequence[str] | None = None
) -> Model:
    """Return the model of what ``read_arrays`` has read from ``path``; see ``import_keras``."""
    recognised = describe(path, arrays, metadata)
    names = AUTHORS_TAGS if tags is None else tuple(tags)
    if len(names) != recognised.outputs:
        raise KerasError(
            f"{path} has {recognised.outputs} outputs, but {len(names)} tags were named: "
            "name all, in their order"
        )
    description = Description(
        **recognised.architecture,
        tags=names,
        sample_rate=SAMPLE_RATE,
        data="mtat" if tags is None else "unknown",
        split="clean" if tags is None else "unknown",
    )
    with torch.device("meta"):
        network = build(description.as_dict(), len(names))
    network.load_state_dict(our_weights(path, arrays, recognised, network.state_dict()), assign=True)
    network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return Model(network, description, path)


def read_arrays(path: Path, *, seconds: float = SECONDS) -> tuple[Arrays, dict[str, str]]:
    """Return the arrays of a file by "layer/weight", and its metadata; see ``keras_hdf5.read``."""
    _check_file(path)
    require_h5py()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "arrays.safetensors"
        _run_child(path, out, seconds)
        data = out.read_bytes()
    try:
        arrays = safetensors.numpy.load(data)
        table = strict_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = {str(key): str(value) for key, value in table["__metadata__"].items()}
        json.loads(metadata["layers"])
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise KerasError(f"{path} made the process that read it answer nonsense: do not trust it") from error
    return arrays, metadata


def require_h5py() -> None:
    """Raise KerasError where the library that reads HDF5 is not installed."""
    if importlib.util.find_spec("h5py") is None:
        raise KerasError('h5py is not installed: pip install "samplecnn[keras]"')


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise KerasError(f"there is no file {path}" if not path.exists() else f"{path} is no regular file")
    size = path.stat().st_size
    if size > MAX_FILE:
        raise KerasError(f"{path} has {size:,} bytes; files of up to {MAX_FILE:,} are read")
    with path.open("rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            raise KerasError(f"{path} is not an HDF5 file")


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
        raise KerasError(
            f"{path} could not be read within {seconds:g} s: it is damaged, or was made to do that"
        ) from error
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise KerasError(f"{path} is damaged, or was made to do that: the HDF5 library died of it ({name})")
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise KerasError(f"{path} cannot be read as weights of Keras: {printable(reason[-1])[:500]}")
