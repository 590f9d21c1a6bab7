"""How fast trained networks give probabilities, beside the network that people commonly write.

    python benchmarks/inference.py                           # one core, or the GPU if there is one
    python benchmarks/inference.py --batch 40 --json inference.json

Segments in memory to probabilities. The reference is channels-first Conv1d in float32 under torch.no_grad,
with the allocator as it comes, and with the program's own setting of it. Ours is what `samplecnn tag` uses:
batch norms folded into the convolutions, the stem as a matrix product, bfloat16 or float32. The limit counts
FLOPs alone.
"""

import torch
from torch.utils.flop_counter import FlopCounterMode

from measure import (
    Variants,
    Work,
    begin,
    options,
    rates,
    write,
)
from measure import rates_table as table
from reference import Reference
from samplecnn.memory import keep_freed_memory
from samplecnn.model.backends.fold import fold
from samplecnn.model.network import SEGMENT_SAMPLES, STEM
from training import TAGS, our_network

STEPS = {"cpu": 1, "cuda": 20}  # per repetition
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def network_work(
    block: str, width: int, batch: int, device_name: str, ours: bool, precision: str, keep: bool
) -> Work:
    """Return batches through ours or the reference."""
    if keep:
        keep_freed_memory()
    device, dtype = torch.device(device_name), DTYPES[precision]
    torch.backends.cudnn.benchmark = False  # as taggers have it, not as the ceilings were measured
    if ours:
        folded = fold(our_network(block, width))
        folded.use(STEM)
        network: torch.nn.Module = folded
    else:
        network = Reference(block, width, TAGS)
    network.to(device, dtype).eval()
    waveforms = (torch.rand(batch, SEGMENT_SAMPLES) - 0.5).to(device)

    def work() -> None:
        with torch.inference_mode(ours), torch.no_grad():
            for _ in range(STEPS[device.type]):
                probabilities = network(waveforms.to(dtype)).float().sigmoid()
            probabilities.cpu()

    return work


def main() -> None:
    """Measure, print, write."""
    chosen = options(__doc__ or "", batch=10).parse_args()
    device = torch.device(chosen.device)
    results = begin(chosen)
    limits = results["ceilings"]
    for block in chosen.blocks:
        shape = (block, chosen.width, chosen.batch, chosen.device)
        variants: Variants = {
            "reference, as it comes": (network_work, (*shape, False, "fp32", False)),
            "reference, kept memory": (network_work, (*shape, False, "fp32", True)),
            "ours, fp32": (network_work, (*shape, True, "fp32", True)),
            "ours, bf16": (network_work, (*shape, True, "bf16", True)),
        }
        if device.type == "cuda":
            del variants["reference, kept memory"]
            variants["reference, bf16"] = (network_work, (*shape, False, "bf16", False))
        speeds, peaks = rates(variants, chosen, chosen.batch * STEPS[device.type])
        with FlopCounterMode(display=False) as flops, torch.no_grad():
            our_network(block, chosen.width).eval()(torch.zeros(1, SEGMENT_SAMPLES))
        limit = {name: limits[f"{name} FLOP/s"] / flops.get_total_flops() for name in DTYPES}
        results[block] = {
            "segments_per_second": speeds,
            "peak_bytes": peaks,
            "FLOP": flops.get_total_flops(),
            "limit": limit,
        }
    print(table(results))
    write(chosen.json, results, table(results))


if __name__ == "__main__":
    main()
