"""What the CUDA kernels' callers share: sources compiled by NVRTC through CuPy, launched on torch's stream."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch


def options(**macros: int | float) -> tuple[str, ...]:
    """What NVRTC is told to make a source a kernel of these constants."""
    return ("--std=c++17", *(f"-D{name}={value}" for name, value in macros.items()))


@functools.cache
def compiled(source: Path, options: tuple[str, ...], device: int) -> Any:
    """The module of a source file on a device."""
    import cupy

    with cupy.cuda.Device(device):
        return cupy.RawModule(code=source.read_text(encoding="utf-8"), options=options)


def launch(module: Any, name: str, grid: tuple[int, ...], block: int, *arguments: Any) -> None:
    """Launch a kernel on the current stream; NumPy's numbers, tensors and None are passed as what they are."""
    module.get_function(name)(grid, (block,), tuple(map(_passed, arguments)))


def _passed(argument: Any) -> Any:
    if argument is None:
        return np.uint64(0)
    if isinstance(argument, torch.Tensor):
        return np.uint64(argument.data_ptr())
    return np.int32(argument) if isinstance(argument, int) else argument


def stream(device: torch.device) -> Any:
    """Torch's stream on this device, for CuPy to launch on."""
    import cupy

    return cupy.cuda.ExternalStream(torch.cuda.current_stream(device).cuda_stream, device.index)
