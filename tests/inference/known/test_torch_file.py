"""Files of torch.save, sound and hostile: tensors come out, or a sentence; nothing is run."""

import contextlib
import os
import pickle
import random
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from samplecnn.inference.known import torch_file
from samplecnn.inference.known.pickled import MAX_BYTES
from samplecnn.inference.known.torch_file import read_tensors
from samplecnn.runs.errors import RunError

both_formats = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
START = pickle.dumps(torch_file.MAGIC, 2) + pickle.dumps(torch_file.VERSION, 2)
MACHINE = pickle.dumps({"little_endian": True}, 2)


def save(path: Path, content: object, *, zipped: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def old(path: Path, pickled: bytes, rest: bytes = b"") -> Path:
    """An old file around a pickle made by hand."""
    path.write_bytes(START + MACHINE + pickled + rest)
    return path


def refused(path: Path, words: str) -> None:
    with pytest.raises(RunError, match=words) as caught:
        read_tensors(path)
    assert str(caught.value).startswith(f"{path} ")
    assert str(caught.value).isprintable()


@both_formats
def test_tensors_of_all_kinds(tmp_path: Path, zipped: bool) -> None:
    shared = torch.randn(100)
    layer = torch.nn.Linear(3, 4)
    weights = OrderedDict(
        plain=torch.randn(2, 3),
        turned=torch.randn(3, 4).T,
        every_other=torch.arange(12.0).reshape(3, 4)[::2, 1::2],
        first=shared[:50],
        second=shared[50:].reshape(5, 10),
        spread=torch.ones(1).expand(1, 1),
        scalar=torch.tensor(7),
        whole=torch.arange(5),
        double=torch.randn(2, dtype=torch.float64),
        empty=torch.empty(0),
        parameter=layer.weight,
    )
    read = read_tensors(save(tmp_path / "w.pth", weights, zipped=zipped))
    assert list(read) == list(weights)
    for name, tensor in weights.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor), name
        assert not read[name].requires_grad


@both_formats
def test_a_module_s_weights_and_a_checkpoint(tmp_path: Path, zipped: bool) -> None:
    """A checkpoint holds much that has a class of its own; the weights in it are all that is wanted."""
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.GRU(2, 2))
    optimiser = torch.optim.Adam(network.parameters())
    checkpoint = {
        "epoch": 3,
        "path": Path("somewhere"),
        "state_dict": network.state_dict(),
        "optimizer_states": [optimiser.state_dict()],
        "callbacks": {Path: {"best": 0.5, "seen": {1, 2}}},
    }
    for content in (network.state_dict(), checkpoint):
        read = read_tensors(save(tmp_path / "w.pth", content, zipped=zipped))
        assert list(read) == list(network.state_dict())
        for name, tensor in network.state_dict().items():
            assert torch.equal(read[name], tensor)


