"""The network on a GPU against the golden arrays of the authors' own, on all paths. Needs a GPU."""

from collections.abc import Iterator
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from golden.reference import PAPER, Arrays, load, narrow, part, set_weights
from samplecnn.model.blocks import BLOCKS, ReSE2
from samplecnn.model.network import SampleCNN, backends
from samplecnn.training.graph import autocast

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

DEVICE = torch.device("cuda")


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    """Without TensorFloat-32, which rounds the inputs of convolutions to 11 bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def on_gpu(array: Tensor, dtype: torch.dtype) -> Tensor:
    return array.to(DEVICE, dtype)


def trained(
    backend: str, arrays: Arrays, dtype: torch.dtype, precision: str
) -> tuple[SampleCNN, Tensor, Tensor]:
    """A network after forward and backward passes, its probabilities and its loss."""
    network = SampleCNN(partial(ReSE2, alpha=2, dropout=0.0), tags=50, width=8, dropout=0.0)
    set_weights(network, arrays)
    network.to(DEVICE, dtype).train()
    network.use(backend)
    with autocast(DEVICE, precision):
        logits = network(on_gpu(torch.from_numpy(arrays["input"]), dtype))
    logits = logits.to(dtype)
    loss = F.binary_cross_entropy_with_logits(logits, on_gpu(torch.from_numpy(arrays["target"]), dtype))
    loss.backward()
    return network, logits.detach().sigmoid(), loss.detach()


def gradient_error(network: SampleCNN, expected: dict[str, Tensor]) -> float:
    """Norm of the difference of all gradients, relative to their norm."""
    gradients = {name: p.grad for name, p in network.named_parameters()}
    assert gradients.keys() == expected.keys()
    assert all(gradient is not None for gradient in gradients.values())
    got = torch.cat([g.double().flatten().cpu() for g in gradients.values() if g is not None])
    wanted = torch.cat([expected[name].double().flatten() for name in gradients])
    return ((got - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("backend", backends("cuda"))
@pytest.mark.parametrize(
    ("dtype", "suffix", "tolerance", "gradients"),
    [(torch.float64, "_f64", 1e-10, 1e-9), (torch.float32, "", 3e-5, 2e-3)],
    ids=["float64", "float32"],
)
def test_training(backend: str, dtype: torch.dtype, suffix: str, tolerance: float, gradients: float) -> None:
    arrays = load("train_net_rese2_multi")
    network, probabilities, loss = trained(backend, arrays, dtype, "32-true")
    close = partial(torch.testing.assert_close, rtol=0, atol=tolerance)
    close(probabilities.cpu(), torch.from_numpy(arrays["output" + suffix]))
    close(loss.cpu(), torch.tensor(arrays["loss" + suffix]))
    assert gradient_error(network, part(arrays, "grad" + suffix)) < gradients
    buffers = dict(network.named_buffers())
    for name, wanted in part(arrays, "after" + suffix).items():
        close(buffers[name].cpu(), wanted)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("backend", backends("cuda"))
def test_training_in_mixed_precision(backend: str, precision: str) -> None:
    """Near the arrays in double precision, and about as near as on the plain backend: pooling's ties flip."""
    arrays = load("train_net_rese2_multi")
    expected = part(arrays, "grad_f64")
    network, probabilities, _ = trained(backend, arrays, torch.float32, precision)
    plain, *_ = trained("plain", arrays, torch.float32, precision)
    bound = 1.5 * gradient_error(plain, expected)
    assert bound < 1
    assert gradient_error(network, expected) < bound
    output = torch.from_numpy(arrays["output_f64"]).float()
    torch.testing.assert_close(probabilities.cpu(), output, rtol=0, atol=0.05)


@pytest.mark.parametrize("levels", ["multi", "nomulti"])
@pytest.mark.parametrize("kind", PAPER)
@pytest.mark.parametrize("backend", backends("cuda"))
def test_inference(backend: str, kind: str, levels: str) -> None:
    arrays = load(f"net_{kind}_{levels}")
    network = SampleCNN(partial(BLOCKS[kind], **narrow(kind)), tags=50, width=8, multi=levels == "multi")
    set_weights(network, arrays)
    network.to(DEVICE).eval()
    network.use(backend)
    with torch.no_grad():
        probabilities = network(on_gpu(torch.from_numpy(load("waveform")["x"]), torch.float32)).sigmoid()
    torch.testing.assert_close(probabilities.cpu(), torch.from_numpy(arrays["output"]), rtol=0, atol=3e-5)
