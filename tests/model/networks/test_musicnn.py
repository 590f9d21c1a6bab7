"""Musicnn as its authors published it: their weights, the real clip, the numbers that they print."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from samplecnn.model.networks.musicnn import Musicnn
from samplecnn.model.networks.spectrogram import MelSpectrogram, PonsMel

SHARED = Path(__file__).parents[4] / "shared"
WEIGHTS = SHARED / "baselines/MTT_musicnn.npz"
CLIP = SHARED / "mtat/joram-moments_of_clarity-08-solipsism-59-88.mp3"
needs_weights = pytest.mark.skipif(
    not WEIGHTS.exists(), reason="the published weights (shared/baselines) are not beside this checkout"
)

# What the authors' README prints for this clip.
BEST = {
    "techno": 0.585,
    "electronic": 0.541,
    "synth": 0.419,
    "fast": 0.272,
    "beat": 0.213,
    "drums": 0.120,
    "no vocals": 0.095,
    "no vocal": 0.080,
    "dance": 0.073,
    "ambient": 0.060,
}


def published() -> Musicnn:
    """The network with the weights of the TensorFlow graph, whose layers are numbered as they were made."""
    file = {key: torch.from_numpy(value) for key, value in np.load(WEIGHTS).items()}
    weights: dict[str, Tensor] = {}

    def numbered(kind: str, number: int) -> str:
        return f"{kind}_{number}" if number else kind

    def norm(name: str, number: int, order: Tensor | slice = slice(None)) -> None:
        theirs = numbered("batch_normalization", number)
        for ours, key in (("weight", "gamma"), ("bias", "beta")):
            weights[f"{name}.{ours}"] = file[f"{theirs}/{key}"][order]
        for ours, key in (("running_mean", "moving_mean"), ("running_var", "moving_variance")):
            weights[f"{name}.{ours}"] = file[f"{theirs}/{key}"][order]
        weights[f"{name}.num_batches_tracked"] = torch.tensor(0)

    # Theirs joins the branches as 38, 67 bands; ours as 67, 38. Over time theirs alternates maximum and mean.
    front = torch.cat([torch.arange(204, 408), torch.arange(204), torch.arange(408, 561)])
    features = torch.cat([front, torch.arange(561, 753)])
    pooled = torch.cat([2 * features, 2 * features + 1])

    norm("input_bn", 0)
    for number, name in enumerate(["tall.1", "tall.0", "long.0", "long.1", "long.2"]):
        weights[f"{name}.conv.weight"] = file[numbered("conv2d", number) + "/kernel"].permute(3, 2, 1, 0)
        weights[f"{name}.conv.bias"] = file[numbered("conv2d", number) + "/bias"]
        norm(f"{name}.bn", number + 1)
    for number in range(3):
        kernel = file[f"conv2d_{number + 5}/kernel"].permute(3, 1, 2, 0)  # (out, in, 1, time)
        weights[f"mid.{number}.conv.weight"] = kernel[:, front] if number == 0 else kernel
        weights[f"mid.{number}.conv.bias"] = file[f"conv2d_{number + 5}/bias"]
        norm(f"mid.{number}.bn", number + 6)
    norm("pooled_bn", 9, pooled)
    weights["fc.weight"], weights["fc.bias"] = file["dense/kernel"].T[:, pooled], file["dense/bias"]
    norm("fc_bn", 10)
    weights["last.weight"], weights["last.bias"] = file["dense_1/kernel"].T, file["dense_1/bias"]
    network = Musicnn(tags=50, original=True).eval()
    network.load_state_dict(weights)
    return network


class Patches(nn.Module):
    """Patches of one spectrogram in place of the spectrogram of each segment."""

    def __init__(self, patches: Tensor) -> None:
        super().__init__()
        self.patches = patches

    def forward(self, waveforms: Tensor) -> Tensor:
        return self.patches


@needs_weights
def test_the_authors_weights_give_their_tags() -> None:
    network = published()
    clip = torch.from_numpy(soundfile.read(CLIP, dtype="float32")[0])[None]
    assert isinstance(network.spectrogram, PonsMel)
    with torch.no_grad():
        first = network(clip[:, :48_000]).sigmoid()[0]
        # Theirs is one spectrogram of the file, stored in half precision, cut into patches.
        mel = MelSpectrogram.forward(network.spectrogram, clip).half().float()
        whole = (10_000 * mel[0, :, : mel.shape[2] // 187 * 187] + 1).log10()
        maps = whole.unflatten(1, (-1, 187)).transpose(0, 1)[:, None]
        network.spectrogram = Patches(maps)
        patches = network(torch.zeros(len(maps), 48_000)).sigmoid()
    for got, tolerance in (
        (patches[0], 1e-5),
        (first, 4e-5),
    ):  # the second without the cast to half precision
        assert got.sum().item() == pytest.approx(2.262101, abs=tolerance)
        expected = torch.tensor([0.036611, 0.024609, 0.026412, 0.235723, 0.019527])
        torch.testing.assert_close(got[:5], expected, rtol=0, atol=tolerance)
    tags = np.load(SHARED / "baselines/mtat_tags.npy").tolist()
    values, order = patches.mean(dim=0).topk(10)
    assert [tags[index] for index in order] == list(BEST)
    torch.testing.assert_close(values, torch.tensor(list(BEST.values())), rtol=0, atol=6e-4)
