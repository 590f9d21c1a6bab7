"""The published networks, written out over weights by their authors' names; random weights of their shapes.

Logits of one chunk, by PyTorch's functions and torchaudio's transforms alone.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor

Weights = dict[str, Tensor]
C = 128  # channels of the narrowest layers


def conv(weights: Weights, name: str, inputs: int, outputs: int, *kernel: int) -> None:
    fan_in = inputs * torch.Size(kernel).numel()
    weights[f"{name}.weight"] = (
        torch.randn(outputs, inputs, *kernel, dtype=torch.float64) * (2 / fan_in) ** 0.5
    )
    weights[f"{name}.bias"] = 0.1 * torch.randn(outputs, dtype=torch.float64)


def norm(weights: Weights, name: str, channels: int) -> None:
    """Variances also as small as the difference of the epsilons."""
    for leaf, values in (
        ("weight", 0.5 + torch.rand(channels)),
        ("bias", 0.3 * torch.randn(channels)),
        ("running_mean", 0.3 * torch.randn(channels)),
        ("running_var", 10 ** (-4 + 4.5 * torch.rand(channels))),
    ):
        weights[f"{name}.{leaf}"] = values.double()
    weights[f"{name}.num_batches_tracked"] = torch.tensor(1000)


def normed(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.batch_norm(
        x,
        w[f"{name}.running_mean"],
        w[f"{name}.running_var"],
        w[f"{name}.weight"],
        w[f"{name}.bias"],
        eps=1e-5,
    )


def conv1d(w: Weights, name: str, x: Tensor, **options: int) -> Tensor:
    return F.conv1d(x, w[f"{name}.weight"], w[f"{name}.bias"], **options)


def conv2d(w: Weights, name: str, x: Tensor, **options: int) -> Tensor:
    return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1, **options)


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def head(w: Weights, x: Tensor) -> Tensor:
    x = normed(w, "bn", linear(w, "dense1", x.amax(dim=(2, 3)))).relu()
    return linear(w, "dense2", x)


SAMPLE_CHANNELS = (1, C, C, C, 2 * C, 2 * C, 2 * C, 2 * C, 2 * C, 2 * C, 4 * C)


def sample_weights() -> Weights:
    w: Weights = {}
    for i in range(10):
        conv(w, f"layer{i + 1}.conv", SAMPLE_CHANNELS[i], SAMPLE_CHANNELS[i + 1], 3)
        norm(w, f"layer{i + 1}.bn", SAMPLE_CHANNELS[i + 1])
    conv(w, "layer11.conv", 4 * C, 4 * C, 1)
    norm(w, "layer11.bn", 4 * C)
    conv(w, "dense", 4 * C, 50)
    return w


def sample(w: Weights, x: Tensor) -> Tensor:
    x = normed(w, "layer1.bn", conv1d(w, "layer1.conv", x[:, None], stride=3, padding=1)).relu()
    for i in range(2, 11):
        x = F.max_pool1d(normed(w, f"layer{i}.bn", conv1d(w, f"layer{i}.conv", x, padding=1)).relu(), 3)
    x = normed(w, "layer11.bn", conv1d(w, "layer11.conv", x)).relu()
    return linear(w, "dense", x.squeeze(-1))


def clmr_weights() -> Weights:
    w: Weights = {}
    for i in range(10):
        conv(w, f"sequential.{i}.0", SAMPLE_CHANNELS[i], SAMPLE_CHANNELS[i + 1], 3)
        norm(w, f"sequential.{i}.1", SAMPLE_CHANNELS[i + 1])
    conv(w, "sequential.10.0", 4 * C, 4 * C, 3)
    norm(w, "sequential.10.1", 4 * C)
    conv(w, "fc", 4 * C, 50)
    return w


def clmr(w: Weights, x: Tensor) -> Tensor:
    x = normed(w, "sequential.0.1", conv1d(w, "sequential.0.0", x[:, None], stride=3)).relu()
    for i in range(1, 11):
        x = normed(w, f"sequential.{i}.1", conv1d(w, f"sequential.{i}.0", x, padding=1)).relu()
        x = F.max_pool1d(x, 3) if i < 10 else x
    return linear(w, "fc", x.flatten(1))


SHORT_CHANNELS = (1, C, C, 2 * C, 2 * C, 2 * C, 2 * C, 4 * C)


def mel(x: Tensor) -> Tensor:
    transform = torchaudio.transforms.MelSpectrogram(16_000, n_fft=512, f_min=0, f_max=8_000, n_mels=128)
    return torchaudio.transforms.AmplitudeToDB()(transform.double()(x))[:, None]


def mel_buffers() -> Weights:
    """What PyTorch saves of the transform."""
    transform = torchaudio.transforms.MelSpectrogram(16_000, n_fft=512, f_min=0, f_max=8_000, n_mels=128)
    return {f"spec.{name}": buffer for name, buffer in transform.state_dict().items()}


def dense(w: Weights, width: int) -> None:
    conv(w, "dense1", width, width)
    norm(w, "bn", width)
    conv(w, "dense2", width, 50)


def short_weights() -> Weights:
    w = mel_buffers()
    norm(w, "spec_bn", 1)
    for i in range(7):
        conv(w, f"layer{i + 1}.conv", SHORT_CHANNELS[i], SHORT_CHANNELS[i + 1], 3, 3)
        norm(w, f"layer{i + 1}.bn", SHORT_CHANNELS[i + 1])
    dense(w, 4 * C)
    return w


def short(w: Weights, x: Tensor) -> Tensor:
    x = normed(w, "spec_bn", mel(x))
    for i in range(1, 8):
        x = F.max_pool2d(normed(w, f"layer{i}.bn", conv2d(w, f"layer{i}.conv", x)).relu(), 2)
    return head(w, x)


def short_res_weights() -> Weights:
    w = mel_buffers()
    norm(w, "spec_bn", 1)
    for i in range(7):
        inputs, outputs = SHORT_CHANNELS[i : i + 2]
        for number, entering in ((1, inputs), (2, outputs), (3, inputs)):
            conv(w, f"layer{i + 1}.conv_{number}", entering, outputs, 3, 3)
            norm(w, f"layer{i + 1}.bn_{number}", outputs)
    dense(w, 4 * C)
    return w


def short_res(w: Weights, x: Tensor) -> Tensor:
    x = normed(w, "spec_bn", mel(x))
    for i in range(1, 8):
        main = normed(w, f"layer{i}.bn_1", conv2d(w, f"layer{i}.conv_1", x, stride=2)).relu()
        main = normed(w, f"layer{i}.bn_2", conv2d(w, f"layer{i}.conv_2", main))
        x = (main + normed(w, f"layer{i}.bn_3", conv2d(w, f"layer{i}.conv_3", x, stride=2))).relu()
    return head(w, x)


def hcnn_weights() -> Weights:
    w: Weights = {"hstft.bw_Q": torch.tensor([1.3]).double(), "hstft.spec.window": torch.hann_window(512)}
    norm(w, "hstft_bn", 6)
    for number, inputs, outputs in ((1, 6, C), (5, C, 2 * C)):
        conv(w, f"layer{number}.conv", inputs, outputs, 3, 3)
        norm(w, f"layer{number}.bn", outputs)
    for number, channels in ((2, C), (3, C), (4, C), (6, 2 * C), (7, 2 * C)):
        for part in (1, 2):
            conv(w, f"layer{number}.conv_{part}", channels, channels, 3, 3)
            norm(w, f"layer{number}.bn_{part}", channels)
    dense(w, 2 * C)
    return w


def hcnn(w: Weights, x: Tensor) -> Tensor:
    spectrum = torchaudio.transforms.Spectrogram(n_fft=512).double()(x)  # (batch, 257, 313)
    notes = torch.linspace(24, 88, 129, dtype=torch.float64)[:-1]
    hertz = torch.cat([h * 440 * 2 ** ((notes - 69) / 12) for h in range(1, 7)])
    width = (0.1079 * hertz + 24.7) / w["hstft.bw_Q"]
    bins = torch.linspace(0, 8_000, 257, dtype=torch.float64)[:, None]
    bank = torch.minimum(1 + 2 * (bins - hertz) / width, 1 - 2 * (bins - hertz) / width).clamp(min=0)
    bands = (spectrum.transpose(1, 2) @ bank).transpose(1, 2).reshape(len(x), 6, 128, -1)
    y = normed(w, "hstft_bn", torchaudio.transforms.AmplitudeToDB()(bands))
    for number, pool in (
        (1, (2, 2)),
        (2, (2, 2)),
        (3, (2, 2)),
        (4, (2, 2)),
        (5, (2, 2)),
        (6, (2, 3)),
        (7, (2, 3)),
    ):
        if number in (1, 5):
            y = normed(w, f"layer{number}.bn", conv2d(w, f"layer{number}.conv", y)).relu()
        else:
            main = normed(w, f"layer{number}.bn_1", conv2d(w, f"layer{number}.conv_1", y)).relu()
            y = (y + normed(w, f"layer{number}.bn_2", conv2d(w, f"layer{number}.conv_2", main))).relu()
        y = F.max_pool2d(y, pool)
    return head(w, y)


# by the names of the collection's folders: random weights, and the network
NETWORKS: dict[str, tuple[Callable[[], Weights], Callable[[Weights, Tensor], Tensor]]] = {
    "sample": (sample_weights, sample),
    "clmr": (clmr_weights, clmr),
    "short": (short_weights, short),
    "short_res": (short_res_weights, short_res),
    "hcnn": (hcnn_weights, hcnn),
}
