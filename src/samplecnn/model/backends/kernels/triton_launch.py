"""How the Triton kernels divide feature maps among programs, what they accept, and how they are launched.

A map ``(batch, channels, 1, time)`` in ``channels_last`` memory is, per sample, a matrix of ``time`` rows
by ``channels`` columns. Kernels take its rows in groups, windows of three (for pooling) or quads of four.

Block sizes follow from the shape by fixed rules, measured on an H200 (132 multiprocessors): no autotuner,
whose timings have no place in the capture of a CUDA graph.

- A tile is 64 columns wide (128 bytes of bfloat16, whole cache lines) or as wide as the map is, and holds
  512 groups. With 128 threads a thread then reads 8 bytes per row of a group in bfloat16, three to eight such
  reads at a time; with tiles of twice the size, whose threads hold more values, fewer of them run at once.
- Kernels that write a map take one tile per program.
- Kernels that reduce one loop over tiles, so that about 16 programs per multiprocessor share the work:
  enough to keep memory busy and the last wave short, few enough that their partial results (two or four
  rows each) stay near one per cent of the map.
- Small maps have fewer tiles than that; then each program has one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

PROGRAMS = 132 * 16
TILE = 512  # groups of rows times columns
WARPS = 4
SAMPLE_PARTS = 16  # rows of a tile of the kernels that merge the parts of one sample
MERGE_PARTS, MERGE_CHANNELS, MERGE_WARPS = 512, 8, 8  # tile of the kernels that merge all parts
MAX_ROWS = 2**31 - 2**16  # rows are counted in int32, with room for the padding of the last tile


class Norm(NamedTuple):
    """Batch norm with known statistics; each (channels,)."""

    mean: Tensor
    rstd: Tensor
    weight: Tensor
    bias: Tensor


class Running(NamedTuple):
    """Running statistics of a batch norm, moved in place by its forward pass; each (channels,).

    ``offset`` is the bias of the convolution in front, which that leaves out: under a batch norm it has no
    effect but on the running mean, and its gradient is zero. Adding it would take another pass over the map,
    and its gradient one more. A batch weighs ``momentum``, and more while there were few: 1 / ``batches``, of
    shape (), this batch included.
    """

    mean: Tensor
    var: Tensor
    offset: Tensor
    momentum: float
    batches: Tensor | None = None


@dataclass(frozen=True)
class Split:
    """``batch`` samples of ``groups`` by ``channels``, divided among programs.

    Program ``(part, column)`` works on up to ``chunk`` groups of sample ``part // chunks``, from group
    ``part % chunks * chunk`` on, and on the ``column``-th ``tile_channels`` channels.
    """

    batch: int
    groups: int
    channels: int
    chunk: int
    tile_rows: int
    tile_channels: int

    @property
    def chunks(self) -> int:
        """Programs along one sample."""
        return triton.cdiv(self.groups, self.chunk)

    @property
    def parts(self) -> int:
        """Programs along all samples, each with a row of partial results."""
        return self.batch * self.chunks

    @property
    def columns(self) -> int:
        """Programs along the channels."""
        return triton.cdiv(self.channels, self.tile_channels)


def columns_of_a_tile(channels: int) -> int:
    """Return how many channels a program works on."""
    return min(triton.next_power_of_2(channels), 64)


def split(batch: int, groups: int, channels: int, *, reduce: bool, size: int = 1) -> Split:
    """Divide the work; with ``reduce`` programs loop over tiles, without each has one, of ``size`` TILE."""
    tile_channels = columns_of_a_tile(channels)
    tile_rows = size * TILE // tile_channels
    tiles = triton.cdiv(groups, tile_rows)
    each = batch * tiles * triton.cdiv(channels, tile_channels) // PROGRAMS if reduce else 1
    chunk = tile_rows * min(max(each, 1), tiles)
    return Split(batch, groups, channels, chunk, tile_rows, tile_channels)


def launch(kernel: Any, work: Split, like: Tensor, *arguments: Any, **options: Any) -> None:
    """Run ``kernel`` once per program of ``work``."""
    tile = {"tile_rows": work.tile_rows, "tile_channels": work.tile_channels}
    arguments = (*arguments, work.chunks, work.chunk)
    run(kernel, (work.parts, work.columns), like, work.channels, *arguments, **tile, **options)


def launch_samples(
    kernel: Any, batch: int, channels: int, like: Tensor, *arguments: Any, **options: Any
) -> None:
    """Run a ``kernel`` that merges the parts of each sample, once per sample and 64 channels."""
    columns = columns_of_a_tile(channels)
    tile = {"tile_parts": SAMPLE_PARTS, "tile_channels": columns}
    run(kernel, (batch, triton.cdiv(channels, columns)), like, channels, *arguments, **tile, **options)


def launch_merge(kernel: Any, channels: int, like: Tensor, *arguments: Any, **options: Any) -> None:
    """Run a ``kernel`` that merges rows of partial results, once per ``MERGE_CHANNELS`` channels."""
    grid = (1, triton.cdiv(channels, MERGE_CHANNELS))
    tile = {"tile_parts": MERGE_PARTS, "tile_channels": MERGE_CHANNELS, "num_warps": MERGE_WARPS}
    run(kernel, grid, like, channels, *arguments, **tile, **options)


def run(
    kernel: Any, grid: tuple[int, ...], like: Tensor, channels: int, *arguments: Any, **options: Any
) -> None:
    """Run ``kernel`` once per program of ``grid``, with ``like``'s types of sums and on its device."""
    options = {"num_warps": WARPS, "channels": channels, "wide": _WIDE[wide(like)], **options}
    with torch.cuda.device_of(like):
        kernel[grid](*arguments, **options)


