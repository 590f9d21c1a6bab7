"""Archives of NumPy arrays: those of Musicnn alone are taken, nothing is unpickled."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from samplecnn.inference.known import pons
from samplecnn.inference.known.pons import convert_npz, is_npz, read_npz, their_name
from samplecnn.model.networks.musicnn import Musicnn
from samplecnn.runs.errors import RunError


def arrays() -> dict[str, np.ndarray]:
    """Random arrays of the shapes that TensorFlow has them in."""
    made = {}
    for name, weight in Musicnn(tags=3, original=True, mid=8, dense=5).state_dict().items():
        if (there := their_name(name)) is not None:
            value = weight.numpy()
            if name.startswith("mid.") and value.ndim == 4:
                value = value.transpose(3, 1, 2, 0)  # (time, in, 1, out)
            else:
                value = value.transpose()
            made[there] = np.ascontiguousarray(value)
    return made


def write(path: Path, content: dict[str, np.ndarray]) -> Path:
    np.savez(path, **content)  # type: ignore[arg-type]
    return path


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


def test_sizes_are_recognised(tmp_path: Path) -> None:
    path = write(tmp_path / "w.npz", arrays())
    assert is_npz(path)
    model = convert_npz(path)
    assert model.architecture["model"] == {"name": "musicnn", "original": True, "mid": 8, "dense": 5}
    assert (model.network.tags, model.network.sample_rate, model.network.segment_samples) == (
        3,
        16_000,
        48_000,
    )
    with torch.no_grad():
        assert model.network(torch.zeros(2, 48_000)).shape == (2, 3)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    whole = arrays()
    for changes, words in (
        ({"dense/kernel": None}, "lacks weights of the network: 'dense/kernel'"),
        ({"conv2d_9/kernel": np.ones(1, np.float32)}, "has weights that the network does not have"),
        (
            {"conv2d/kernel": np.ones((7, 38, 1, 9), np.float32)},
            r"'conv2d/kernel' with shape \[9, 1, 38, 7\]",
        ),
        ({"dense_1/bias": np.ones(0, np.float32)}, "has 0 outputs of 'dense_1/bias'"),
        ({"dense_1/bias": np.array([1, np.nan, 0], np.float32)}, "NaN or infinite weights in 'dense_1/bias'"),
        (
            {"batch_normalization/moving_variance": np.array([-1], np.float32)},
            "negative variance in 'batch_normalization/moving_variance'",
        ),
    ):
        content = {name: value for name, value in {**whole, **changes}.items() if value is not None}
        path = write(tmp_path / "w.npz", content)
        with pytest.raises(RunError, match=words) as caught:
            convert_npz(path)
        assert str(caught.value).startswith(str(path))


def test_archives_that_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = npy(np.ones(3, np.float32))
    path = tmp_path / "w.npz"
    assert read_npz(zipped(path, a=good))["a"].tolist() == [1, 1, 1]
    claimed = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**10,)}
    np.lib.format.write_array_header_1_0(claimed, header)
    for data in (
        b"",
        good[:20],
        good[:-1],
        claimed.getvalue() + bytes(12),
        npy(np.ones(3)),
        npy(np.array([{}], object)),
        npy(np.array(["x"])),
        good.replace(b"{'descr'", b"{exit(1)"),
    ):
        with pytest.raises(RunError, match=r"w\.npz cannot be read as arrays of NumPy: it is damaged"):
            read_npz(zipped(path, a=good, b=data))
    for way in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):  # their libraries raise what others do not
        with zipfile.ZipFile(path, "w", way) as archive:
            archive.writestr("a.npy", good)
        with pytest.raises(RunError, match=r"it is damaged \(it is packed otherwise than by NumPy"):
            read_npz(path)
    whole = zipped(path, a=good).read_bytes()
    path.write_bytes(whole[:40])
    assert not is_npz(path)
    monkeypatch.setattr(pons, "MAX_FILE", 100)
    with pytest.raises(RunError, match=r"unpacks to [0-9,]+ bytes, more than 100"):
        read_npz(zipped(path, a=good))


def test_other_archives_are_no_arrays(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pth")
    assert not is_npz(tmp_path / "w.pth")
    assert not is_npz(Path(__file__))
