"""The network of a training, as it is configured."""

from typing import Any

import pytest
import torch

from processes import in_ranks
from samplecnn.model.norm import BatchNorm
from samplecnn.runs.config import RunConfig
from samplecnn.training.launch import as_launched
from samplecnn.training.network import heard, make_module
from samplecnn.training.stores import make_data, training_store
from training.test_networks import World, tiny

pytestmark = pytest.mark.usefixtures("hydra")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return tiny(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("rule", ["average", "keras"])
def test_running_statistics_by_either_rule(world: World, rule: str) -> None:
    plain = world.compose("width=2", "fast=false", "rate=16000", f"running_statistics={rule}")
    config = RunConfig.read(plain, "here")
    rate, samples = heard(config)
    data = make_data(config, training_store(plain["data"], rate), rate, samples)
    found = [m for m in make_module(config, data.selection).modules() if isinstance(m, BatchNorm)]
    assert len(found) == 11
    assert {norm.from_first_step for norm in found} == {rule == "average"}


def cudnn_times(plain: dict[str, Any]) -> bool:
    """Make the module of a training on GPUs that PyTorch says are there; return what cuDNN is then to do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
        patch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_90"])
        config = RunConfig.read(as_launched(plain), "here")
        rate, samples = heard(config)
        data = make_data(config, training_store(plain["data"], rate), rate, samples)
        make_module(config, data.selection)
    return torch.backends.cudnn.benchmark


def test_cudnn_times_its_algorithms_on_every_rank(world: World) -> None:
    plain = world.compose("width=2", "fast=false", "rate=16000", "trainer.accelerator=cuda")
    assert in_ranks(2, cudnn_times, plain) == [True, True]
