"""Damaged and hostile bundles end in an error that names the file and says what is wrong with it."""

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from inference.models import description, encode, model, network, put_weights, rewrite, table_of, with_table
from samplecnn.inference.bundle import write_bundle
from samplecnn.runs.bundle import CONFIG, WEIGHTS, read_bundle
from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import load_model, read_config


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    write_bundle(model(folder), folder / "bundle", source="made for a test", config=CONFIGURED)
    return folder / "bundle"


@pytest.fixture
def bundle(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "bundle"))


CONFIGURED: dict[str, Any] = {
    **{"block": {"name": "se"}, "multi": True, "width": 3, "dropout": 0.5, "weight_decay": 0},
    **{"seed": 0, "batch_size": 23, "fast": "auto", "schedule": {}},
    "data": {"name": "mini", "split": "clean", "top": None},
    "trainer": {"precision": "auto"},
}


def refused(folder: Path, words: str, file: str = WEIGHTS) -> None:
    with pytest.raises(RunError, match=words) as caught:
        load_model(folder)
    assert file in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"library_name": "transformers"}, "is not of a samplecnn bundle"),
        ({"format": 2}, "has format 2; this version reads 1"),
        ({"model": ...}, "model is a NoneType, not an object"),
        ({"weights": []}, r"has no weights\.sha256"),
        ({"weights__sha256": ...}, r"has no weights\.sha256"),
        ({"results": "good"}, "results is a str, not an object"),
        (
            {"model__tags": ["guitar", "guitar", "piano"]},
            "model.tags=.* must be a list of 1 to 10,000 different names",
        ),
        ({"model__tags": ["a", "b", "\x1b[2Jc"]}, "is not a printable name"),
        ({"model__tags": ["a", "b", "\ud800"]}, "is not a printable name"),
        ({"model__tags": ["a", "b", 3]}, "model.tags=.* must be a list of 1 to 10,000 different names"),
        ({"model__tags": []}, "model.tags=.* must be a list of 1 to 10,000 different names"),
        ({"model__sample_rate": 0}, r"model\.sample_rate=0 must be a whole number of 1,000 to 1,000,000 Hz"),
        ({"model__sample_rate": "22050"}, r"model\.sample_rate"),
        ({"model__format": 7}, r"has model\.format 7; this version reads 1"),
        ({"model__width": "wide"}, r"model\.width='wide' must be a whole number of at least 1"),
        ({"model__block": "se"}, r"model\.block='se' must be an object with a name"),
    ],
)
def test_configurations(bundle: Path, changes: dict[str, Any], words: str) -> None:
    rewrite(bundle, **changes)
    refused(bundle, words, CONFIG)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model__width": 4}, r"with shape \[.*\]; the network needs \["),
        ({"model__width": 10**5}, "more than 4,294,967,296"),  # and takes no memory to find out
        ({"model__width": 10**9}, "not a complete model"),
        ({"model__multi": False}, "has weights|with shape"),
        ({"model__block": {"name": "basic"}}, "has weights that the network does not have: 'blocks.0.se"),
        ({"model__block": {"name": "rese2", "alpha": 2}}, "lacks weights of the network: 'blocks.0.bn2"),
        ({"model__block": {"name": "se", "alpha": 1e300}}, "cannot be built with the options"),
        ({"model__block": {"name": "se", "alpha": -1}}, "alpha must be greater than 0"),
        ({"model__block": {"name": "os.system"}}, r"unknown block 'os\.system'"),
        ({"model__block": {"name": "se", "_target_": "os.system"}}, "cannot be built with the options"),
        ({"model__tags": ["only"]}, r"with shape \[3, 24\]; the network needs \[1, 24\]"),
        ({"weights__sha256": "0" * 64}, "is damaged or was changed: its SHA-256 is .*, and should be 0000"),
    ],
)
def test_architectures(bundle: Path, changes: dict[str, Any], words: str) -> None:
    rewrite(bundle, **changes)
    refused(bundle, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("[]", "is not of a samplecnn bundle"),
        ('{"format": 1,', "is not JSON"),
        ('{"library_name": "samplecnn", "library_name": "samplecnn"}', "'library_name' appears twice"),
        ('{"format": NaN}', "NaN is not a finite number"),
        ('{"format": 1e999}', "1e999 is not a finite number"),
        ('{"format": ' + "1" * 5000 + "}", "is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        (" " * (4 << 20) + "{}", "has more than 4 MiB"),
    ],
)
def test_json(bundle: Path, text: str, words: str) -> None:
    (bundle / CONFIG).write_text(text)
    refused(bundle, words, CONFIG)


