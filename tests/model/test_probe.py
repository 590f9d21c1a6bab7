"""A probe computes what its classifier says of the levels of its network: folded, copied, among threads."""

import threading
from copy import deepcopy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from inference.models import description, network, noise
from samplecnn.model.architecture import build
from samplecnn.model.backends.fold import fold
from samplecnn.model.levels import LevelError, Levels, default_levels
from samplecnn.model.network import STEM, sample_cnns, use
from samplecnn.model.networks import NETWORKS
from samplecnn.model.networks.network import Network
from samplecnn.model.probe import Probe

LEVELS = ("block8", "last")


def by_hand(probe: Probe, waveforms: Tensor) -> Tensor:
    with Levels(probe.features, probe.levels.names) as levels, torch.inference_mode():
        probe.features(waveforms)
        heard = torch.cat(levels.take(), dim=1)
        if probe.fc is not None:
            heard = F.relu(heard @ probe.fc.weight.T + probe.fc.bias)
        return heard @ probe.last.weight.T + probe.last.bias


def made(hidden: int | None = None, levels: tuple[str, ...] = LEVELS) -> Probe:
    torch.manual_seed(0)
    return Probe(network(description("se")), levels, tags=5, hidden=hidden).eval()


@pytest.mark.parametrize("hidden", [None, 7])
def test_classifier_on_levels(hidden: int | None) -> None:
    probe, waveforms = made(hidden), noise()
    expected = by_hand(probe, waveforms)
    with torch.inference_mode():
        torch.testing.assert_close(probe(waveforms), expected, rtol=1e-5, atol=1e-5)
        folded = fold(probe)
        use(folded, STEM)
        assert [found.backend for found in sample_cnns(folded)] == [STEM]
        assert isinstance(sample_cnns(folded)[0].stem_bn, torch.nn.Identity)
        torch.testing.assert_close(folded(waveforms), expected, rtol=1e-4, atol=1e-4)
        copied = deepcopy(probe)
        copied.features.load_state_dict({k: v * 0 for k, v in copied.features.state_dict().items()})
        assert not torch.allclose(copied(waveforms), expected)  # it hears its own network
        torch.testing.assert_close(probe(waveforms), expected, rtol=1e-5, atol=1e-5)
    assert default_levels(probe) == ("last",)
    with Levels(probe) as levels, torch.inference_mode():
        probe(waveforms)
        (heard,) = levels.take()
    assert heard.shape == (3, hidden or 6 + 24)


def test_among_threads() -> None:
    probe, waveforms = made(), noise(6)[:, None]
    found: dict[int, Tensor] = {}

    def hear(number: int) -> None:
        with torch.inference_mode():
            found[number] = probe(waveforms[number])

    threads = [threading.Thread(target=hear, args=(number,)) for number in range(len(waveforms))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, waveform in enumerate(waveforms):
        torch.testing.assert_close(found[number], by_hand(probe, waveform), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["musicnn", "shortchunk", "fcn"])
def test_the_classifier_computes_in_single_precision(name: str) -> None:
    torch.manual_seed(0)
    inner: Network = NETWORKS[name](tags=3).eval()
    probe = Probe(inner, ("last",), tags=2).eval()
    assert (probe.sample_rate, probe.segment_samples) == (16_000, inner.segment_samples)
    waveforms = 0.1 * torch.randn(2, probe.segment_samples)
    heard: list[Tensor] = []
    probe.last.register_forward_hook(lambda _layer, inputs, said: heard.extend((inputs[0], said)))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert probe(waveforms).dtype == torch.float32
    assert {tensor.dtype for tensor in heard} == {torch.float32}


def test_of_plain_values() -> None:
    plain = {**description("se"), "probe": {"levels": ["block9"], "hidden": None, "tags": 11}}
    probe = build(plain, 4)
    assert isinstance(probe, Probe)
    assert sample_cnns(probe)[0].head_fc2.out_features == 11
    assert (probe.last.in_features, probe.last.out_features, probe.tags) == (12, 4, 4)
    with pytest.raises(LevelError, match="no level 'block10'"):
        build({**plain, "probe": {"levels": ["block10"], "hidden": None, "tags": 11}}, 4)


def test_widths_are_known_before_anything_is_heard() -> None:
    cnn = network(description("rese2"))
    names = [f"block{number}" for number in range(1, 10)] + ["last"]
    with Levels(cnn, names) as levels, torch.inference_mode():
        cnn(noise())
        assert levels.widths == tuple(level.shape[1] for level in levels.take())
    for inner in (cnn, NETWORKS["timbre"](tags=1).eval()):
        probe = Probe(inner, ("last",), tags=2, hidden=9)
        assert Levels(probe, ("fc", "last")).widths == (probe.levels.widths[0], 9)
    assert all(a.out_features == b.in_features for a, b in pairwise([probe.fc, probe.last]) if a and b)
