"""Dropout whose random numbers do not take longer than a convolution on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LANES = 4  # 16-bit random numbers in one draw of the generator


class Dropout(nn.Dropout):
    """``torch.nn.Dropout``, on a CPU with 16 random bits per value where PyTorch's takes a draw each.

    There the rate is rounded to a multiple of 2^-16 below 1, and the scale with it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Drop values of a map of any shape in training mode."""
        if not self.training or self.p == 0:
            return x
        dropped = round(self.p * 2**16)
        if x.device.type != "cpu" or dropped == 2**16:
            return F.dropout(x, self.p)
        draws = torch.empty(-(-x.numel() // LANES), dtype=torch.int64).random_(-(2**63), None)
        bits = draws.view(torch.int16)[: x.numel()]
        keep = torch.empty_like(x)  # in the layout of x, whatever that is
        torch.ge(bits, dropped - 2**15, out=keep.as_strided((x.numel(),), (1,)))
        return x * keep.mul_(2**16 / (2**16 - dropped))