def test_bytes_that_are_no_text(bundle: Path) -> None:
    (bundle / CONFIG).write_bytes(b'{"library_name": "\xff"}')
    refused(bundle, "is not JSON", CONFIG)


def other_weights(change: Callable[[dict[str, Tensor]], object]) -> bytes:
    weights = dict(network(description()).state_dict())
    change(weights)
    return encode(weights)


def put(name: str, make: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], object]:
    return lambda weights: weights.update({name: make(weights[name])})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            put("head_fc2.weight", lambda w: w.double()),
            r"'head_fc2.weight' of torch.float64; the network needs torch.float32",
        ),
        (put("head_fc2.weight", lambda w: w.half()), "of torch.float16; the network needs torch.float32"),
        (
            put("head_bn.num_batches_tracked", lambda n: n.int()),
            "of torch.int32; the network needs torch.int64",
        ),
        (put("head_fc2.bias", lambda b: b * torch.nan), "NaN or infinite weights in 'head_fc2.bias'"),
        (put("stem_bn.running_var", lambda v: -v), "negative variance in 'stem_bn.running_var'"),
        (put("stem_conv.weight", lambda w: w[..., :2]), r"with shape \[3, 1, 1, 2\]"),
        (lambda w: w.pop("head_fc2.weight"), "lacks weights of the network: 'head_fc2.weight'"),
        (lambda w: w.update(spy=torch.zeros(2)), "has weights that the network does not have: 'spy'"),
    ],
)
def test_weights(bundle: Path, change: Callable[[dict[str, Tensor]], object], words: str) -> None:
    put_weights(bundle, other_weights(change))
    refused(bundle, words)


def test_tables(bundle: Path) -> None:
    data = (bundle / WEIGHTS).read_bytes()
    table = table_of(data)
    first, second = table["stem_bn.bias"], table["stem_bn.weight"]
    overlap = table | {"stem_bn.bias": first | {"data_offsets": second["data_offsets"]}}
    far = table | {"stem_bn.bias": first | {"data_offsets": [1 << 60, (1 << 60) + 12]}}
    odd = table | {"stem_bn.bias": first | {"dtype": "F8_E8M0", "shape": [12]}}
    for altered in (overlap, far, odd, table | {"stem_bn.bias": 3}, [1, 2]):
        put_weights(bundle, with_table(data, json.dumps(altered).encode()))
        refused(bundle, "is not a sound safetensors file|with shape")
    put_weights(bundle, with_table(data, b"{" * 10))
    refused(bundle, "is not a sound safetensors file")
    put_weights(bundle, with_table(data, b" " * (1 << 20) + json.dumps(table).encode()))
    refused(bundle, r"has 1,\d\d\d,\d\d\d bytes: the network's weights take")


def test_files_that_are_too_short_or_too_long(bundle: Path) -> None:
    data = (bundle / WEIGHTS).read_bytes()
    (bundle / WEIGHTS).write_bytes(data[:100])
    refused(bundle, "is truncated: its SHA-256 is")
    for content in (
        *(b"", data[:7], data[:100], data[:-1], data + b"\0"),
        *(b"\xff" * 5000, b"PK\x03\x04" + b"\0" * 5000, b"\0" * 5000),
    ):
        put_weights(bundle, content)
        refused(bundle, "is not a sound safetensors file")


