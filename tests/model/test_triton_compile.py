"""The Triton kernels compiled for Hopper, without a GPU: nothing is spilled, no offset overflows."""

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

triton = pytest.importorskip("triton")
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from samplecnn.model.backends.kernels import triton_launch, triton_ops, triton_sgd  # noqa: E402

EPS = 1e-3
CHANNELS_LAST = torch.channels_last


HOPPER = GPUTarget("cuda", 90, 32)
TYPES = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int64: "*i64",
    torch.uint8: "*u8",
    torch.int8: "*i8",
}


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Where a kernel would be launched it is compiled, ahead of time; what comes out is collected here."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("the interpreter is in the way of the compiler")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernels: dict[str, Any] = {}

    def compile_only(
        kernel: Any, _grid: Any, like: Tensor, channels: int, *values: Any, **named: Any
    ) -> None:
        named = {"channels": channels, "wide": triton_launch._WIDE[triton_launch.wide(like)], **named}
        options = {"num_warps": named.pop("num_warps", triton_launch.WARPS)}
        options |= {"num_stages": named.pop("num_stages")} if "num_stages" in named else {}
        source = ahead_of_time(kernel, dict(zip(kernel.arg_names, values, strict=False)) | named)
        key = source.hash() + str(options)
        if key not in kernels:
            kernels[key] = triton.compile(source, target=HOPPER, options=options)
            collected.append(kernels[key])

    collected: list[Any] = []
    monkeypatch.setattr(triton_launch, "run", compile_only)
    return collected


def ahead_of_time(kernel: Any, arguments: Mapping[str, Any]) -> ASTSource:
    """Return what ``triton.compile`` takes: the type of each argument, or its value where that is constant.

    Memory starts at multiples of 16 bytes, as PyTorch's does.
    """
    constant = {p.name for p in kernel.params if p.is_constexpr or arguments[p.name] is None}
    signature, aligned = {}, {}
    for index, name in enumerate(kernel.arg_names):
        value = arguments[name]
        if name in constant:
            signature[name] = "constexpr"
        elif isinstance(value, Tensor):
            signature[name] = TYPES[value.dtype]
            aligned[(index,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32" if isinstance(value, float) else "i32"
    constants = {name: arguments[name] for name in constant}
    return ASTSource(kernel, signature, constants, aligned)


class Recorder(TorchDispatchMode):
    """Notes which of PyTorch's own operations run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


def run(dtype: torch.dtype, batch: int, channels: int, time: int, *, everything: bool) -> set[str]:
    """Operations, in all kernels or all combinations, forward and backward; returns what of PyTorch ran."""
    recorder = Recorder()
    wide = torch.promote_types(dtype, torch.float32)
    x, o = (torch.empty(batch, channels, 1, time, dtype=dtype) for _ in range(2))
    x, o = (m.contiguous(memory_format=CHANNELS_LAST).requires_grad_() for m in (x, o))
    w, b, v, c = (torch.empty(channels, dtype=wide, requires_grad=True) for _ in range(4))
    gate = torch.empty(batch, channels, dtype=dtype, requires_grad=True)
    offset = torch.empty(channels, dtype=wide, requires_grad=True)
    ops = triton_ops
    waveforms = torch.empty(batch, 3 * time, dtype=wide)
    matrix = torch.empty(4, channels, dtype=wide, requires_grad=True)
    statistics = torch.empty(2, channels, dtype=wide)
    running = ops.Running(statistics[0], statistics[1], offset, 0.01, torch.ones((), dtype=torch.int64))

    def forked(gate: Any) -> tuple[Tensor, ...]:
        way, skip = ops.fork(o)
        return ops.norm_add_relu_pool(x, w, b, EPS, skip, gate=gate, running=running), way

    def stem() -> tuple[Tensor, ...]:
        with torch.autocast("cpu", dtype, enabled=dtype != wide):
            return (ops.stem(waveforms, matrix),)

    hidden = 16 * channels
    squeezed = torch.empty(batch, channels, dtype=wide, requires_grad=True)
    shapes = [(hidden, channels), (hidden,), (channels, hidden), (channels,)]
    dense = [torch.empty(shape, dtype=wide, requires_grad=True) for shape in shapes]
    copies = [p.detach().to(dtype).requires_grad_() for p in dense]

    calls: list[Callable[[], tuple[Tensor, ...]]] = [
        stem,
        lambda: (ops.norm_relu(x, w, b, EPS, dropout=0.2, running=running),),
        lambda: (ops.norm_relu_pool(x, w, b, EPS, gate=torch.sigmoid, running=running),),
        lambda: forked(torch.sigmoid),
        lambda: (ops.norm_add_relu_pool(x, w, b, EPS, o, v, c, shortcut_running=running),),
    ]
    if everything:
        calls += [lambda: (ops.norm_relu(x, w, b, EPS),)]
        for g in (None, lambda _: gate, torch.sigmoid):
            calls += [
                lambda g=g: (ops.norm_relu_pool(x, w, b, EPS, gate=g),),  # type: ignore[misc]
                lambda g=g: (ops.norm_add_relu_pool(x, w, b, EPS, o, v, c, gate=g),),  # type: ignore[misc]
                lambda g=g: forked(g),  # type: ignore[misc]
            ]
    if dtype in (torch.bfloat16, torch.float16):
        calls += [lambda: (ops.gate(squeezed, *dense, dtype=dtype),)]
        calls += [lambda: (ops.gate(squeezed, *copies, dtype=dtype),)] if everything else []
    leaves = (x, o, w, b, v, c, gate, offset, matrix, squeezed, *dense, *copies)
    for call in calls:
        with recorder:
            ys = call()
        slopes = [torch.empty_like(y) for y in ys]
        with recorder:
            torch.autograd.grad(ys, leaves, slopes, allow_unused=True)
    return recorder.names


def resources(kernel: Any) -> dict[str, int]:
    """Registers, shared memory and local memory (spills) of a compiled kernel, in its cubin."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {key: int(value) for key, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", report)}


