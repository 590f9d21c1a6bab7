"""Whether all ways to compute a training step learn alike: losses of short runs on every backend.

    python benchmarks/curves.py                              # on one core, or the GPU if there is one
    python benchmarks/curves.py --blocks rese2 --steps 200 --json curves.json

Networks learn to tell which tones are in a mixture, on each backend and in each precision with the same
seeds. What is compared is the mean loss of the last fifth of the steps, less that of the plain backend in
float32 with the same seed. Ways are alike if the mean of these differences over the seeds

- is no larger than chance would make one of them in 5 % of cases, and
- lies, with its 95 % interval, within the range of the seeds of the plain backend, so that it is known well.

The exit code is 1 if one is not.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch

from alike import compared
from measure import by_block, machine, markdown, options, write
from samplecnn.data.audio import SAMPLE_RATE
from samplecnn.data.batches import Batch
from samplecnn.model.network import SEGMENT_SAMPLES
from samplecnn.training.backends.proof import PLAIN_PLAN, Plan
from training import PRECISIONS, TAGS, our_network, plans, whole_step

MIXED = {"cpu": PRECISIONS, "cuda": {**PRECISIONS, "fp16": "16-mixed"}}
PLAIN = f"{PLAIN_PLAN}, fp32"
BATCHES = 20
SEEDS = range(6, 17)  # five have 32 signs, too few for 5 %; 16 have 65,536


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
    block: str, width: int, batches: list[Batch], precision: str, plan: Plan, steps: int, seed: int
) -> list[float]:
    """Return the loss of each step of a network that starts from ``seed``."""
    torch.manual_seed(seed)
    network = our_network(block, width).to(batches[0].waveforms.device)
    step = whole_step(network, batches[0], precision, plan)
    torch.manual_seed(seed)  # the dropouts
    losses = [step(batches[number % len(batches)]).clone() for number in range(steps)]
    return torch.stack(losses).tolist()


def curves(
    block: str, width: int, batch: int, device: torch.device, steps: int, seeds: int
) -> dict[str, Any]:
    """Return mean losses of all plans and precisions, their ends with each seed, whether they are alike."""
    batches = tones(batch, device)
    losses, ends = {}, {}
    for (short, precision), plan in product(MIXED[device.type].items(), plans(device)):
        found = [curve(block, width, batches, precision, plan, steps, seed) for seed in range(seeds)]
        losses[f"{plan}, {short}"] = [statistics.mean(of_step) for of_step in zip(*found, strict=True)]
        ends[f"{plan}, {short}"] = [end(of_seed) for of_seed in found]
    return {"losses": losses, "ends": ends, **compared(ends, PLAIN)}


def end(losses: Sequence[float]) -> float:
    """Return the mean of the last fifth."""
    return statistics.mean(losses[-len(losses) // 5 :])


def table(results: Mapping[str, Any]) -> str:
    """Lay out mean losses at the first step, half way and over the last fifth, and differences of these."""
    text = ""
    for block, found in by_block(results, "losses").items():
        rows = []
        for way, losses in found["losses"].items():
            ends = found["ends"][way]
            row = [
                way,
                *(f"{loss:.4f}" for loss in (losses[0], losses[len(losses) // 2], statistics.mean(ends))),
            ]
            row.append(f"{min(ends):.4f} to {max(ends):.4f}")
            if way != PLAIN:
                minus = found["minus_plain"][way]
                row += [f"{minus['difference']:+.4f} ± {minus['interval']:.4f}", f"{minus['chance']:.0%}"]
            rows.append([*row, *[""] * (7 - len(row))])
        head = [block, "first loss", "half way", "last fifth", "its range", f"minus {PLAIN}", "by chance"]
        text += markdown(head, rows)
        text += f"\nalike: {found['alike']} (the seeds of {PLAIN} span {found['spread']:.4f})\n\n"
    return text.rstrip("\n") + "\n"


def number_of_seeds(text: str) -> int:
    """Read ``--seeds``."""
    if not text.isdecimal() or int(text) not in SEEDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {SEEDS[0]} to {SEEDS[-1]}")
    return int(text)


def main() -> None:
    """Train, compare, print, write."""
    parser = options(__doc__ or "", batch=23)
    parser.set_defaults(blocks=["se"], width=32)
    parser.add_argument("--steps", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument(
        "--seeds", type=number_of_seeds, default=10, help="of each way (default: %(default)s)"
    )
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    torch.set_num_threads(chosen.threads)
    shape = {"batch": chosen.batch, "width": chosen.width, "steps": chosen.steps, "seeds": chosen.seeds}
    results: dict[str, Any] = {"machine": machine(device), **shape}
    good = True
    for block in chosen.blocks:
        results[block] = curves(block, chosen.width, chosen.batch, device, chosen.steps, chosen.seeds)
        good &= results[block]["alike"]
    print(table(results))
    write(chosen.json, results, table(results))
    sys.exit(not good)


if __name__ == "__main__":
    main()
