"""The choice of a backend: proven and measured once, remembered, without a trace in what it is for."""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from samplecnn.model.blocks import Basic, Res2
from samplecnn.model.network import COMPILE, PLAIN, PRODUCTS, STEM, TRITON, backends
from samplecnn.runs.results import installed
from samplecnn.training.backends import choice as choices
from samplecnn.training.backends.choice import Choice, candidates, choose, identify, memory_file
from samplecnn.training.backends.proof import (
    PLAIN_PLAN,
    Plan,
    make_step,
)
from samplecnn.training.backends.trials import Finding, examine
from training.backends.faulty import Faulty, faulty, of_others, trial

ADAMW = {"name": "adamw", "weight_decay": 0.1, "betas": [0.9, 0.99]}
PLANS = [Plan(backend) for backend in backends("cpu")]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    caplog.set_level(logging.INFO)
    # Whatever else this machine does meanwhile.
    monkeypatch.setattr(choices, "BUSY", float("inf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "samplecnn" / "backends.json"


def test_fast_false_is_the_plain_backend(caplog: pytest.LogCaptureFixture) -> None:
    assert choose(trial(), fast=False) == Choice(PLAIN_PLAN)
    assert "plain (fast=false)" in caplog.text


def test_fast_true_is_proven_too(caplog: pytest.LogCaptureFixture) -> None:
    assert choose(trial(), fast=True).plan == Plan(STEM)
    assert choose(faulty("nan"), fast=True) == Choice(PLAIN_PLAN)
    assert "backend stem is left out: computes something else (32-true): loss is off by inf" in caplog.text
    assert "plain: no other way is proven" in caplog.text


def test_auto_measures_once_for_each_network(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = choose(trial(), fast="auto")
    assert first.plan in PLANS
    assert first.rate is not None
    assert "measured now: plain" in caplog.text
    assert cache == memory_file()
    caplog.clear()
    assert choose(trial(), fast="auto") == first
    assert "the fastest when it was measured here" in caplog.text


@pytest.mark.parametrize(
    "other",
    [
        {"width": 3},
        {"precision": "bf16-mixed"},
        {"batch_size": 5},
        {"block": Res2},
        {"block": Faulty},
        {"optimizer": ADAMW},
    ],
)
def test_a_choice_is_for_one_network_and_shape(other: dict[str, Any]) -> None:
    assert identify(trial(**other), PLANS) != identify(trial(), PLANS)


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        ("samplecnn.training.backends.choice", "installed", lambda name: "9"),
        ("torch", "__version__", "9"),
        ("samplecnn.training.backends.choice", "driver", lambda: "9"),
        ("torch.backends.cudnn", "version", lambda: 9),
        ("torch.backends.cpu", "get_cpu_capability", lambda: "9"),
        ("torch.cpu", "get_capabilities", dict),
    ],
)
def test_a_choice_is_for_one_version_of_all(
    owner: str, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = identify(trial(), PLANS)
    monkeypatch.setattr(f"{owner}.{name}", value)
    assert identify(trial(), PLANS) != before


@pytest.mark.parametrize("package", ["samplecnn", "triton"])
def test_a_choice_is_for_one_version_of_each_package(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = identify(trial(), PLANS)
    monkeypatch.setattr(choices, "installed", lambda name: "9" if name == package else installed(name))
    assert identify(trial(), PLANS) != before


def test_a_choice_is_for_the_instructions_that_libraries_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identify(trial(), PLANS)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert identify(trial(), PLANS) != before


def recall(key: str) -> Choice | None:
    """Return what the file has under a key."""
    return choices._read_choice(choices._read().get(key), PLANS, key)


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{", '{"x": 1}', "null", '{"key": 1}', '{"key": {}}', "[" * 100_000),
        '{"key": {"backend": "stem", "graph": "false", "rate": 1.0}}',
        '{"key": {"backend": "stem", "graph": true, "rate": 1.0}}',  # not on a CPU
        '{"key": {"backend": "own", "graph": false, "rate": 1.0}}',
    ],
)
def test_a_damaged_memory_is_written_anew(cache: Path, content: str) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(content)
    assert recall("key") is None
    choices._keep(Choice(Plan(STEM), 12.5, "key"))
    assert recall("key") == Choice(Plan(STEM), 12.5, "key")


@pytest.mark.parametrize("rate", ["null", "NaN", "Infinity", "-1.0", '"1"', "1" + "0" * 400])
def test_a_damaged_rate_is_measured_anew(cache: Path, rate: str, caplog: pytest.LogCaptureFixture) -> None:
    key = identify(trial(), [Plan(STEM)])
    cache.parent.mkdir(parents=True)
    cache.write_text(f'{{{json.dumps(key)}: {{"backend": "stem", "graph": false, "rate": {rate}}}}}')
    choice = choose(trial(), fast=True)
    assert "measured now: stem" in caplog.text
    assert recall(key) == choice


def test_a_memory_that_cannot_be_written_is_no_error(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.parent.parent.write_text("a file where the folder should be")
    assert choose(trial(), fast=True).plan == Plan(STEM)
    assert "cannot be kept" in caplog.text


def test_a_busy_machine_is_not_remembered(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choices, "BUSY", 1 + 1e-9)  # no two turns take the same time
    choose(trial(), fast=True)
    assert not cache.exists()
    assert "the next run measures again" in caplog.text


def test_the_fastest_of_the_proven_is_taken(cache: Path) -> None:
    found = [Finding(PLAIN_PLAN, 2.0), Finding(Plan(STEM), 3.0), Finding(Plan(PRODUCTS), 1.0)]
    assert choices._fastest(found, "key") == recall("key") == Choice(Plan(STEM), 3.0, "key")


def test_the_oldest_choices_go(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.mkdir(parents=True)
    monkeypatch.setattr(choices, "KEPT", 2)
    for key in "abac":  # the second choice of a is its newest
        choices._keep(Choice(Plan(STEM), 1.0, key))
    assert [recall(key) is None for key in "abc"] == [False, True, False]


@pytest.mark.parametrize(
    ("measured", "far", "kept"), [(1e9, choices.FAR, False), (1e-3, choices.FAR, False), (1.0, 1e-12, True)]
)
def test_the_first_steps_are_compared_with_what_was_measured(
    measured: float,
    far: float,
    kept: bool,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slower ones are on a machine that is busy now, faster ones on one that was when it measured."""
    monkeypatch.setattr(choices, "FAR", far)
    choice = Choice(Plan(STEM), measured, "key")
    choices._keep(choice)
    trained = trial()
    batch = make_step(trained, PLAIN_PLAN).batch
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[choices.FirstSteps(choice)],
    )
    trainer.fit(Line(), DataLoader([batch] * (choices.LAST + 1), batch_size=None))  # type: ignore[arg-type]
    assert (recall("key") is not None) == kept
    assert (f"segments/s, where {measured:.3g} were measured" in caplog.text) != kept


class Line(pl.LightningModule):
    """A weight to train, quickly."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, _index: int) -> Tensor:
        return (self.weight - batch.labels.mean()).square()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Own(Basic):
    """A block that Triton's kernels do not know."""


@pytest.mark.parametrize(("block", "last"), [(Basic, TRITON), (Own, COMPILE)])
def test_the_compiler_stands_in_for_kernels(block: type[Basic], last: str) -> None:
    pytest.importorskip("triton")
    on_gpu = trial(block, device=torch.device("cuda"))
    kinds = [PLAIN, STEM, last]
    assert candidates(on_gpu, graphs=False) == [Plan(kind) for kind in kinds]
    graphs = [Plan(kind, graph=True) for kind in kinds]
    assert candidates(on_gpu) == [*candidates(on_gpu, graphs=False), *graphs]


def test_without_a_graph_only_what_fails_in_one(caplog: pytest.LogCaptureFixture) -> None:
    """On a CPU, where a graph's step is taken anew."""
    plans = [Plan(kind, graph=graph) for graph in (False, True) for kind in (PLAIN, STEM)]
    found = choices._examine(faulty("raises"), plans)
    assert [str(finding.plan) for finding in found] == [
        "plain in a CUDA graph",
        "stem in a CUDA graph",
        "stem",
    ]
    assert [finding.failure is None for finding in found] == [True, False, False]
    assert [line for line in caplog.messages if line.startswith("trying")] == [
        f"trying backend: {finding.plan}" for finding in found
    ]
    assert "backend plain in a CUDA graph is proven: " in caplog.text
    assert "backend stem is left out: FileNotFoundError: no C compiler" in caplog.text


def test_trying_leaves_no_trace() -> None:
    given = trial()
    before = {name: value.clone() for name, value in given.network.state_dict().items()}
    random = torch.get_rng_state()
    found = examine(given, PLANS)
    choices._still_works(given, Choice(Plan(STEM), 1.0, "key"))
    assert [finding.plan for finding in found] == PLANS
    assert all(finding.rate > 0 and finding.spread >= 1 for finding in found)
    assert torch.equal(torch.get_rng_state(), random)
    assert given.network.backend == PLAIN
    for name, value in given.network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in given.network.parameters())


def test_all_failing_is_plain(caplog: pytest.LogCaptureFixture) -> None:
    class Own(Basic):
        """Of a test alone: no other process can import it."""

    assert choose(trial(Own), fast="auto") == Choice(PLAIN_PLAN)
    assert caplog.text.count("cannot be tried in another process") == len(PLANS)


def test_a_training_goes_on_as_before(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On a machine of the same kind, whatever would be fastest now; for other machines that says nothing."""
    key = identify(trial(), PLANS)
    choices._keep(Choice(Plan(STEM), 1e9, key))
    remembered = cache.read_bytes()
    before = Choice(Plan(PRODUCTS), 1.0, key)
    assert choose(trial(), fast="auto", before=before.state()) == replace(before, rate=None)
    assert "computing on backend: products (as before)" in caplog.text
    assert cache.read_bytes() == remembered
    elsewhere = Choice(Plan(PRODUCTS), 1.0, "another machine")
    assert choose(trial(), fast="auto", before=elsewhere.state()).plan == Plan(STEM)
    assert choose(trial(), fast=False, before=before.state()) == Choice(PLAIN_PLAN)


@pytest.mark.parametrize(
    "damaged", [None, 3, [], {"backend": "own"}, {"backend": []}, {"key": 1}, {"graph": True}]
)
def test_a_damaged_choice_of_before_is_none(damaged: Any) -> None:
    key = identify(trial(), PLANS)
    choices._keep(Choice(Plan(STEM), 1e9, key))
    if isinstance(damaged, dict):
        damaged = Choice(Plan(PRODUCTS), 1.0, key).state() | damaged
    assert choose(trial(), fast="auto", before=damaged).plan == Plan(STEM)


@pytest.mark.parametrize("fault", ["raises", "nan"])
def test_a_remembered_backend_that_fails_is_tried_anew(
    fault: str, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = faulty(fault)
    key = identify(broken, [Plan(STEM)])
    cache.parent.mkdir(parents=True)
    choices._keep(Choice(Plan(STEM), 1e9, key))
    assert choose(broken, fast=True) == Choice(PLAIN_PLAN)
    assert "backend stem does not work any more" in caplog.text
    assert json.loads(cache.read_text()) == {}


def test_a_choice_that_ends_the_process_is_forgotten(cache: Path) -> None:
    broken = faulty("ends")
    key = identify(broken, [Plan(STEM)])
    choices._keep(Choice(Plan(STEM), 1e9, key))
    if (child := os.fork()) == 0:
        torch.set_num_threads(1)
        choose(broken, fast=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert json.loads(cache.read_text()) == {}


def test_a_network_of_others_has_a_graph_to_try_on_a_gpu_alone(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    on_gpu = of_others("fcn", torch.device("cuda"))
    assert candidates(on_gpu) == [PLAIN_PLAN, Plan(graph=True)]
    assert candidates(on_gpu, graphs=False) == [PLAIN_PLAN]
    assert choose(of_others("fcn"), fast="auto") == Choice(PLAIN_PLAN)
    assert not caplog.messages
    assert not cache.exists()
