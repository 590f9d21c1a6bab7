"""What this machine computes on."""

import logging
import os
import platform
from pathlib import Path

import torch

log = logging.getLogger(__name__)


def multiplies_bfloat16(device_type: str) -> bool:
    """Say whether "cpu" or "cuda" here has instructions for bfloat16, rather than an emulation.

    A CPU whose libraries are held to AVX2 (``ATEN_CPU_CAPABILITY``) counts as one without.
    """
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    held = torch.backends.cpu.get_cpu_capability() == "AVX2"
    return not held and bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def describe(device: torch.device) -> str:
    """Return the name of a GPU, or of the processor with the number of threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()
    count = torch.get_num_threads()
    return f"{name}, {count} thread{'s' if count > 1 else ''}"


def instructions() -> list[str]:
    """Return the vector instructions that libraries have on this processor, and what holds them to fewer."""
    able = torch.cpu.get_capabilities()
    vector = sorted(name for name, value in able.items() if value and name.startswith(("avx", "amx")))
    held = [os.environ.get(name, "") for name in ("ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")]
    return [*vector, torch.backends.cpu.get_cpu_capability(), *held]


def driver() -> str | None:
    """Return the version of the GPU's driver, as far as the system tells it."""
    try:
        return Path("/sys/module/nvidia/version").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def settle(device: torch.device) -> None:
    """Set what all backends have in common, before the first convolution: cuDNN times its algorithms."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True


def missing_kernels() -> str | None:
    """Say why this build of PyTorch cannot compute on the GPU that is there; None if it can."""
    major, minor = torch.cuda.get_device_capability()
    built = [name for name in torch.cuda.get_arch_list() if name.startswith(("sm_", "compute_"))]
    numbers = [(name, int("".join(filter(str.isdigit, name.split("_")[1])))) for name in built]
    here = 10 * major + minor
    # Machine code runs on later GPUs of the same generation, and "compute" code on all later ones.
    for name, number in numbers:
        if number <= here and (name.startswith("compute_") or number // 10 == major):
            return None
    return (
        f"{torch.cuda.get_device_name()} has compute capability {major}.{minor}, and this PyTorch "
        f"({torch.__version__}) is built for {', '.join(built)}: another build of it may have this one"
    )


def usable_device() -> torch.device:
    """Return a GPU that this build of PyTorch can compute on, or the CPU; say why one there is not taken."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if fault := missing_kernels():
        log.warning("computing on the CPU: %s", fault)
        return torch.device("cpu")
    return torch.device("cuda")
