"""How the processes of a training agree, in real ones."""

import os
import sys
from typing import Any

import pytest
import torch.distributed as dist

from processes import Ranks, in_ranks
from samplecnn.errors import UserError
from samplecnn.training.config import ConfigError
from samplecnn.training.launch import as_launched, launched, rank
from samplecnn.training.ranks import from_rank_zero, gather, on_all, world

PLAIN = {"trainer": {"devices": 1, "num_nodes": 1}}


def agreement() -> list[Any]:
    return [
        gather(dist.get_rank()),
        from_rank_zero(lambda: f"of rank {dist.get_rank()}"),
        on_all(lambda: dist.get_rank()),
        as_launched(PLAIN)["trainer"],
        rank(),
    ]


def test_all_know_what_rank_zero_knows() -> None:
    for number, answer in enumerate(in_ranks(4, agreement)):
        assert answer == [[0, 1, 2, 3], "of rank 0", number, {"devices": 4, "num_nodes": 1}, number]


def test_a_process_alone_asks_nobody() -> None:
    assert (gather("a"), from_rank_zero(lambda: "b"), on_all(lambda: "c"), world()) == (["a"], "b", "c", 1)
    with pytest.raises(UserError, match=r"^bad$"):
        on_all(lambda: fail(0))


def fail(wanted: int) -> None:
    if not dist.is_initialized() or dist.get_rank() == wanted:
        raise UserError("bad")


def failing(wanted: int) -> str:
    try:
        on_all(lambda: fail(wanted))
    except UserError as error:
        return str(error)
    except SystemExit as stop:
        return f"ends with {stop.code}"
    return "goes on"


def test_an_error_on_any_rank_is_said_once_and_ends_all() -> None:
    assert in_ranks(3, failing, 0) == ["bad", "ends with 0", "ends with 0"]
    assert in_ranks(3, failing, 2) == ["rank 2: bad", "ends with 0", "ends with 0"]


def leave_early() -> None:
    if dist.get_rank() == 1:
        sys.exit(3)
    gather(None)


def test_who_waits_for_one_that_has_gone_fails() -> None:
    assert Ranks(2, leave_early).statuses() == [1, 3]


def test_slurm_says_who_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """By srun alone: in a job's script, before it, there is one process whatever the job has asked for."""
    for name, value in {"NTASKS": "4", "NNODES": "2", "PROCID": "3"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert launched() is None
    assert as_launched(PLAIN) == PLAIN
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    assert rank() == 3
    assert as_launched(PLAIN)["trainer"] == {"devices": 2, "num_nodes": 2}
    monkeypatch.setenv("SLURM_NTASKS", "3")
    with pytest.raises(ConfigError, match="3 processes on machines of 2"):
        launched()


def test_several_machines_are_started_by_others() -> None:
    assert "RANK" not in os.environ
    with pytest.raises(ConfigError, match=r"trainer.num_nodes=2: .* torchrun or SLURM's srun"):
        as_launched({"trainer": {"devices": 1, "num_nodes": 2}})