def test_damage_anywhere(bundle: Path) -> None:
    """A flipped bit of the weights, which are still numbers, is found by the checksum."""
    data = bytearray((bundle / WEIGHTS).read_bytes())
    rng = np.random.default_rng(0)
    for place in [*rng.integers(0, len(data), 20).tolist(), len(data) - 1]:
        damaged = data.copy()
        damaged[place] ^= 1 << int(rng.integers(8))
        (bundle / WEIGHTS).write_bytes(damaged)
        with pytest.raises(RunError, match=r"model\.safetensors"):
            load_model(bundle)


def test_a_giant_file_is_not_read(bundle: Path) -> None:
    with (bundle / WEIGHTS).open("r+b") as file:
        file.truncate(1 << 40)  # a hole of a terabyte
    tracemalloc.start()
    refused(bundle, "has 1,099,511,627,776 bytes: the network's weights take")
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_links(bundle: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.safetensors"
    secret.write_bytes((bundle / WEIGHTS).read_bytes())
    (bundle / WEIGHTS).unlink()
    (bundle / WEIGHTS).symlink_to("../secret.safetensors")
    refused(bundle, "is a link that leaves its folder")
    (bundle / WEIGHTS).unlink()
    (bundle / "weights").write_bytes(secret.read_bytes())
    (bundle / WEIGHTS).symlink_to("weights")
    assert load_model(bundle).tags  # within the folder it may
    (bundle / WEIGHTS).unlink()
    refused(bundle, "it has no model.safetensors")
    os.mkfifo(bundle / WEIGHTS)
    refused(bundle, "it has no model.safetensors")
    (bundle / CONFIG).unlink()
    (bundle / CONFIG).symlink_to("/etc/passwd")
    refused(bundle, "is a link that leaves its folder", CONFIG)


def test_the_cache_of_the_hub(bundle: Path, tmp_path: Path) -> None:
    """There a model's files are links into a folder beside."""
    blobs, snapshot = tmp_path / "models--me--it/blobs", tmp_path / "models--me--it/snapshots/0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(bundle / name, blobs / f"blob-of-{name}")
        (snapshot / name).symlink_to(f"../../blobs/blob-of-{name}")
    assert load_model(snapshot).tags
    (snapshot / WEIGHTS).unlink()
    (snapshot / WEIGHTS).symlink_to(bundle / WEIGHTS)
    refused(snapshot, "is a link that leaves its folder")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": None}, r"holds no configuration of a run \(made for a test\)"),
        ({"config__data": 5}, r"config\.data is a int, not an object"),
        ({"config__data__name": "../../etc"}, r"config\.data\.name='\.\./\.\./etc' must be a name"),
        ({"config__data__split": ...}, r"has no config\.data\.split"),
        ({"config__batch_size": 1e9}, r"config\.batch_size=1000000000\.0 must be a whole number"),
        ({"config__fast": "os.system"}, r"config\.fast='os\.system' must be auto, true or false"),
        ({"config__trainer__precision": "64"}, "one of auto, 32, 16-mixed, bf16-mixed"),
        ({"config__data__test_segments": 0}, r"config\.data\.test_segments=0 must be"),
    ],
)
def test_configurations_of_runs(bundle: Path, changes: dict[str, Any], words: str) -> None:
    assert read_config(bundle).data.name == "mini"
    rewrite(bundle, **changes)
    with pytest.raises(RunError, match=words):
        read_config(bundle)
    assert load_model(bundle).tags  # it can tag all the same


def test_results_that_cannot_be_passed_on(bundle: Path) -> None:
    rewrite(bundle, results={"block": "se", "test": {"roc_auc": 2}})
    with pytest.raises(RunError, match=r"config\.json: results has no seed"):
        read_bundle(bundle).results()
    assert load_model(bundle).tags  # it can tag all the same
