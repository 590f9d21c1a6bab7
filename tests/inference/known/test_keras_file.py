"""Damaged, foreign and hostile HDF5 files end in an error that says what is wrong, and in nothing else."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from inference.keras_files import KERAS
from inference.known.files import keras_here
from samplecnn.inference.known import keras_hdf5
from samplecnn.inference.known.importing import import_file
from samplecnn.inference.known.keras_file import read_arrays
from samplecnn.runs.errors import RunError

SE = KERAS / "se-multi-narrow.hdf5"
KERNEL = "model_weights/conv1d_3/conv1d_3/kernel:0"
SECRET = b"\x00\x00\x80\x3f" * 192  # of a file that is none of the model's business


def changed(path: Path, change: Callable[[h5py.File], None]) -> Path:
    shutil.copyfile(SE, path)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def refused(path: Path, words: str) -> None:
    with pytest.raises(RunError, match=words) as caught:
        import_file(path)
    assert path.name in str(caught.value)
    assert str(caught.value).isprintable()


def refused_here(path: Path, words: str) -> None:
    """The same in this process, which saves the start of another."""
    with pytest.raises((keras_hdf5.RefusedError, RunError), match=words):
        keras_here(path)


def replace(file: h5py.File, name: str, **options: object) -> None:
    del file[name]
    file.create_dataset(name, **options)


def external_link(file: h5py.File) -> None:
    del file["model_weights/conv1d_3"]
    file["model_weights/conv1d_3"] = h5py.ExternalLink(str(SE), "model_weights/conv1d_3")


def soft_link(file: h5py.File) -> None:
    del file[KERNEL]
    file[KERNEL] = h5py.SoftLink("/model_weights/conv1d_4/conv1d_4/kernel:0")


def external_data(file: h5py.File) -> None:
    secret = Path(file.filename).with_name("secret")
    secret.write_bytes(SECRET)
    replace(file, KERNEL, shape=(3, 8, 8), dtype="f4", external=[(str(secret), 0, len(SECRET))])


def virtual_data(file: h5py.File) -> None:
    del file[KERNEL]
    layout = h5py.VirtualLayout(shape=(3, 8, 8), dtype="f4")
    layout[...] = h5py.VirtualSource(str(SE), KERNEL, shape=(3, 8, 8))
    file.create_virtual_dataset(KERNEL, layout)


def bomb(file: h5py.File) -> None:
    """A few kilobytes that would unpack to 48 MiB."""
    replace(file, KERNEL, data=np.zeros((3, 1 << 10, 1 << 12), "f4"), compression="gzip")


def giant(file: h5py.File) -> None:
    """A shape of half a terabyte, and no data."""
    replace(file, KERNEL, shape=(1 << 13, 1 << 12, 1 << 12), dtype="f4")


def other_layer(file: h5py.File) -> None:
    group = file["model_weights"]
    names = [*group.attrs["layer_names"], b"lstm_1"]
    group.attrs["layer_names"] = np.array(names)
    group.create_dataset("lstm_1/lstm_1/kernel:0", data=np.zeros((3, 4), "f4"))
    group["lstm_1"].attrs["weight_names"] = np.array([b"lstm_1/kernel:0"])


def average_pooling(file: h5py.File) -> None:
    group = file["model_weights"]
    names = [name.replace(b"max_pooling1d_3", b"average_pooling1d_1") for name in group.attrs["layer_names"]]
    names = [name.replace(b"global_average_pooling1d_1", b"global_max_pooling1d_3") for name in names]
    group.move("max_pooling1d_3", "average_pooling1d_1")
    group.attrs["layer_names"] = np.array(list(dict.fromkeys(names)))


def nan(file: h5py.File) -> None:
    file[KERNEL][0, 0, 0] = np.nan


def negative_variance(file: h5py.File) -> None:
    file["model_weights/batch_normalization_2/batch_normalization_2/moving_variance:0"][0] = -1


def epsilon(file: h5py.File) -> None:
    file.attrs["model_config"] = file.attrs["model_config"].replace('"epsilon": 0.001', '"epsilon": 1e-05', 1)


def backend(file: h5py.File) -> None:
    file.attrs["backend"] = "theano"


def keras_3(file: h5py.File) -> None:
    file.attrs["keras_version"] = "3.8.0"


def escape(file: h5py.File) -> None:
    group = file["model_weights/conv1d_3"]
    group.attrs["weight_names"] = np.array([b"../conv1d_4/conv1d_4/kernel:0", b"conv1d_3/bias:0"])


def terminal_codes(file: h5py.File) -> None:
    names = file["model_weights"].attrs["layer_names"].tolist()
    file["model_weights"].attrs["layer_names"] = np.array([*names, b"\x1b[2Jlayer"])


def no_layers(file: h5py.File) -> None:
    del file["model_weights"].attrs["layer_names"]


def missing_bias(file: h5py.File) -> None:
    file["model_weights/conv1d_3"].attrs["weight_names"] = np.array([b"conv1d_3/kernel:0"])


def missing_data(file: h5py.File) -> None:
    del file[KERNEL]


def one_convolution_less(file: h5py.File) -> None:
    file["model_weights/conv1d_3"].attrs["weight_names"] = np.zeros(0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (external_link, "link that may lead out of the file"),
        (soft_link, "link that may lead out of the file"),
        (external_data, "has its data in another file"),
        (virtual_data, "chunked, compressed or virtual"),
        (bomb, "chunked, compressed or virtual"),
        (giant, r"has shape \(8192, 4096, 4096\), but not the data"),
        (lambda file: replace(file, KERNEL, data=np.zeros((3, 8, 8), "f8")), "holds float64, not float32"),
        (lambda file: replace(file, KERNEL, data=np.zeros((3, 8, 8), "i4")), "holds int32, not float32"),
        (lambda file: replace(file, KERNEL, data=["text"] * 3), "holds object, not float32"),
        (
            lambda file: replace(file, KERNEL, data=np.zeros((3, 8, 9), "f4")),
            r"with shape \[9, 8, 3\]",
        ),
        (lambda file: replace(file, KERNEL, data=np.zeros((3, 8, 8, 1), "f4")), "has 4 dimensions"),
        (
            lambda file: replace(file, KERNEL, data=np.zeros((3, 0, 8), "f4")),
            r"with shape \[8, 0, 3\]",
        ),
        (other_layer, "'lstm_1' with weights: another network"),
        (average_pooling, "another network: it has 1 layers of 'average_pooling1d'"),
        (nan, "NaN or infinite weights in 'conv1d_3/kernel'"),
        (negative_variance, "negative variance"),
        (epsilon, "batch_normalization_1 has epsilon 1e-05, the paper's 0.001"),
        (backend, "its backend is 'theano'"),
        (keras_3, "Keras '3.8.0'"),
        (escape, "which none of this network has"),
        (terminal_codes, "there is a layer named"),
        (no_layers, "no attribute 'layer_names'"),
        (missing_bias, "lacks weights of the network: 'conv1d_3/bias'"),
        (missing_data, r"'conv1d_3/kernel:0' is missing"),
        (one_convolution_less, "another network: it has 9 conv1d, 11 batch_normalization, 20 dense"),
    ],
)
def test_what_keras_does_not_write(tmp_path: Path, change: Callable[[h5py.File], None], words: str) -> None:
    refused_here(changed(tmp_path / "hostile.hdf5", change), words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (external_link, "cannot be read as weights of Keras: 'conv1d_3' is a link"),
        (terminal_codes, "cannot be read as weights of Keras: there is a layer named"),
        (average_pooling, "another network: it has 1 layers of 'average_pooling1d'"),
    ],
)
def test_what_the_user_is_told(tmp_path: Path, change: Callable[[h5py.File], None], words: str) -> None:
    refused(changed(tmp_path / "hostile.hdf5", change), words)


def test_no_hdf5_file(tmp_path: Path) -> None:
    for name, content in {"empty": b"", "text": b"not weights\n", "pickle": b"\x80\x04K\x01."}.items():
        path = tmp_path / name
        path.write_bytes(content)
        refused(path, "is not an HDF5 file|cannot be read as weights of PyTorch")
    with pytest.raises(FileNotFoundError, match="missing"):
        import_file(tmp_path / "missing")
    refused(tmp_path, "is no regular file")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is no regular file")


def test_truncated(tmp_path: Path) -> None:
    whole = SE.read_bytes()
    for size in (8, len(whole) // 2, len(whole) - 1):
        path = tmp_path / f"{size}.hdf5"
        path.write_bytes(whole[:size])
        refused(path, "cannot be read as weights of Keras")


def damage_and_read(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = np.frombuffer(SE.read_bytes(), np.uint8).copy()
    # Most of the structure lies at the beginning; what is hit in the weights themselves is none's fault.
    places = rng.integers(8, 40_000, size=rng.integers(1, 200))
    data[places] = rng.integers(0, 256, size=len(places))
    path.write_bytes(data.tobytes())
    try:
        model = import_file(path).model
    except RunError as error:
        assert str(error).isprintable()  # noqa: PT017 either is right
    else:
        assert all(tensor.isfinite().all() for tensor in model.network.parameters())


@pytest.mark.parametrize("seed", range(3))
def test_damaged_anywhere(tmp_path: Path, seed: int) -> None:
    damage_and_read(tmp_path / "damaged.hdf5", seed)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(3, 203, 50))
def test_damaged_anywhere_often(tmp_path: Path, start: int) -> None:
    for seed in range(start, start + 50):
        damage_and_read(tmp_path / "damaged.hdf5", seed)


def test_a_read_that_takes_too_long() -> None:
    with pytest.raises(RunError, match=r"could not be read within 0\.01 s"):
        read_arrays(SE, seconds=0.01)


def test_a_reader_that_dies() -> None:
    """The HDF5 library's own crash, from outside: the process that reads gets a segmentation fault."""
    here = Path(f"/proc/self/task/{threading.get_native_id()}/children")

    before = set(here.read_text().split())  # of other tests

    def kill() -> None:
        while not (children := set(here.read_text().split()) - before):
            time.sleep(0.002)
        os.kill(int(children.pop()), signal.SIGSEGV)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(RunError, match=r"the HDF5 library died of it \(SIGSEGV\)"):
        import_file(SE)
    killer.join()
