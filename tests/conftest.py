"""What holds for all tests."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# A shell starts background jobs with Ctrl-C ignored, and every process that they start inherits that: the
# tests that interrupt one would see it run on.
signal.signal(signal.SIGINT, signal.default_int_handler)
# What users and clusters set for their own programs, by how it begins.
FOREIGN: tuple[str, ...] = ("SLURM_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_")
FOREIGN += ("OMP_", "MKL_", "GOMP_", "KMP_", "WANDB_", "HF_", "PYTHONWARNINGS", "PYTHONDEVMODE")
FOREIGN += ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TQDM_")
for name in [name for name in os.environ if name.startswith(FOREIGN) or name.lower().endswith("_proxy")]:
    del os.environ[name]
# The tests run in a process per core, and many start others: threads would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
# A GPU's float32 is that of a CPU, which tests compare with: read where CUDA starts, in child processes too.
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
# No test takes the model that its user has chosen with `samplecnn use`.
os.environ["XDG_CONFIG_HOME"] = os.path.join(tempfile.gettempdir(), "samplecnn-no-such-folder")  # noqa: PTH118

FIRST = ("tests/e2e/", "tests/training/", "tests/data/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders whose files take longest, so that the processes of the tests end together."""
    items.sort(key=lambda item: [not item.nodeid.startswith(folder) for folder in FIRST])


@pytest.fixture
def exact_gpu() -> Iterator[None]:
    """A GPU whose float32 is that of a CPU, and on which the compiler compiles."""
    import torch

    before = torch.backends.cudnn.allow_tf32
    # TensorFloat-32 rounds the inputs of convolutions to 11 bits.
    torch.backends.cudnn.allow_tf32 = False
    if torch.cuda.is_available():
        torch.compiler.reset()  # after 8 networks it would silently compute the next without
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of the tests have in common, for what takes a lock while it is made."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder  # each has one below


@pytest.fixture(scope="session")
def mini_raw(shared: Path) -> Path:
    """Where the built-in set at its smallest, of 16 clips, is rendered by the first test that needs it."""
    return shared / "mini-16"
