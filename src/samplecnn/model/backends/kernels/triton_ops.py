"""The network's memory-bound operations in training mode, fused into few passes by Triton kernels.

Compared with plain PyTorch in Triton's interpreter and on an H200, and compiled for Hopper (sm_90) without
register spills. Needs Triton, which PyTorch brings along on Linux.

Maps are (batch, channels, 1, time), best in ``channels_last`` memory; others are copied. They may be
bfloat16, float16, float32 or float64; statistics and sums are kept in float32 (float64 for float64). Given
``Running`` statistics, an operation moves them, and the convolution in front needs no pass over its output
for its bias. Between kernels memory is allocated, and nothing else: operations can be captured in a CUDA
graph, after one run that compiles them. All sums have an order that the shape fixes, so that results are
reproducible.

What each reads (r) and writes (w), with M the input map, P = M / 3 the pooled one, and W the winners of
pooling, a byte per pooled value (M / 6 in bfloat16); all else is small:

| operation | forward | backward |
| --- | --- | --- |
| ``norm_relu_pool`` | rM wP, rP wP | r2P, r(M + P) wM |
| with a ``gate`` | rM wP, rP, rP wP | r2P, r(M + P) wM |
| ``norm_relu``, dropout included | rM, rM wM | r2M, r2M wM |
| ``norm_add_relu_pool`` | rM, r2M w(2P + W) | r(2P + W), r(M + P + W) wM |
| and its shortcut from ``fork`` | | r(M + P + W) wM, the addition to the convolution's gradient included |
| or its shortcut with batch norm | rM, wP | rP, r(M + P + W) wM |
| ``stem``, M its output | wM | rM |

``gate`` computes gates in mixed precision, in two launches and a reading of the weights either way.

Why so few: pooling commutes with batch norm's affine map and the ReLU if it follows the sign of the weight,
so the pass that finds the statistics also pools, and what follows works on a third of the data; the sums
that a backward needs first are over pooled maps too; and squeezed means come from the statistics' pass.
"""

from samplecnn.model.backends.kernels.triton_fork import Skip, fork
from samplecnn.model.backends.kernels.triton_gate import MAX_BATCH, gate
from samplecnn.model.backends.kernels.triton_launch import Running
from samplecnn.model.backends.kernels.triton_norm import norm_relu
from samplecnn.model.backends.kernels.triton_pool import Gate, norm_relu_pool
from samplecnn.model.backends.kernels.triton_residual import norm_add_relu_pool
from samplecnn.model.backends.kernels.triton_stem import stem

__all__ = [
    "MAX_BATCH",
    "Gate",
    "Running",
    "Skip",
    "fork",
    "gate",
    "norm_add_relu_pool",
    "norm_relu",
    "norm_relu_pool",
    "stem",
]
