"""The update of `KerasSGD` in a CUDA graph, in one launch for each group of parameters."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from samplecnn.training.optimiser import KerasSGD

Gradients = Sequence[tuple[nn.Parameter, Tensor | None]]


class FusedUpdate:
    """Takes the steps of an optimiser whose rates are on the device (`DeviceRates`), by a kernel of Triton.

    It takes gradients of type ``low`` too. The kernel finds all in tables of addresses. While a graph is
    captured they are only noted: ``write`` writes them into the tables afterwards.
    """

    def __init__(self, optimizer: KerasSGD, low: torch.dtype) -> None:
        self.optimizer = optimizer
        self.low = low
        self._kernel: Any = import_module("samplecnn.model.backends.kernels.triton_sgd")
        self._tables: list[Tensor] = []  # of each group, on the device
        self._rows: list[Tensor] = []  # what belongs into them

    def __call__(self, gradients: Gradients) -> bool:
        """Take a step; or say that it is the optimiser's to take, as the first is, which makes its state."""
        found = self._find(dict(gradients))
        if found is None:
            return False
        if not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()):
            self._tables = [rows.to(gradients[0][0].device) for rows in found]
        assert [rows.shape for rows in found] == [table.shape for table in self._tables]
        self._rows = found
        for group, table in zip(self.optimizer.param_groups, self._tables, strict=True):
            rate, before = group["lr"], group["buffer_lr"]
            if len(table):
                self._kernel.update(table, rate, before, group["weight_decay"], group["momentum"], self.low)
            before.copy_(rate)
        return True

    def write(self) -> None:
        """Write the addresses of the last step into the tables, which its launches read."""
        for table, rows in zip(self._tables, self._rows, strict=True):
            table.copy_(rows)

    def _find(self, gradients: dict[nn.Parameter, Tensor | None]) -> list[Tensor] | None:
        """Return the rows of each group's table, or None where the kernel does not fit."""
        found = []
        for group in self.optimizer.param_groups:
            rows = [torch.empty(0, 5, dtype=torch.int64)]
            for p in group["params"]:
                gradient, buffer = gradients.get(p), self.optimizer.state[p].get("momentum_buffer")
                if gradient is None and buffer is None:
                    continue
                if gradient is None or buffer is None:
                    return None
                if not self._kernel.fits(p, buffer, gradient, self.low):
                    return None
                rows.append(self._kernel.rows(p, buffer, gradient))
            found.append(torch.cat(rows))
        return found
