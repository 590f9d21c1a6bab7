"""How published networks name their weights, and which networks of ours they are."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

LEAVES = {"q": "bw_Q"}  # names of ours -> theirs, where they differ


@dataclass(frozen=True)
class Layout:
    """One published network: ``modules`` maps the names of its layers to those of ours.

    A file is of the first layout all of whose ``signs`` it has among its names. Names that start with
    ``copies`` are weights that it holds a second time.
    """

    title: str  # for messages
    network: str  # "samplecnn" or a key of NETWORKS
    modules: Mapping[str, str]
    signs: tuple[str, ...]
    last: str  # the layer whose outputs are the logits
    options: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, str] = field(default_factory=dict)  # further options: the outputs of a layer
    sample_rate: int = 16_000  # Hz
    copies: str | None = None

    def theirs(self, name: str) -> str:
        """Return what a weight of ours is called in the file."""
        module, _, leaf = name.rpartition(".")
        [there] = [key for key, ours in self.modules.items() if ours == module]
        return f"{there}.{LEAVES.get(leaf, leaf)}"


def _blocks(numbers: Iterable[int], parts: Mapping[str, str]) -> dict[str, str]:
    """Return ``layer1.PART`` -> ``layers.0.PART`` and so on."""
    return {
        f"layer{number}.{theirs}": f"layers.{number - 1}.{ours}"
        for number in numbers
        for theirs, ours in parts.items()
    }


CONV = {"conv": "conv", "bn": "bn"}
INPUT = {"spec_bn": "input_bn"}
HEAD = {"dense1": "fc", "bn": "fc_bn", "dense2": "last"}
TWO_CONVS = {"conv_1": "conv1", "bn_1": "bn1", "conv_2": "conv2", "bn_2": "bn2"}
SHORTCUT = {"conv_3": "shortcut_conv", "bn_3": "shortcut_bn"}
BASIC = {"block": {"name": "basic"}, "multi": False, "width": 128}

# github.com/minzwon/sota-music-tagging-models
WON = (
    Layout(
        "FCN of Won et al.",
        "fcn",
        {**INPUT, **_blocks(range(1, 6), CONV), "dense": "last"},
        signs=("spec_bn.weight", "layer5.conv.weight", "dense.weight"),
        last="dense",
    ),
    Layout(
        "CRNN of Won et al.",
        "crnn",
        {**INPUT, **_blocks(range(1, 5), CONV), "layer5": "gru", "dense": "last"},
        signs=("layer5.weight_ih_l0",),
        last="dense",
    ),
    Layout(
        "Musicnn of Won et al.",
        "musicnn",
        {
            **INPUT,
            **{f"layers.{i}.{part}": f"tall.{i}.{part}" for i in range(2) for part in CONV},
            **{f"layers.{i + 2}.{part}": f"long.{i}.{part}" for i in range(3) for part in CONV},
            **{f"layer{i + 1}.{part}": f"mid.{i}.{part}" for i in range(3) for part in CONV},
            **HEAD,
        },
        signs=("layers.0.conv.weight",),
        last="dense2",
        sizes={"mid": "layer1.conv", "dense": "dense1"},
    ),
    Layout(
        "Harmonic CNN of Won et al.",
        "harmonic",
        {
            "hstft": "spectrogram",
            "hstft_bn": "input_bn",
            **_blocks((1, 5), CONV),
            **_blocks((2, 3, 4, 6, 7), TWO_CONVS),
            **HEAD,
        },
        signs=("hstft.bw_Q",),
        last="dense2",
    ),
    Layout(
        "Short-chunk CNN of Won et al.",
        "shortchunk",
        {**INPUT, **_blocks(range(1, 8), CONV), **HEAD},
        signs=("spec_bn.weight", "layer7.conv.weight"),
        last="dense2",
    ),
    Layout(
        "Short-chunk CNN + Res of Won et al.",
        "shortchunk",
        {**INPUT, **_blocks(range(1, 8), {**TWO_CONVS, **SHORTCUT}), **HEAD},
        signs=("spec_bn.weight", "layer7.conv_3.weight", "dense1.weight"),
        last="dense2",
        options={"res": True},
    ),
    Layout(
        "SampleCNN of Won et al.",
        "samplecnn",
        {
            "layer1.conv": "stem_conv",
            "layer1.bn": "stem_bn",
            **{f"layer{i + 2}.{part}": f"blocks.{i}.{part}1" for i in range(9) for part in CONV},
            "layer11.conv": "head_fc1",
            "layer11.bn": "head_bn",
            "dense": "head_fc2",
        },
        signs=("layer11.conv.weight", "dense.weight"),
        last="dense",
        options={**BASIC, "pad_front": 1},  # its first convolution is padded by one sample
    ),
)


def _clmr(prefix: str, last: str, *, copies: str | None = None) -> Layout:
    """A layer is (convolution, batch norm, ...); the head's convolution hears one step of time."""
    return Layout(
        "SampleCNN of CLMR",
        "samplecnn",
        {
            f"{prefix}sequential.0.0": "stem_conv",
            f"{prefix}sequential.0.1": "stem_bn",
            **{f"{prefix}sequential.{i + 1}.0": f"blocks.{i}.conv1" for i in range(9)},
            **{f"{prefix}sequential.{i + 1}.1": f"blocks.{i}.bn1" for i in range(9)},
            f"{prefix}sequential.10.0": "head_fc1",
            f"{prefix}sequential.10.1": "head_bn",
            last: "head_fc2",
        },
        signs=(f"{prefix}sequential.10.0.weight", *([f"{last}.weight"] if prefix else [])),
        last=last,
        options=BASIC,
        sample_rate=22_050,
        copies=copies,
    )


# github.com/Spijkervet/CLMR: the network alone, and the checkpoints of its supervised and linear training
CLMR = (
    _clmr("", "fc"),
    _clmr("model.", "model.fc", copies="encoder."),
    _clmr("encoder.", "model.0"),
)

LAYOUTS = (*WON, *CLMR)
