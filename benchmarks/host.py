"""What a training step costs the host, which on a GPU only has to launch it: alone, and in Lightning's loop.

    python benchmarks/host.py                            # on one core, or for the GPU if there is one
    python benchmarks/host.py --blocks se --json host.json

Each step begins when the device has nothing to do, and ends for the host when all of it is launched, whenever
it is done. Where that takes longer than the step does on the device (`training.py`), the device has to wait.
Of a CUDA graph, update included, the host launches a handful of operations. On a CPU the computing is in the
figures.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from measure import by_block, machine, markdown, median_and_range, options, spread, wait, write
from samplecnn.data.batches import Batch
from samplecnn.training.backends.choice import Choice
from samplecnn.training.backends.proof import Plan
from samplecnn.training.checkpoints import RunCheckpoint
from samplecnn.training.module import TaggingModule
from samplecnn.training.quiet import quiet_libraries
from samplecnn.training.schedule import PaperSchedule
from training import PRECISIONS, our_network, plans, random_batch, whole_step

WARM_UP = 5  # steps that do not count
Seconds = list[float]


class Steps:
    """The same batch, so many times."""

    def __init__(self, batch: Batch, count: int) -> None:
        self.batch, self.count = batch, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        return iter([self.batch] * self.count)


class Clock(pl.Callback):
    """Times the host from the beginning of a step to that of the next, all hooks included."""

    def __init__(self) -> None:
        self.seconds: Seconds = []
        self._begun: float | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Stop the clock, and start it once the device has nothing left to do."""
        if self._begun is not None:
            self.seconds.append(time.perf_counter() - self._begun)
        wait(pl_module.device)
        self._begun = time.perf_counter()


def alone(block: str, width: int, batch: Batch, precision: str, plan: Plan, steps: int) -> Seconds:
    """Return the host's seconds of the step alone."""
    device = batch.waveforms.device
    step = whole_step(our_network(block, width).to(device), batch, precision, plan)
    seconds = []
    for _ in range(steps):
        wait(device)
        begun = time.perf_counter()
        step(batch)
        seconds.append(time.perf_counter() - begun)
    return seconds[WARM_UP:]


def in_loop(block: str, width: int, batch: Batch, precision: str, plan: Plan, steps: int) -> Seconds:
    """Return the host's seconds of a step in a training without validation, of one that logs nothing."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator=batch.waveforms.device.type,
            devices=1,
            precision=precision,  # type: ignore[arg-type]
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            default_root_dir=folder,
            callbacks=[
                clock,
                PaperSchedule(0.01, stages=5, factor=0.2, patience=2, decay=1e-6),
                RunCheckpoint(Path(folder), tested="last", every_minutes=1000),
            ],
        )
        module = TaggingModule(our_network(block, width), description={}, choice=Choice(plan))
        trainer.fit(module, train_dataloaders=Steps(batch, steps))
    return clock.seconds[WARM_UP:]


def table(results: Mapping[str, Any]) -> str:
    """Lay out microseconds of the host per step."""
    rows = []
    for block, found in by_block(results, "host_us").items():
        for plan, figures in found["host_us"].items():
            rows.append([block, plan, *median_and_range(figures["step"]), *median_and_range(figures["loop"])])
    conditions = f"{results['machine']['device']}, batch {results['batch']}, width {results['width']}.\n\n"
    return conditions + markdown(["block", "", "step alone, us", "range", "in the loop, us", "range"], rows)


def main() -> None:
    """Measure, print, write."""
    parser = options(__doc__ or "", batch=23)
    parser.add_argument("--steps", type=int, default=100, help="(default: %(default)s)")
    chosen = parser.parse_args()
    if chosen.steps <= WARM_UP + 1:
        parser.error(f"--steps must be more than {WARM_UP + 1}: the first do not count")
    device = torch.device(chosen.device)
    torch.set_num_threads(chosen.threads)
    quiet_libraries()
    shape = {"batch": chosen.batch, "width": chosen.width, "steps": chosen.steps}
    results: dict[str, Any] = {"machine": machine(device), **shape}
    precision = PRECISIONS["bf16" if device.type == "cuda" else "fp32"]
    batch = random_batch(chosen.batch, device)
    for block in chosen.blocks:
        found = {}
        for plan in plans(device):
            arguments = (block, chosen.width, batch, precision, plan, chosen.steps)
            figures = {"step": alone(*arguments), "loop": in_loop(*arguments)}
            found[str(plan)] = {
                name: spread([1e6 * second for second in seconds]) for name, seconds in figures.items()
            }
        results[block] = {"host_us": found}
    print(table(results))
    write(chosen.json, results, table(results))


if __name__ == "__main__":
    main()
