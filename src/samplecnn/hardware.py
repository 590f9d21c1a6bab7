"""What this machine computes on."""

import platform

import torch


def multiplies_bfloat16(device_type: str) -> bool:
    """Say whether "cpu" or "cuda" here has instructions for bfloat16, rather than an emulation."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def describe(device: torch.device) -> str:
    """Return the name of a GPU, or of the processor with the number of threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()
    count = torch.get_num_threads()
    return f"{name}, {count} thread{'s' if count > 1 else ''}"