def assert_no_spills(kernels: list[Any], dtype: torch.dtype) -> None:
    """Registers suffice and shared memory is no limit; but for float64, which is there for checks."""
    for kernel in {kernel.hash: kernel for kernel in kernels}.values():
        used = resources(kernel)
        print(f"{kernel.metadata.name:20} {dtype} {used}")
        assert used["LOCAL"] == used["STACK"] == 0 or dtype == torch.float64, kernel.metadata.name
        assert used["SHARED"] <= 48 * 1024, kernel.metadata.name
        assert kernel.metadata.shared <= 99 * 1024, kernel.metadata.name  # what a GPU for games has, too


def assert_wide_offsets(kernels: list[Any], channels: int) -> None:
    """No row is multiplied by the number of ``channels``, which nothing else is, in 32 bits."""
    for kernel in kernels:
        code = kernel.asm["ttir"]
        constant = rf"(%[\w.]+) = arith\.constant (?:dense<)?{channels}>? : (?:tensor<[\dx]*x)?i32"
        for value in re.findall(constant, code):
            assert not re.search(rf"arith\.muli .*{value}\b", code), kernel.metadata.name


ALLOWED = {  # allocation, views, what the gates and dropout's seed need, and the sum of the stem's parts
    "aten::detach",
    "aten::empty.memory_format",
    "aten::empty_like",
    "aten::new_empty",
    "aten::new_zeros",
    "aten::select.int",
    "aten::view",
    "aten::sigmoid",
    "aten::sigmoid_backward",
    "aten::randint",
    "aten::sum.dim_IntList",
}


def test_kernels_compile(compiled: list[Any]) -> None:
    """Each kernel compiles for Hopper, and between kernels there is nothing to wait for or to pay for."""
    used = run(torch.bfloat16, 2, 104, 30, everything=False)
    assert_wide_offsets(compiled, 104)
    assert used <= ALLOWED, used - ALLOWED
    package = Path(triton_ops.__file__).parent
    kernels = {
        name
        for path in package.glob("triton_*.py")
        for name in re.findall(r"@triton\.jit\(do_not_specialize.*\ndef (\w+)", path.read_text())
    }
    assert {kernel.metadata.name for kernel in compiled} == kernels


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        (torch.bfloat16, (2, 128, 19683)),
        (torch.bfloat16, (2, 256, 27)),
        (torch.bfloat16, (2, 512, 3)),
        (torch.bfloat16, (23, 256, 3)),
        (torch.bfloat16, (64, 512, 3)),
        (torch.float32, (2, 128, 243)),
        (torch.float16, (2, 128, 243)),
        (torch.float64, (2, 128, 243)),
        (torch.bfloat16, (1, 8, 10)),
        (torch.bfloat16, (2, 70, 31)),  # nothing divisible by 16
        (torch.float32, (1, 1024, 5)),
    ],
    ids=str,
)
def test_all_combinations_compile(
    dtype: torch.dtype, shape: tuple[int, int, int], compiled: list[Any]
) -> None:
    """All kernels in all combinations: those of the network's maps, other types, odd shapes."""
    run(dtype, *shape, everything=True)
    assert_no_spills(compiled, dtype)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_the_update_compiles(low: torch.dtype, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It reads and writes 16 bytes at a time, though it finds the addresses in a table."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("the interpreter is in the way of the compiler")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    rate, table = torch.ones(()), torch.zeros(3, 5, dtype=torch.int64)
    types = {"low": triton_sgd._LOW[low], "chunk": triton_sgd.CHUNK, "aligned": triton_sgd.ALIGNED}
    given = {"table": table, "rate": rate, "before": rate, "decay": 0.1, "momentum": 0.9, **types}
    options = {"num_warps": triton_sgd.WARPS}
    kernel = triton.compile(ahead_of_time(triton_sgd._update, given), target=HOPPER, options=options)
    assert_no_spills([kernel], torch.float32)
    wide = re.findall(r"\b(ld|st)\.global\.v4\.b32", kernel.asm["ptx"])
    values = triton_sgd.CHUNK // (32 * triton_sgd.WARPS)  # of a thread
    # Weights, momentum and gradients of 4 bytes; weights, momentum and gradients of 2 bytes.
    assert wide.count("ld") == 3 * values // 4 + 2 * values // 4 + values // 8
    assert wide.count("st") == 4 * values // 4
