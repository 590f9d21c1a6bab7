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
from itertools import product
from typing import Any

import torch

from measure import machine, options, tell, write
from samplecnn.data.audio import SAMPLE_RATE
from samplecnn.data.datamodule import Batch
from samplecnn.model.network import SEGMENT_SAMPLES
from samplecnn.training.backends import PLAIN_PLAN, Plan
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
        batches.append(Batch(waveforms.to(device), labels.to(device), torch.zeros(batch, dtype=torch.int64)))
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


def curves(
    block: str, width: int, batch: int, device: torch.device, steps: int
) -> tuple[dict[str, list[float]], bool]:
    """Compare the losses of all plans and precisions; return them and whether they are alike."""
    batches = tones(batch, device)
    found = {
        f"plain, fp32, seed {seed}": curve(block, width, batches, PRECISIONS["fp32"], PLAIN_PLAN, steps, seed)
        for seed in range(SEEDS)
    }
    last = -(-steps // 5)
    ends = [statistics.mean(losses[-last:]) for losses in found.values()]
    low, high = 2 * min(ends) - max(ends), 2 * max(ends) - min(ends)
    rows, alike = [], True
    for (short, precision), plan in product(MIXED[device.type].items(), plans(device)):
        found.setdefault(f"{plan}, {short}", curve(block, width, batches, precision, plan, steps))
    for name, losses in found.items():
        end = statistics.mean(losses[-last:])
        alike &= low <= end <= high  # false for NaN
        rows.append([name, f"{losses[0]:.4f}", f"{losses[steps // 2]:.4f}", f"{end:.4f}"])
    title = f"losses, {block}, width {width}; alike: {alike} (from {low:.4f} to {high:.4f} at the end)"
    tell(title, ["", "first", "half way", "last fifth"], rows)
    return found, alike


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
        losses, alike = curves(block, chosen.width, chosen.batch, device, chosen.steps)
        results[block] = {"losses": losses, "alike": alike}
        good &= alike
    write(chosen.json, results)
    sys.exit(not good)


if __name__ == "__main__":
    main()
