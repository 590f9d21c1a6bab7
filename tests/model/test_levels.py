"""Levels are what passes through the network, in the order asked for, whoever else computes meanwhile."""

import threading

import pytest
import torch
from torch import Tensor, nn

from inference.models import description, network, noise
from samplecnn.model.backends.fold import fold
from samplecnn.model.levels import LevelError, Levels, default_levels
from samplecnn.model.network import STEM
from samplecnn.model.networks import NETWORKS


def inputs_of(layer: nn.Module, owner: nn.Module, waveforms: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        owner(waveforms)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("multi", [True, False])
def test_the_default_is_what_the_dense_layers_hear(multi: bool) -> None:
    made = fold(network(description("se", multi=multi)))
    made.use(STEM)
    expected = inputs_of(made.head_fc1, made, noise())
    with Levels(made) as levels, torch.inference_mode():
        made(noise())
        found = levels.take()
    assert levels.names == (("block7", "block8", "block9") if multi else ("block9",))
    assert torch.equal(torch.cat(found, dim=1), expected)
    assert not made.head_fc1._forward_pre_hooks  # nothing is left behind
    assert not any(block._forward_hooks for block in made.blocks)


def test_in_the_stated_order() -> None:
    made = network(description("res1"))
    with Levels(made, ("last", "block9", "block2")) as levels, torch.inference_mode():
        made(noise())
        last, ninth, second = levels.take()
    assert torch.equal(last, inputs_of(made.head_fc2, made, noise()))
    third = inputs_of(made.blocks[2], made, noise())
    assert torch.equal(second, third.amax(dim=(2, 3)))
    assert torch.equal(ninth, inputs_of(made.head_fc1, made, noise())[:, -ninth.shape[1] :])


def test_each_thread_sees_its_own() -> None:
    made = network(description("basic"))
    waveforms = noise(6)[:, None]
    found: dict[int, Tensor] = {}
    computed = threading.Barrier(len(waveforms))
    with Levels(made) as levels:

        def hear(number: int) -> None:
            with torch.inference_mode():
                made(waveforms[number])
                computed.wait()
                found[number] = torch.cat(levels.take(), dim=1)

        threads = [threading.Thread(target=hear, args=(number,)) for number in range(len(waveforms))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number, waveform in enumerate(waveforms):
        assert torch.equal(found[number], inputs_of(made.head_fc1, made, waveform))


@pytest.mark.parametrize("name", ["musicnn", "dieleman", "timbre"])
def test_other_networks(name: str) -> None:
    torch.manual_seed(0)
    made = NETWORKS[name](tags=3).eval()
    waveforms = 0.1 * torch.randn(2, made.segment_samples)
    with Levels(made, ("last", "fc")) as levels, torch.inference_mode():
        made(waveforms)
        last, before = levels.take()
    assert default_levels(made) == ("last",)
    assert torch.equal(last, inputs_of(made.last, made, waveforms))
    assert before.shape[1] == made.get_submodule("fc").in_features


def test_what_a_network_does_not_have() -> None:
    made = network(description("se"))
    unknown: list[tuple[str, ...]] = [("fc",), ("block0",), ("block10", "block9")]
    for names in unknown:
        with pytest.raises(
            LevelError, match=r"SampleCNN has no level .*; allowed are block1, .*block9, last"
        ):
            Levels(made, names)
    odd: list[tuple[str, ...]] = [(), ("block9", "block9")]
    for names in odd:
        with pytest.raises(LevelError, match="name one or more, and none twice"):
            Levels(made, names)
    with pytest.raises(LevelError, match="FCN has no level 'block9'; allowed are last"):
        Levels(NETWORKS["fcn"](tags=1), ("block9",))
