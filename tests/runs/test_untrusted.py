"""Small files from anywhere: plain values or one sentence, and nothing of this machine."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from samplecnn.runs.errors import RunError
from samplecnn.runs.untrusted import read_arrays, read_json, read_yaml


def test_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("a: {b: [1, 2.5, 1e-6, null, true, text]}\nc: 2020-01-01\nd: &d [1]\ne: *d\n")
    assert read_yaml(path) == {
        "a": {"b": [1, 2.5, 1e-6, None, True, "text"]},
        **{"c": "2020-01-01", "d": [1], "e": [1]},
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("3", "cannot be read"),
        ("- 1", "does not hold keys and values"),
        ("a: [1,", r"line 1 cannot be read"),
        ("a: !!python/object/apply:os.mkdir [executed]", "could not determine a constructor"),
        ("a: " + "[" * 5000, "more than 20 levels"),
        ("a: " + "[" * 30 + "]" * 30, "more than 20 levels"),
        ("a: &a [1]\n" + "".join(f"b{i}: &b{i} [*a, *a, *a]\n" for i in range(9)), "more than 10 aliases"),
        ("a: &a [*a]", "refers to itself"),
        ("a: &a {b: *a}", "refers to itself"),
        (
            "a: {b: '${oc.env:SAMPLECNN_SECRET}'}",
            r"a\.b='\$\{oc\.env:SAMPLECNN_SECRET\}' is an interpolation",
        ),
        ("a: [x, '${b}']", "is an interpolation"),
        ("a: '${'", "cannot be read"),
        ("a: !!binary aGVsbG8=", "a is a bytes"),
        ("1: 2", "the key 1 is not a text"),
        ("a: 1\na: 2", "found duplicate key a"),
        ("a: " + "9" * 5000, "cannot be read"),
        ("a: " + "x" * (256 << 10), "more than 256 KiB"),
    ],
)
def test_yaml_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    monkeypatch.setenv("SAMPLECNN_SECRET", "hunter2")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(RunError, match=reason) as refused:
        read_yaml(tmp_path / "config.yaml")
    assert "config.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("way", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_arrays_that_are_packed_as_numpy_does(tmp_path: Path, way: int) -> None:
    path = packed(tmp_path / "a.npz", way)
    assert read_arrays(path)["a"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="it unpacks to 152 bytes, more than 151"):
        read_arrays(path, 151)


@pytest.mark.parametrize("way", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_arrays_that_are_packed_otherwise(tmp_path: Path, way: int) -> None:
    """Whatever is in them: their decoders take any memory, and raise what others do not."""
    path = packed(tmp_path / "a.npz", way)
    with pytest.raises(ValueError, match="packed otherwise than by NumPy, stored or deflated"):
        read_arrays(path)


def packed(path: Path, way: int) -> Path:
    array = io.BytesIO()
    np.save(array, np.arange(3))
    with zipfile.ZipFile(path, "w", way) as archive:
        archive.writestr("a.npy", array.getvalue())
    return path


def test_terminal_codes_do_not_get_into_messages(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text('a: "\\e[2J${x}"')
    with pytest.raises(RunError, match="is an interpolation") as refused:
        read_yaml(tmp_path / "config.yaml")
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "[1e999]", '{"a": 1, "a": 2}', "[" * 5000])
def test_json_that_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(RunError, match=r"results\.json is not JSON, or damaged"):
        read_json(tmp_path / "results.json")


def test_json_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("[" + "1," * 1000 + "1]")
    with pytest.raises(RunError, match="more than 1 KiB"):
        read_json(tmp_path / "results.json", 1024)