_WIDE: Mapping[torch.dtype, Any] = {torch.float32: tl.float32, torch.float64: tl.float64}


def wide(like: Tensor) -> torch.dtype:
    """Return the type of statistics and sums over ``like``: float64 for itself, else float32."""
    return torch.float64 if like.dtype == torch.float64 else torch.float32


def sums(like: Tensor, *shape: int) -> Tensor:
    """Return an uninitialised tensor for sums over ``like``."""
    return torch.empty(shape, dtype=wide(like), device=like.device)


def feature_map(like: Tensor, time: int, dtype: torch.dtype | None = None) -> Tensor:
    """Return an uninitialised map of ``time`` steps with the samples and channels of ``like``."""
    return torch.empty(
        (like.shape[0], like.shape[1], 1, time),
        dtype=dtype or like.dtype,
        device=like.device,
        memory_format=torch.channels_last,
    )


def rows_first(x: Tensor) -> Tensor:
    """Return ``x``, copied if its memory is not ``channels_last``."""
    return x.contiguous(memory_format=torch.channels_last)


def check_map(name: str, x: Tensor, *, at_least: int = 1) -> None:
    """Raise ValueError unless ``x`` is a feature map that the kernels take, of ``at_least`` time steps."""
    if x.ndim != 4 or x.shape[2] != 1 or not x.is_floating_point():
        raise ValueError(
            f"{name} must be a floating-point feature map of shape (batch, channels, 1, time), "
            f"not {x.dtype} of shape {tuple(x.shape)}"
        )
    if x.shape[3] < at_least or x.shape[0] < 1 or x.shape[1] < 1:
        raise ValueError(
            f"{name} must have at least one sample, one channel and {at_least} time steps, "
            f"but its shape is {tuple(x.shape)}"
        )


def check_norm(
    name: str, shape: Sequence[int], weight: Tensor, bias: Tensor, running: Running | None = None
) -> None:
    """Raise ValueError unless batch norm by ``weight`` and ``bias`` fits the map ``name`` of ``shape``."""
    batch, channels, _, time = shape
    parts = {"weight": weight, "bias": bias}
    if running is not None:
        parts |= {"running mean": running.mean, "running variance": running.var, "offset": running.offset}
    if not 2 <= batch * time <= MAX_ROWS:
        raise ValueError(
            f"batch norm in training mode needs at least 2 and at most {MAX_ROWS} values per channel, "
            f"but {name} has shape {tuple(shape)}: use another batch size"
        )
    for part, values in parts.items():
        if values.shape != (channels,) or not values.is_contiguous():
            raise ValueError(
                f"the batch norm's {part} for {name} must be contiguous and hold {channels} values, "
                f"but has shape {tuple(values.shape)}"
            )
