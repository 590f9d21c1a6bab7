"""Whether all ways to compute a training step learn alike: losses of a short run on every backend.

    python benchmarks/curves.py                              # on one core, or the GPU if there is one
    python benchmarks/curves.py --blocks rese2 --steps 200 --json curves.json

Networks of one seed learn to tell which tones are in a mixture. The mean loss of the last fifth of the steps
must not be farther from those of the plain backend in float32, with three seeds, than these are
from each other.
The exit code is 1 if one is.
"""

import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch

from measure import by_block, machine, markdown, options, write
from samplecnn.data.audio import SAMPLE_RATE
from samplecnn.data.batches import Batch
from samplecnn.model.network import SEGMENT_SAMPLES
from samplecnn.training.backends.proof import PLAIN_PLAN, Plan
from training import PRECISIONS, TAGS, our_network, plans, whole_step

MIXED = {"cpu": PRECISIONS, "cuda": {**PRECISIONS, "fp16": "16-mixed"}}
SEEDS, BATCHES = 3, 20


def tones(batch: int, device: torch.device) -> list[Batch]:
    """Return mixtures of tones in noise, which tags say the tones of."""
    generator = torch.Generator().manual_seed(1)
    pitches = 110 * 2 ** (torch.arange(TAGS)[:, None] / 8)  # Hz
    waves = torch.sin(2 * math.pi * pitches * torch.arange(SEGMENT_SAMPLES) / SAMPLE_RATE)
    batches = []
    for _ in range(BATCHES):
        labels = (torch.rand(batch, TAGS, generator=generator) < 0.1).float()
        noise = torch.randn(batch, SEGMENT_SAMPLES, generator=generator)
        waveforms = (0.1 * labels @ waves + 0.05 * noise).clamp(-1, 1)
        clips = torch.zeros(batch, dtype=torch.int64)
        batches.append(Batch(waveforms.to(device), labels.to(device), clips, torch.arange(batch)))
    return batches


def curve(
    block: str, width: int, batches: list[Batch], precision: str, plan: Plan, steps: int, seed: int = 0
) -> list[float]:
    """Return the loss of each step of a network that starts from ``seed``."""
    torch.manual_seed(seed)
    network = our_network(block, width).to(batches[0].waveforms.device)
    step = whole_step(network, batches[0], precision, plan)
    torch.manual_seed(seed)  # the dropouts
    losses = [step(batches[number % len(batches)]).clone() for number in range(steps)]
    return torch.stack(losses).tolist()


def curves(block: str, width: int, batch: int, device: torch.device, steps: int) -> dict[str, Any]:
    """Return the losses of all plans and precisions, and whether they are alike: their last fifths' means."""
    batches = tones(batch, device)
    found = {
        f"plain, fp32, seed {seed}": curve(block, width, batches, PRECISIONS["fp32"], PLAIN_PLAN, steps, seed)
        for seed in range(SEEDS)
    }
    ends = [end(losses) for losses in found.values()]
    low, high = 2 * min(ends) - max(ends), 2 * max(ends) - min(ends)
    for (short, precision), plan in product(MIXED[device.type].items(), plans(device)):
        found.setdefault(f"{plan}, {short}", curve(block, width, batches, precision, plan, steps))
    alike = all(low <= end(losses) <= high for losses in found.values())  # false for NaN
    return {"losses": found, "low": low, "high": high, "alike": alike}


def end(losses: Sequence[float]) -> float:
    """Return the mean of the last fifth."""
    return statistics.mean(losses[-len(losses) // 5 :])


def table(results: Mapping[str, Any]) -> str:
    """Lay out losses at the first step, half way and over the last fifth; say whether they are alike."""
    text = ""
    for block, found in by_block(results, "losses").items():
        rows = [
            [name, f"{losses[0]:.4f}", f"{losses[len(losses) // 2]:.4f}", f"{end(losses):.4f}"]
            for name, losses in found["losses"].items()
        ]
        text += markdown([block, "first loss", "half way", "last fifth"], rows)
        text += f"\nalike: {found['alike']} (from {found['low']:.4f} to {found['high']:.4f} at the end)\n\n"
    return text.rstrip("\n") + "\n"


def main() -> None:
    """Train, compare, print, write."""
    parser = options(__doc__ or "", batch=23)
    parser.set_defaults(blocks=["se"], width=32)
    parser.add_argument("--steps", type=int, default=100, help="(default: %(default)s)")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    torch.set_num_threads(chosen.threads)
    shape = {"batch": chosen.batch, "width": chosen.width, "steps": chosen.steps}
    results: dict[str, Any] = {"machine": machine(device), **shape}
    good = True
    for block in chosen.blocks:
        results[block] = curves(block, chosen.width, chosen.batch, device, chosen.steps)
        good &= results[block]["alike"]
    print(table(results))
    write(chosen.json, results, table(results))
    sys.exit(not good)


if __name__ == "__main__":
    main()
