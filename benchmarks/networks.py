"""How fast each of the field's networks trains and tags, beside SE and ReSE-2.

    python benchmarks/networks.py                            # one core, or the GPU if there is one
    python benchmarks/networks.py --networks se fcn --json networks.json

The unit is audio: seconds heard per second, as the networks hear segments of 2.7 to 29 s. A training step is
forward, loss, backward and update with the program's optimiser, in the precision and on the backend that a
training takes here (`trainer.precision=auto`; SampleCNNs on backend `stem`, the others on plain layers).
Tagging is `predict_segments` of `samplecnn.load`, in the same precision. A batch holds as many segments as
fill `--seconds` of audio, and at least two. Each network is measured in turns with SE.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from measure import Variants, Work, in_turns, machine, markdown, median_and_range, options, spread, write
from samplecnn.hardware import multiplies_bfloat16
from samplecnn.inference.tagger import Tagger
from samplecnn.memory import keep_freed_memory
from samplecnn.model.architecture import build
from samplecnn.model.network import STEM, use
from samplecnn.model.networks.network import Network
from samplecnn.runs.description import Description
from samplecnn.runs.folder import Model
from samplecnn.training.backends.graph import autocast
from samplecnn.training.network import count_parameters
from samplecnn.training.optimiser import KerasSGD, decay_groups
from training import RATE, TAGS

BASE = "se"
# Each with its options; a SampleCNN is named after its block.
NETWORKS: dict[str, dict[str, Any]] = {
    "se": {},
    "rese2": {},
    "fcn": {"name": "fcn"},
    "crnn": {"name": "crnn"},
    "musicnn": {"name": "musicnn"},
    "shortchunk": {"name": "shortchunk"},
    "shortchunk_res": {"name": "shortchunk", "res": True},
    "harmonic": {"name": "harmonic"},
    "timbre": {"name": "timbre"},
    "dieleman": {"name": "dieleman"},
    "dieleman_raw": {"name": "dieleman", "input": "raw"},
}


def architecture(name: str) -> dict[str, Any]:
    """Return the description of a network with the options of its paper."""
    if model := NETWORKS[name]:
        return {"model": model, "dropout": 0.5}
    return {"block": {"name": name}, "multi": True, "width": 128, "dropout": 0.5}


def segments(network: Network, seconds: float) -> int:
    """Return how many of a network's segments fill so much audio; at least two, for its batch norms."""
    return max(2, math.ceil(seconds * network.sample_rate / network.segment_samples))


def waveforms(network: Network, seconds: float, device: torch.device) -> torch.Tensor:
    """Return noise of so much audio, in segments of a network."""
    torch.manual_seed(0)
    shape = (segments(network, seconds), network.segment_samples)
    return (torch.rand(shape) - 0.5).to(device)


def precision(device: torch.device) -> str:
    """Return what ``trainer.precision=auto`` is on a device."""
    return "bf16-mixed" if multiplies_bfloat16(device.type) else "32-true"


def training_work(name: str, seconds: float, device_name: str) -> Work:
    """Return one step on so much audio."""
    keep_freed_memory()
    device = torch.device(device_name)
    network = build(architecture(name), TAGS).to(device)
    use(network, STEM)
    batch = waveforms(network, seconds, device)
    labels = (torch.rand(len(batch), TAGS) < 0.1).float().to(device)
    optimizer = KerasSGD(decay_groups(network, 0.0), lr=RATE)

    def work() -> None:
        optimizer.zero_grad()
        with autocast(device, precision(device)):
            logits = network(batch)
        F.binary_cross_entropy_with_logits(logits.float(), labels).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return work


def tagging_work(name: str, seconds: float, device_name: str) -> Work:
    """Return the probabilities of so much audio."""
    keep_freed_memory()
    device = torch.device(device_name)
    described = architecture(name)
    network = build(described, TAGS).eval()
    batch = waveforms(network, seconds, torch.device("cpu")).numpy()
    tags = tuple(f"tag {number}" for number in range(TAGS))
    plain = {"block": None, "multi": None, "width": None, **described, "sample_rate": network.sample_rate}
    description = Description(**plain, segment_samples=network.segment_samples, tags=tags)
    dtype = torch.bfloat16 if precision(device) == "bf16-mixed" else torch.float32
    tagger = Tagger(Model(network, description, Path("made")), device, dtype)
    return lambda: tagger.predict_segments(batch)


KINDS = {"training": training_work, "tagging": tagging_work}


def table(results: Mapping[str, Any]) -> str:
    """Lay out seconds of audio per second, in training and in tagging, and each beside SE's."""
    rows = []
    for name, found in results["networks"].items():
        row = [name, f"{found['parameters'] / 1e6:.2f}", f"{found['segment_seconds']:.1f}"]
        for kind in KINDS:
            ratio = found[kind]["median"] / found[f"{kind}, {BASE}"]["median"]
            row += [*median_and_range(found[kind], ".0f"), f"{ratio:.2f}"]
        rows.append(row)
    head = ["network", "million parameters", "segment, s"]
    for kind in KINDS:
        head += [f"{kind}, times real time", "range", f"over {BASE}"]
    conditions = f"{results['machine']['device']}, {results['threads']} thread, {results['precision']}.\n\n"
    return conditions + markdown(head, rows)


def measure(name: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure a network and SE in turns; return seconds of audio per second, and what it is."""
    variants: Variants = {}
    heard = {}
    for kind, make in KINDS.items():
        for variant, network in ((kind, name), (f"{kind}, {BASE}", BASE)):
            variants[variant] = (make, (network, chosen.seconds, chosen.device))
            built = build(architecture(network), TAGS)
            length = built.segment_samples / built.sample_rate
            heard[variant] = segments(built, chosen.seconds) * length
    times = in_turns(variants, threads=chosen.threads, repeat=chosen.repeat, device=chosen.device)
    network_itself = build(architecture(name), TAGS)
    return {
        "parameters": count_parameters(network_itself),
        "segment_seconds": network_itself.segment_samples / network_itself.sample_rate,
        **{
            variant: spread([heard[variant] / second for second in taken]) for variant, taken in times.items()
        },
    }


def main() -> None:
    """Measure, print, write."""
    parser = options(__doc__ or "", blocks=False)
    parser.set_defaults(repeat=3)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument(
        "--seconds", type=float, default=29, help="of audio in a batch (default: %(default)s)"
    )
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    results: dict[str, Any] = {"machine": machine(device), "precision": precision(device)}
    results |= {"threads": chosen.threads, "seconds": chosen.seconds}
    results["networks"] = {name: measure(name, chosen) for name in chosen.networks}
    print(table(results))
    write(chosen.json, results, table(results))


if __name__ == "__main__":
    main()
