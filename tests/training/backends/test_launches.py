"""How many operations a training step is on a GPU, and how many bytes they move: no more than they were.

Counted without a GPU, on a step as a CUDA graph has it: PyTorch's operations by a dispatch mode, and launches
of Triton in place of its kernels, which a CPU cannot run. So maps have any values, but all sizes are right.
An operation of PyTorch may be several kernels. There is no dropout, which PyTorch draws otherwise on a CPU.
"""

from collections import Counter
from functools import partial
from inspect import signature
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from samplecnn.data.batches import Batch
from samplecnn.model.blocks import BLOCKS
from samplecnn.model.network import PLAIN, SEGMENT_SAMPLES, TRITON, SampleCNN
from samplecnn.runs.config import KERAS_SGD
from samplecnn.training.backends.graph import StepGraph, TrainingStep
from samplecnn.training.optimiser import make_optimizer

jit = pytest.importorskip("triton.runtime.jit")

WIDTH, SEGMENTS = 16, 4
MOST = {  # operations, and megabytes
    ("basic", PLAIN): (229, 111),
    ("basic", TRITON): (185, 55.4),
    ("se", PLAIN): (399, 143),
    ("se", TRITON): (248, 62),
    ("res1", PLAIN): (273, 140.3),
    ("res1", TRITON): (208, 78.9),
    ("res2", PLAIN): (408, 204.4),
    ("res2", TRITON): (289, 134.6),
    ("rese1", PLAIN): (444, 211.4),
    ("rese1", TRITON): (262, 84),
    ("rese2", PLAIN): (579, 275.5),
    ("rese2", TRITON): (343, 139.8),
}


class Launches(TorchDispatchMode):
    """Counts what a GPU would be given to do, and the bytes of all that it reads and writes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.bytes = 0
        # The arguments of a kernel are behind its grid.
        monkeypatch.setattr(
            jit.JITFunction, "run", lambda kernel, *given, **_: self.note(kernel.__name__, given)
        )

    def note(self, name: str, *tensors: Any) -> None:
        found = {t.data_ptr(): t for t in tree_leaves(tensors) if isinstance(t, Tensor)}
        self.counts[name] += 1
        self.bytes += sum(t.nbytes for t in found.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given, results = (
            [t for t in tree_leaves(tree) if isinstance(t, Tensor)] for tree in ((args, kwargs), made)
        )
        memory = {t.untyped_storage().data_ptr() for t in given}
        view = not func._schema.is_mutable and all(t.untyped_storage().data_ptr() in memory for t in results)
        # Addresses for the update, which the host writes down as it captures.
        table = all(t.dtype == torch.int64 and t.ndim > 0 for t in given + results)
        if not (view or table or func.overloadpacket.__name__.startswith(("empty", "new_empty"))):
            self.note(func.overloadpacket.__name__, given, results)
        return made


def step_of(block: str, backend: str) -> tuple[StepGraph, Batch]:
    torch.manual_seed(0)
    options = {"dropout": 0.0} if "dropout" in signature(BLOCKS[block]).parameters else {}
    made = SampleCNN(partial(BLOCKS[block], **options), tags=50, width=WIDTH, dropout=0.0).train()
    made.use(backend)
    waveforms, labels = torch.rand(SEGMENTS, SEGMENT_SAMPLES) - 0.5, torch.ones(SEGMENTS, 50)
    batch = Batch(waveforms, labels, torch.zeros(SEGMENTS, dtype=torch.int64), torch.arange(SEGMENTS))

    def loss(given: Batch) -> Tensor:
        return F.binary_cross_entropy_with_logits(made(given.waveforms).float(), given.labels)

    step = TrainingStep(made, loss, "bf16-mixed", make_optimizer(made, KERAS_SGD, weight_decay=1e-4))
    return StepGraph(step, batch), batch


@pytest.mark.parametrize(("block", "backend"), MOST)
def test_no_more_than_before(block: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launches = Launches(monkeypatch)
    graph, batch = step_of(block, backend)
    graph(batch)  # the first makes the optimiser's state
    launches.counts.clear()
    launches.bytes = 0
    with launches:
        graph(batch)
    if backend == TRITON:
        assert launches.counts["_update"] == 2  # for kernels that decay, and for the rest
    operations, megabytes = MOST[block, backend]
    assert launches.counts.total() <= operations, launches.counts
    assert launches.bytes / 1e6 <= megabytes
