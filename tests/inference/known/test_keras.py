"""The authors' weights: their files' layout gives their networks' outputs."""

from pathlib import Path

import numpy as np
import pytest
import torch

import samplecnn
from golden.reference import PAPER, load, narrow, set_weights
from inference.keras_files import KERAS, weights_of, write
from inference.known.files import keras_here
from samplecnn.inference.bundle import write_bundle
from samplecnn.inference.known.importing import import_file
from samplecnn.inference.known.tags import AUTHORS_TAGS
from samplecnn.model.architecture import build
from samplecnn.model.networks.network import Network
from samplecnn.runs.errors import RunError


def probabilities(network: Network) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.from_numpy(load("waveform")["x"])).sigmoid().numpy()


@pytest.mark.parametrize(("name", "block"), [("se-multi-narrow", "se"), ("rese-multi-narrow", "rese2")])
def test_the_authors_files(name: str, block: str) -> None:
    model = import_file(KERAS / f"{name}.hdf5").model
    told = model.description.as_dict()
    assert told["block"] == {"name": block, "alpha": 2}
    assert (told["multi"], told["width"]) == (True, 8)
    assert (model.tags, model.sample_rate) == (AUTHORS_TAGS, 22050)
    assert not model.network.training
    expected = load(f"net_{block}_multi")
    np.testing.assert_allclose(probabilities(model.network), expected["output"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(probabilities(model.network), expected["output_f64"], atol=1e-5, rtol=0)


def test_the_same_probabilities_from_file_bundle_and_checkpoint(tmp_path: Path) -> None:
    """Bit by bit; the checkpoint has the weights of ``net_se_multi.npz``, of which the file is."""
    imported = import_file(KERAS / "se-multi-narrow.hdf5").model
    write_bundle(imported, tmp_path / "bundle", source="imported for a test")
    network = build(imported.description.as_dict(), 50)
    set_weights(network, load("net_se_multi"))
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"samplecnn": imported.description.as_dict(), "state_dict": state}, tmp_path / "a.ckpt")
    x = load("waveform")["x"]
    taggers = [samplecnn.load(tmp_path / name, precision="32") for name in ("bundle", "a.ckpt")]
    ours = [tagger.predict_segments(x) for tagger in taggers]
    np.testing.assert_array_equal(ours[0], ours[1])
    np.testing.assert_allclose(ours[0], load("net_se_multi")["output"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("levels", ["multi", "nomulti"])
@pytest.mark.parametrize("block", PAPER)
def test_every_architecture_is_recognised(tmp_path: Path, block: str, levels: str) -> None:
    """Also where layers are numbered on from other networks: by rank conv1d_9 comes before conv1d_10."""
    arrays = load(f"net_{block}_{levels}")
    weights = {
        key.removeprefix("weight/"): array for key, array in arrays.items() if key.startswith("weight/")
    }
    path = write(tmp_path / "a.hdf5", weights, block, multi=levels == "multi", offset=7)
    found = keras_here(path)
    assert found.architecture["block"] == {"name": block, **narrow(block)}
    assert (found.architecture["multi"], found.architecture["width"]) == (levels == "multi", 8)
    np.testing.assert_allclose(probabilities(found.network), arrays["output"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("alpha", [0.125, 2.79])
def test_amplifying_ratios(tmp_path: Path, alpha: float) -> None:
    """The ratio that is found makes the same hidden layers, also where they were rounded."""
    told = {"block": {"name": "se", "alpha": alpha}, "multi": True, "width": 5, "dropout": 0.5}
    network = build(told, 50).eval()
    path = write(tmp_path / "a.hdf5", weights_of(network, "se"), "se")
    x = torch.zeros(1, 59049)
    torch.testing.assert_close(keras_here(path).network(x), network(x), rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("block", ["se", "rese2"])
def test_full_size(tmp_path: Path, block: str) -> None:
    told = {"block": {"name": block, "alpha": 16}, "multi": True, "width": 128, "dropout": 0.5}
    network = build(told, 50).eval()
    path = write(tmp_path / "full.hdf5", weights_of(network, block), block)
    model = import_file(path).model
    assert {key: model.description.as_dict()[key] for key in told} == told
    expected = network.state_dict()
    assert model.network.state_dict().keys() == expected.keys()
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_tags_of_one_s_own() -> None:
    path = KERAS / "se-multi-narrow.hdf5"
    names = [f"tag {i}" for i in range(50)]
    assert import_file(path, names).model.tags == tuple(names)
    with pytest.raises(RunError, match=r"has 50 outputs, but 49 tags were named"):
        import_file(path, names[1:])


# Clips of MagnaTagATune's annotations_final.csv that have the tag.
CLIPS = {
    **{"guitar": 4851, "classical": 4270, "slow": 3547, "techno": 2954, "strings": 2727, "drums": 2598},
    **{"electronic": 2519, "rock": 2371, "fast": 2305, "piano": 2056, "ambient": 1956, "beat": 1906},
    **{"violin": 1826, "vocal": 1729, "synth": 1717, "female": 1474, "indian": 1395, "opera": 1296},
    **{"male": 1279, "singing": 1211, "vocals": 1184, "no vocals": 1158, "harpsichord": 1092, "loud": 1086},
    **{"quiet": 1055, "flute": 1024, "woman": 1016, "male vocal": 1002, "pop": 995, "no vocal": 995},
    **{"soft": 985, "sitar": 926, "solo": 826, "man": 741, "classic": 690, "choir": 688, "voice": 665},
    **{"new age": 650, "dance": 649, "female vocal": 644, "male voice": 644, "beats": 634, "harp": 622},
    **{"cello": 575, "no voice": 573, "weird": 557, "country": 541, "metal": 505, "female voice": 505},
    **{"choral": 490},
}


def test_the_authors_tags_ascend_in_frequency() -> None:
    assert set(AUTHORS_TAGS) == set(CLIPS)
    assert len(AUTHORS_TAGS) == 50
    counts = [CLIPS[tag] for tag in AUTHORS_TAGS]
    assert counts == sorted(counts)