class Bomb:
    """What unpickling runs."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.trace),)


@both_formats
def test_nothing_is_run(tmp_path: Path, zipped: bool) -> None:
    trace = tmp_path / "trace"
    bomb = Bomb(trace)
    for content, words in (
        (bomb, r"it holds an object of '(posix|nt)\.mkdir'"),
        ({"w": torch.ones(2), "b": bomb}, r"'b' is an object of '(posix|nt)\.mkdir', not a tensor"),
        ({"state_dict": {"w": bomb}}, "'w' is an object"),
        ([torch.ones(2), bomb], "it holds a list"),
        (torch.nn.Linear(2, 2), r"it holds an object of 'torch\.nn\.modules\.linear\.Linear'"),
    ):
        path = save(tmp_path / "w.pth", content, zipped=zipped)
        refused(path, words)
        assert not trace.exists()
    torch.load(save(tmp_path / "w.pth", bomb, zipped=zipped), weights_only=False)
    assert trace.exists()  # it was no dud


@both_formats
def test_cut_files(tmp_path: Path, zipped: bool) -> None:
    path = save(tmp_path / "w.pth", {"a": torch.randn(20, 30), "b": torch.randn(7)}, zipped=zipped)
    whole = path.read_bytes()
    for length in [0, 1, 2, 10, 60, *range(100, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        refused(path, "cannot be read as weights of PyTorch")


@both_formats
def test_any_bytes_end_in_tensors_or_a_sentence(tmp_path: Path, zipped: bool) -> None:
    path = save(tmp_path / "w.pth", OrderedDict(a=torch.randn(3, 4).T, b=torch.tensor(1)), zipped=zipped)
    whole = path.read_bytes()
    chance = random.Random(0)
    for _ in range(500):
        changed = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 5])):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        path.write_bytes(changed)
        with contextlib.suppress(RunError):
            read_tensors(path)


@both_formats
def test_types_that_are_not_read(tmp_path: Path, zipped: bool) -> None:
    path = save(tmp_path / "w.pth", {"a": torch.ones(2, dtype=torch.bfloat16)}, zipped=zipped)
    refused(path, r"it has values of type torch\.BFloat16Storage; known are torch\.FloatStorage")


def storage(key: str, count: int) -> bytes:
    """Opcodes for values in a row."""
    return (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        + b"X" + struct.pack("<I", len(key)) + key.encode()
        + b"X\x03\x00\x00\x00cpu\x8a\x08" + struct.pack("<q", count) + b"NtQ"
    )  # fmt: skip


def tensor(key: str, count: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    """Opcodes for one tensor."""

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"

    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage(key, count)
        + numbers((offset,))[1:-1]
        + numbers(shape)
        + numbers(strides)
        + b"\x89}tR"
    )


def state(*tensors: bytes) -> bytes:
    """A pickle of tensors named a, b, ..."""
    items = b"".join(b"X\x01\x00\x00\x00" + bytes([97 + i]) + code for i, code in enumerate(tensors))
    return b"\x80\x02}(" + items + b"u."


def values(*keys: str, count: int = 4) -> bytes:
    data = struct.pack("<q", count) + struct.pack(f"<{count}f", *range(count))
    return pickle.dumps(list(keys), 2) + data * len(keys)


def test_a_file_made_by_hand(tmp_path: Path) -> None:
    path = old(tmp_path / "w.pth", state(tensor("k", 4, (2, 2), (1, 2))), values("k"))
    assert read_tensors(path)["a"].tolist() == [[0, 2], [1, 3]]


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "words"),
    [
        ((5,), (1,), 0, "a tensor lies outside its values"),
        ((2,), (4,), 0, "outside its values"),
        ((4,), (1,), 1, "outside its values"),
        ((10**12, 10**5), (0, 0), 0, "outside its values"),
        ((-2, -2), (1, 1), 0, "no whole number"),
        ((2,), (-1,), 1, "no whole number"),
        ((1,), (1,), -1, "no whole number"),
        ((2, 2), (1,), 0, "2 dimensions and 1 strides"),
        ((1,) * 9, (1,) * 9, 0, "9 dimensions"),
        ((1,), (2**62,), 0, None),
        ((0, 2**62, 2**62), (1, 1, 1), 0, "damaged"),
    ],
)
def test_places_outside_the_values(
    tmp_path: Path, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, words: str | None
) -> None:
    path = old(tmp_path / "w.pth", state(tensor("k", 4, shape, strides, offset)), values("k"))
    if words is None:
        assert read_tensors(path)["a"].tolist() == [0]
    else:
        refused(path, words)


def test_sizes_that_are_not_there(tmp_path: Path) -> None:
    """Nothing of a size that a file only claims is ever allocated."""
    path = tmp_path / "w.pth"
    huge = 2**60
    refused(old(path, state(tensor("k", huge, (huge,), (1,))), values("k")), "truncated")
    refused(old(path, state(tensor("k", 4, (4,), (1,))), values("k", count=5)), "truncated")
    refused(
        old(path, state(tensor("k", 4, (4,), (1,)), tensor("k", 9, (4,), (1,)))), "storage k has two sizes"
    )
    refused(old(path, state(tensor("k", 4, (4,), (1,))), values("other")), "damaged")
    refused(old(path, state(tensor("k", -1, (0,), (1,))), values("k")), "a way of its own")
    many = [tensor("k", 4, (4,), (1,)) for _ in range(26)]
    assert len(read_tensors(old(path, state(*many), values("k")))) == 26


def test_shared_values_are_counted_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_file, "MAX_FILE", 2_000)
    many = [tensor("k", 200, (200,), (1,)) for _ in range(3)]
    path = old(tmp_path / "w.pth", state(*many), values("k", count=200))
    refused(path, "its tensors share values")
    path.write_bytes(path.read_bytes() + bytes(2_000))
    refused(path, "more than 0 MiB: not a network that is known")


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (b"\x80\x02" + b"}" * (MAX_BYTES + 10) + b".", "has more than 256 KiB"),
        (b"\x80\x02)" + b"\x85" * 200_000 + b".", "it holds a tuple"),
        (b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.", "it holds a dict"),  # such a key has no safe hash
        (b"\x80\x02]q\x00h\x00a.", "it holds a list, not"),  # in itself
        (b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.", "'a' is a dict"),
        (b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.", r"an object of 'os\.system'"),
        (b"(cos\nsystem\nX\x02\x00\x00\x00lso.", "the opcode OBJ, which weights do not need"),
        (b"(S'ls'\nios\nsystem\n.", "the opcode"),
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "end in the middle|damaged|holds"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "not enough data"),
        (b"\x80\x02X\xff\xff\xff\x7fa.", "expected 2147483647 bytes"),
        (b"\x80\x02h\x05.", "damaged"),
        (b"\x80\x02t.", "damaged"),
        (b"\x80\x02.", "damaged"),
        (b"\x80\x02R.", "damaged"),
        (b"\x80\x02Q.", "damaged"),
        (b"\x80\x02NQ.", "damaged"),
        (b"\x80\x02}Ns.", "damaged"),
        (b"\x80\x02}.", "it holds a dict, not weights by name"),
        (b"\x80\x02c\x1b[2J\nx\n.", r"it holds an object of '\\x1b\[2J\.x'"),
    ],
)
def test_hostile_pickles(tmp_path: Path, pickled: bytes, words: str) -> None:
    refused(old(tmp_path / "w.pth", pickled, values("k")), words)
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr("x/data.pkl", pickled)
    refused(tmp_path / "w.zip", words)


def test_hostile_archives(tmp_path: Path) -> None:
    path = tmp_path / "w.zip"

    def archive(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
        with zipfile.ZipFile(path, "w", compression) as opened:
            for name, data in files.items():
                opened.writestr(name, data)
        return path

    good = state(tensor("0", 4, (4,), (1,)))
    data = struct.pack("<4f", 1, 2, 3, 4)
    assert read_tensors(archive({"m/data.pkl": good, "m/data/0": data}))["a"].tolist() == [1, 2, 3, 4]
    refused(archive({"m/data.pkl": good}), "it is damaged")
    refused(archive({"m/data.pkl": good, "m/data/0": data[:-1]}), "storage 0 has 15 bytes, not 4 values")
    refused(archive({"m/data.pkl": good, "m/data/0": data, "m/byteorder": b"big"}), "big-endian")
    refused(archive({"other": data}), "no data.pkl")
    refused(
        archive({"m/data.pkl": good, "m/data/0": data}, zipfile.ZIP_DEFLATED), "the archive is compressed"
    )
    outside = state(tensor("../../../etc/passwd", 4, (4,), (1,)))
    refused(archive({"m/data.pkl": outside}), "it is damaged")
    with zipfile.ZipFile(path, "w") as opened:  # an entry within another: read as often as it is named
        opened.writestr("m/data.pkl", good)
        inner, values = zipfile.ZipInfo("m/data/0"), bytes(4000)
        inner.file_size = inner.compress_size = len(values)
        inner.CRC = zlib.crc32(values)
        opened.writestr("m/data/1", inner.FileHeader() + values)
        outer = opened.getinfo("m/data/1")
        inner.header_offset = outer.header_offset + len(outer.FileHeader())
        opened.filelist.append(inner)
    refused(path, "says it holds more than it can")


def test_files_of_other_kinds(tmp_path: Path) -> None:
    for name, content in (
        ("model.hdf5", b"\x89HDF\r\n\x1a\n" + bytes(500)),
        ("song.mp3", b"ID3\x04" + bytes(500)),
        ("notes.txt", b"plain words\n"),
        ("empty.pth", b""),
        ("plain.pkl", pickle.dumps({"a": 1})),
    ):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "cannot be read as weights of PyTorch")
    with pytest.raises(OSError, match="missing"):
        read_tensors(tmp_path / "missing.pth")
    big = pickle.dumps({"little_endian": False}, 2)
    (tmp_path / "big.pth").write_bytes(START + big + state())
    refused(tmp_path / "big.pth", "big-endian")
