"""The Triton kernels against plain PyTorch in float64.

The functions ``check_*`` are the tests of the kernels themselves. They run on a GPU if there is one,
otherwise in Triton's interpreter. The interpreter has to be chosen before Triton is imported and changes it
for good, so they run in a process of their own, whose results ``test_kernels`` reports; the process of the
other tests is left alone, and compiles the kernels (test_triton_compile.py). To see them one by one:

    TRITON_INTERPRET=1 pytest -o python_functions='check_*' tests/model/test_triton.py
"""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

triton = pytest.importorskip("triton")
from model.triton_cases import CASES, CHANNELS_LAST, DEVICE, EPS, TOLERANCE, error, inputs, norm  # noqa: E402
from model.triton_network import run_checks  # noqa: E402
from samplecnn.model.backends.kernels import triton_launch, triton_ops  # noqa: E402


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def compare(name: str, arguments: list[Tensor], tolerance: float, dy: Tensor | None = None) -> None:
    """Compare output and all gradients of a case with those of its twin in float64."""
    fused, plain, names = CASES[name]
    ours = [argument.clone().requires_grad_() for argument in arguments]
    theirs = [argument.double().requires_grad_() for argument in arguments]
    y, wanted = fused(*ours), plain(*theirs)
    assert y.dtype == arguments[0].dtype
    assert y.is_contiguous(memory_format=CHANNELS_LAST) or "forked" in name
    dy = torch.randn_like(y) if dy is None else dy
    y.backward(dy)
    wanted.backward(dy.double())
    assert error(y, wanted) < tolerance
    for letter, a, b in zip(names, ours, theirs, strict=True):
        assert error(a.grad, b.grad) < 2 * tolerance, f"gradient of {letter}"
        assert a.grad is not None
        assert a.grad.dtype == a.dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def check_types(name: str, dtype: torch.dtype) -> None:
    compare(name, inputs(CASES[name][2], 3, 12, 10, dtype), TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["relu", "pool excited", "add excited"])
def check_more_channels_than_a_tile(name: str) -> None:
    compare(name, inputs(CASES[name][2], 1, 70, 8, torch.float32), TOLERANCE[torch.float32])


