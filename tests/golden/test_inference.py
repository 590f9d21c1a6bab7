"""Blocks and networks in inference mode against the authors' own."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from devices import GPU
from golden.reference import ARRAYS, PAPER, feature_map, load, narrow, set_weights
from samplecnn.model.blocks import BLOCKS, SqueezeExcitation
from samplecnn.model.network import COMPILE, SampleCNN, backends

# The authors' own; blocks that came later have no such arrays.
PRECISIONS = pytest.mark.parametrize(
    ("dtype", "suffix", "scale"),
    # The arrays' own accuracy: 1e-10 in double precision; in float32 1e-5, features 1e-4.
    [(torch.float64, "_f64", 1e-10), (torch.float32, "", 1e-5)],
    ids=["float64", "float32"],
)


@contextmanager
def excitations(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collects what the gates of all squeeze-and-excitation layers give, in the order they run."""
    seen: list[Tensor] = []
    gates = [m.gate for m in module.modules() if isinstance(m, SqueezeExcitation)]
    handles = [gate.register_forward_hook(lambda _m, _i, output: seen.append(output)) for gate in gates]
    yield seen
    for handle in handles:
        handle.remove()


@PRECISIONS
@pytest.mark.parametrize("name", sorted(path.stem for path in ARRAYS.glob("block_*.npz")))
def test_block(name: str, dtype: torch.dtype, suffix: str, scale: float) -> None:
    arrays = load(name)
    _, kind, channels, *more = name.split("_")  # e.g. block_se_8to8_a4_t80
    options = {"alpha": float(more[0].removeprefix("a"))} if more else {}
    in_channels, out_channels = map(int, channels.split("to"))
    block = BLOCKS[kind](in_channels, out_channels, **options)
    set_weights(block, arrays)
    block.to(dtype).eval()
    with torch.no_grad(), excitations(block) as seen:
        output = block(feature_map(arrays["input"]).to(dtype))
    torch.testing.assert_close(output, feature_map(arrays["output" + suffix]), atol=scale, rtol=0)
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert len(seen) == ("excitation" in arrays) == bool(options)
    for excitation in seen:
        expected = torch.from_numpy(arrays["excitation" + suffix])
        torch.testing.assert_close(excitation, expected, atol=scale, rtol=0)


@PRECISIONS
@pytest.mark.parametrize("levels", ["multi", "nomulti"])
@pytest.mark.parametrize("kind", PAPER)
@pytest.mark.parametrize(
    ("device", "backend"),
    [("cpu", backend) for backend in backends("cpu")]
    # The compiler is for training alone.
    + [pytest.param("cuda", backend, marks=GPU) for backend in backends("cuda") if backend != COMPILE],
)
@pytest.mark.usefixtures("exact_gpu")
def test_network(
    device: str, backend: str, kind: str, levels: str, dtype: torch.dtype, suffix: str, scale: float
) -> None:
    if device == "cuda":
        scale *= 3  # float32 sums in another order
    arrays = load(f"net_{kind}_{levels}")
    network = SampleCNN(partial(BLOCKS[kind], **narrow(kind)), tags=50, width=8, multi=levels == "multi")
    set_weights(network, arrays)
    network.use(backend)
    network.to(device, dtype).eval()
    features: list[Tensor] = []
    for block in network.blocks:
        block.register_forward_hook(lambda _m, _i, output: features.append(output.amax(dim=(2, 3))))
    waveforms = torch.from_numpy(load("waveform")["x"]).to(device, dtype)
    with torch.no_grad(), excitations(network) as seen:
        probabilities = network(waveforms).sigmoid()

    def close(ours: Tensor, name: str, tolerance: float) -> None:
        expected = torch.from_numpy(arrays[name + suffix])
        torch.testing.assert_close(ours.cpu(), expected, atol=tolerance, rtol=0)

    close(probabilities, "output", scale)
    assert len(features) == 9
    for number, ours in enumerate(features, start=1):
        close(ours, f"block{number}.features", 10 * scale)
    assert len(seen) == (9 if narrow(kind) else 0)
    for number, ours in enumerate(seen, start=1):
        close(ours, f"block{number}.excitation", scale)


def test_every_file_is_used() -> None:
    names = {path.stem for path in ARRAYS.iterdir()}
    networks = {f"net_{kind}_{levels}" for kind in PAPER for levels in ("multi", "nomulti")}
    blocks = {name for name in names if name.startswith("block_")}
    trained = {"train_block_se_8to16_a4", "train_net_rese2_multi"}
    assert names == networks | blocks | trained | {"waveform"}
    assert {name.split("_")[1] for name in blocks} == set(PAPER)
    assert len(blocks) == 16
