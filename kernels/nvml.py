"""Fields of the NVIDIA GPUs here, through NVML. Each is optional: GeForce cards and VMs refuse some."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def gpus(nvml: Any = None) -> tuple[list[dict[str, Any]], str | None]:
    """The fields of `hardware.Gpu` for every device in NVML's order, and the driver version.

    `CUDA_VISIBLE_DEVICES` does not matter to NVML. No driver, or no `pynvml`: no devices.

    Args:
        nvml: a stand-in for the `pynvml` module.
    """
    if nvml is None:
        try:
            import pynvml as nvml
        except ImportError:
            return [], None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return [], None
    try:
        ask = _asker(nvml)
        found = [_fields(ask, handle, parent) for handle, parent in _devices(ask)]
        return found, _text(ask("nvmlSystemGetDriverVersion"))
    finally:
        nvml.nvmlShutdown()


def _asker(nvml: Any) -> Callable[..., Any]:
    def ask(function: str, *arguments: Any) -> Any:
        try:
            return getattr(nvml, function)(*arguments)
        except (nvml.NVMLError, AttributeError):  # refused by this card, or unknown to this NVML
            return None

    return ask


def _devices(ask: Callable[..., Any]) -> Iterator[tuple[Any, Any]]:
    """(device, board) pairs; a board with MIG on is replaced by its instances."""
    for index in range(ask("nvmlDeviceGetCount") or 0):
        board = ask("nvmlDeviceGetHandleByIndex", index)
        if board is None:
            continue
        current, _ = ask("nvmlDeviceGetMigMode", board) or (0, 0)
        if not current:
            yield board, board
            continue
        for number in range(ask("nvmlDeviceGetMaxMigDeviceCount", board) or 0):
            instance = ask("nvmlDeviceGetMigDeviceHandleByIndex", board, number)
            if instance is not None:
                yield instance, board


def _fields(ask: Callable[..., Any], device: Any, board: Any) -> dict[str, Any]:
    memory = ask("nvmlDeviceGetMemoryInfo", device)
    capability = ask("nvmlDeviceGetCudaComputeCapability", board)
    return {
        "name": _text(ask("nvmlDeviceGetName", device)),
        "memory_bytes": memory.total if memory else None,
        "compute_capability": tuple(capability) if capability else None,
        "pcie_gen_max": ask("nvmlDeviceGetMaxPcieLinkGeneration", board),
        "pcie_gen_current": ask("nvmlDeviceGetCurrPcieLinkGeneration", board),
        "pcie_width_max": ask("nvmlDeviceGetMaxPcieLinkWidth", board),
        "pcie_width_current": ask("nvmlDeviceGetCurrPcieLinkWidth", board),
        "numa_node": ask("nvmlDeviceGetNumaNodeId", board),
        "mig": device is not board,
    }


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