QUICK = ["relu", "pool gated", "add excited", "add forked"]  # through every kernel
SHAPES = [(2, 8, 9), (3, 12, 10), (1, 5, 29), (4, 64, 3), (2, 128, 81), (1, 1024, 5), (5, 33, 122)]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def check_shapes(name: str, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    compare(name, inputs(CASES[name][2], *shape, dtype), TOLERANCE[dtype])


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in CASES if n not in QUICK)]
)
def check_loops_over_tiles(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few programs each goes through several tiles and the last through fewer."""
    monkeypatch.setattr(triton_launch, "PROGRAMS", 4)
    monkeypatch.setattr(triton_launch, "TILE", 32)
    assert triton_launch.split(3, 6, 16, reduce=True).chunk == 4  # of tiles of two
    monkeypatch.setattr(triton_launch, "MERGE_PARTS", 2)
    monkeypatch.setattr(triton_launch, "SAMPLE_PARTS", 1)
    compare(name, inputs(CASES[name][2], 3, 16, 64, torch.float32), TOLERANCE[torch.float32])


@pytest.mark.parametrize("name", CASES)
def check_ties(name: str) -> None:
    """Values that repeat: the gradient goes to the first of equals, and only to it."""
    arguments = inputs(CASES[name][2], 2, 12, 30, torch.float32)
    for i, letter in enumerate(CASES[name][2]):
        if letter in "xo":
            arguments[i] = arguments[i].round()
        elif letter in "wv":
            arguments[i] = torch.tensor([1.0, -1.0, 0.0] * 4, device=DEVICE)
    if "add" in name:  # normalised values tie with others only where rounding lets them: repeat whole rows
        for i, letter in enumerate(CASES[name][2]):
            if letter in "xo":
                arguments[i][..., 1::3] = arguments[i][..., 0::3]
    compare(name, arguments, TOLERANCE[torch.float32])


@pytest.mark.parametrize("layout", ["contiguous", "expanded", "transposed"])
@pytest.mark.parametrize("name", ["relu", "add excited"])
def check_layouts(name: str, layout: str) -> None:
    """Maps and gradients of any memory layout."""
    arguments = inputs(CASES[name][2], 2, 6, 12, torch.float32)
    arguments = [a.contiguous() if a.ndim == 4 else a for a in arguments]
    time = 12 if name == "relu" else 4
    dy = {
        "contiguous": torch.randn(2, 6, 1, time),
        "expanded": torch.randn(2, 6, 1, 1).expand(2, 6, 1, time),
        "transposed": torch.randn(time, 1, 6, 2).permute(3, 2, 1, 0),
    }[layout].to(DEVICE)
    compare(name, arguments, TOLERANCE[torch.float32], dy)


def check_statistics() -> None:
    """Mean and biased variance where the mean is 1,000 times the standard deviation.

    The difference of mean square and squared mean would be off by several per cent in float32.
    """
    x, w, b = inputs("xwb", 3, 12, 31, torch.float32)
    x = x + 1e3
    zero = torch.zeros(12, device=DEVICE)
    # With a momentum of 1 they are the batch's own.
    moved = [triton_ops.Running(zero.clone(), zero.clone(), zero, 1.0) for _ in range(4)]
    triton_ops.norm_relu(x, w, b, EPS, running=moved[0])
    triton_ops.norm_relu_pool(x, w, b, EPS, running=moved[1])
    triton_ops.norm_add_relu_pool(x, w, b, EPS, x, w, b, running=moved[2], shortcut_running=moved[3])
    exact = x.double().transpose(0, 1).flatten(1)
    for running in moved:
        assert error(running.mean, exact.mean(1)) < 1e-7
        assert error(running.var, exact.var(1, unbiased=False)) < 1e-4
    compare("pool", [x, w, b], 1e-4)  # bn(x) does not cancel either


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["relu", "pool", "add", "shortcut"])
@pytest.mark.parametrize(("batches", "rate"), [(None, 0.25), (1, 1.0), (2, 0.5), (9, 0.25)])
def check_running_statistics(name: str, dtype: torch.dtype, batches: int | None, rate: float) -> None:
    """They move as a batch norm moves them behind a convolution with its bias, whose gradient is zero."""
    x, w, b, o = inputs("xwbo", 3, 12, 10, dtype)
    wide = torch.promote_types(dtype, torch.float32)
    mean, offset = torch.randn(2, 12, dtype=wide, device=DEVICE)
    count = None if batches is None else torch.tensor(batches, device=DEVICE)
    running = triton_ops.Running(mean, mean.abs() + 0.5, offset.clone().requires_grad_(), 0.25, count)
    old_mean, old_var = mean.double().clone(), running.var.double().clone()
    x.requires_grad_()
    ops = triton_ops
    calls: dict[str, Callable[[], Tensor]] = {
        "relu": lambda: ops.norm_relu(x, w, b, EPS, running=running),
        "pool": lambda: ops.norm_relu_pool(x, w, b, EPS, gate=torch.sigmoid, running=running),
        "add": lambda: ops.norm_add_relu_pool(x, w, b, EPS, ops.fork(o)[1], running=running),
        "shortcut": lambda: ops.norm_add_relu_pool(o, w, b, EPS, x, w, b, shortcut_running=running),
    }
    calls[name]().sum().backward()
    values = x.detach().double().transpose(0, 1).flatten(1)
    assert error(running.mean, (1 - rate) * old_mean + rate * (values.mean(1) + offset)) < TOLERANCE[wide]
    assert error(running.var, (1 - rate) * old_var + rate * values.var(1, unbiased=False)) < TOLERANCE[wide]
    assert running.offset.grad is not None
    assert not running.offset.grad.any()


def check_dropout() -> None:
    """Zeros at the given rate, the rest scaled; the backward drops the same; new draws every time."""
    x, w, b = inputs("xwb", 4, 50, 61, torch.float32)
    w, b = w.abs(), b + 8  # nothing is cut by the ReLU
    plain = norm(x.double(), w.double(), b.double())
    x.requires_grad_()
    y = triton_ops.norm_relu(x, w, b, EPS, dropout=0.25)
    kept = y != 0
    assert kept.double().mean().item() == pytest.approx(0.75, abs=0.015)  # 4 standard deviations
    draws = kept[:, :, 0].double() - 0.75
    for steps, channels in itertools.product(range(9), range(-4, 5)):  # neighbours draw independently
        here = draws[:, max(channels, 0) : 50 + min(channels, 0), steps:]
        there = draws[:, max(-channels, 0) : 50 + min(-channels, 0), : 61 - steps]
        covariance = 0.25 * 0.75 if (steps, channels) == (0, 0) else 0
        assert (here * there).mean().item() == pytest.approx(covariance, abs=0.012)  # 6 deviations
    assert (draws[0] * draws[1]).mean().item() == pytest.approx(0, abs=0.02)
    assert error(y, plain * kept / 0.75) < TOLERANCE[torch.float32]
    dy = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, dy)
    twin = x.detach().double().requires_grad_()
    (wanted,) = torch.autograd.grad(norm(twin, w.double(), b.double()), twin, dy.double() * kept / 0.75)
    assert error(dx, wanted) < 2 * TOLERANCE[torch.float32]
    assert not torch.equal(triton_ops.norm_relu(x, w, b, EPS, dropout=0.25) != 0, kept)
    torch.manual_seed(5)
    first = triton_ops.norm_relu(x, w, b, EPS, dropout=0.25)
    torch.manual_seed(5)
    assert torch.equal(triton_ops.norm_relu(x, w, b, EPS, dropout=0.25), first)


@pytest.mark.parametrize("name", ["relu", "pool excited", "add forked"])
def check_same_again(name: str) -> None:
    """Bit by bit the same result and gradients, also from a second backward through one graph."""
    fused, _, names = CASES[name]
    arguments = [a.requires_grad_() for a in inputs(names, 2, 12, 31, torch.bfloat16)]
    y = fused(*arguments)
    dy = torch.randn_like(y)
    first = torch.autograd.grad(y, arguments, dy, retain_graph=True)
    second = torch.autograd.grad(y, arguments, dy)
    again = fused(*arguments)
    third = torch.autograd.grad(again, arguments, dy)
    assert torch.equal(y, again)
    for a, b, c in zip(first, second, third, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


@pytest.mark.parametrize("name", ["pool excited", "add forked"])
def check_gradients_that_are_not_wanted(name: str) -> None:
    """Any one input alone may want a gradient, or none."""
    fused, _, names = CASES[name]
    arguments = inputs(names, 2, 6, 12, torch.float32)
    everything = [a.clone().requires_grad_() for a in arguments]
    fused(*everything).sum().backward()
    for i, letter in enumerate(names):
        some = [a.clone().requires_grad_(i == j) for j, a in enumerate(arguments)]
        fused(*some).sum().backward()
        assert [a.grad is not None for a in some] == [i == j for j in range(len(some))]
        assert torch.equal(some[i].grad, everything[i].grad), letter  # type: ignore[arg-type]
    assert not fused(*arguments).requires_grad


@pytest.mark.parametrize("name", ["relu", "pool", "add excited"])
def check_diverged_values_show(name: str) -> None:
    arguments = inputs(CASES[name][2], 2, 6, 12, torch.float32)
    arguments[0][1, 3, 0, 7] = float("nan")
    assert CASES[name][0](*arguments)[:, 3].isnan().any()


def check_diverged_shortcuts_show() -> None:
    arguments = inputs("xwbo", 2, 6, 9, torch.float32)
    for window in range(3):  # NaN in the first, second and third place of a window
        arguments[3][1, 3, 0, 4 * window] = float("nan")
    y = CASES["add"][0](*arguments)
    assert y[1, 3].isnan().all()
    assert y.isnan().sum() == 3


def check_fork() -> None:
    x, w, b, o = inputs("xwbo", 2, 6, 12, torch.float32)
    way, skip = triton_ops.fork(o)
    triton_ops.norm_add_relu_pool(x, w, b, EPS, skip)
    with pytest.raises(ValueError, match="a Skip can be added once"):
        triton_ops.norm_add_relu_pool(x, w, b, EPS, skip)
    with pytest.raises(ValueError, match="it takes no shortcut_weight"):
        triton_ops.norm_add_relu_pool(x, w, b, EPS, triton_ops.fork(o)[1], w, b)
    o.requires_grad_()
    way, _ = triton_ops.fork(o)  # the shortcut is never added
    (do,) = torch.autograd.grad(way.square().sum(), o)
    assert torch.equal(do, 2 * o)


def check_refusals() -> None:
    x, w, b, o, g = inputs("xwbog", 2, 6, 12, torch.float32)
    ops, short = triton_ops, triton_ops.Running(w, b, w[:5], 0.5)
    refused: list[tuple[str, Callable[[], object]]] = [
        ("feature map of shape", lambda: ops.norm_relu(x[:, :, 0], w, b, EPS)),
        ("feature map of shape", lambda: ops.norm_relu_pool(x.int(), w, b, EPS)),
        ("the shape of x", lambda: ops.norm_add_relu_pool(x, w, b, EPS, o[:, :, 0], w, b)),
        ("3 time steps", lambda: ops.norm_relu_pool(x[..., :2], w, b, EPS)),
        ("at least 2", lambda: ops.norm_relu(x[:1, ..., :1], w, b, EPS)),
        ("weight for x must .* hold 6", lambda: ops.norm_relu(x, w[:5], b, EPS)),
        ("bias for shortcut must .* hold 6", lambda: ops.norm_add_relu_pool(x, w, b, EPS, o, w, b[1:])),
        ("both shortcut_weight and", lambda: ops.norm_add_relu_pool(x, w, b, EPS, o, w)),
        ("the shape of x", lambda: ops.norm_add_relu_pool(x, w, b, EPS, ops.fork(o[..., :9])[1])),
        ("gate must have the shape", lambda: ops.norm_relu_pool(x, w, b, EPS, gate=lambda _: g[:, :5])),
        (
            "gate must have the shape",
            lambda: ops.norm_add_relu_pool(x, w, b, EPS, o, w, b, gate=lambda m: m[:1]),
        ),
        ("offset for x must .* hold 6", lambda: ops.norm_relu(x, w, b, EPS, running=short)),
        ("a multiple of 3 samples", lambda: ops.stem(w[None, :4], w.expand(4, 6))),
        ("a multiple of 3 samples", lambda: ops.stem(w, w.expand(4, 6))),
        (r"shape \(4, channels\)", lambda: ops.stem(w[None], w.expand(3, 6))),
        ("less than 1, not 1", lambda: ops.norm_relu(x, w, b, EPS, dropout=1)),
    ]
    for message, call in refused:
        with pytest.raises(ValueError, match=message):
            call()


# What runs in the process of the other tests.


def test_kernels() -> None:
    run_checks("not slow", __file__)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kernels_on_more_shapes() -> None:
    run_checks("slow", __file__)
