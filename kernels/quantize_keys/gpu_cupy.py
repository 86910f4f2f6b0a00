"""quantize_keys as a CUDA kernel, compiled by NVRTC through CuPy: 64 tokens in the lanes, as they will be stored."""

from pathlib import Path

import torch

from truffle.kernels import cupy_support
from truffle.kernels.contract import Needs
from truffle.kernels.cupy_support import launch, stream
from truffle.kernels.quantize_keys.contract import STEPS
from truffle.kernels.registry import implements

SOURCE = Path(__file__).with_name("quantize_keys.cu")
THREADS = 256


@implements("quantize_keys", "gpu_cupy", Needs(packages=("cupy",), device="cuda", extra="gpu"))
def quantize_keys(
    keys: torch.Tensor,
    center: torch.Tensor,
    rotation: torch.Tensor,
    words: torch.Tensor,
    scales: torch.Tensor,
    *,
    start: int,
    bits: int,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    R, n, d = keys.shape
    if R * n == 0:
        return
    module = cupy_support.compiled(SOURCE, options(d, bits, keys.dtype), keys.device.index)
    with torch.cuda.device_of(keys), stream(keys.device):
        given = keys, center, rotation, words, scales, n, start, words.shape[1]
        launch(module, "quantize_keys", (-(-n // 64), R), THREADS, *given)


def options(d: int, bits: int, dtype: torch.dtype) -> tuple[str, ...]:
    """What NVRTC is told to make the source a kernel for keys of d dimensions and `dtype`."""
    return cupy_support.options(D=d, BITS=bits, STEP_SIZE=STEPS[bits], FLOAT_KEYS=int(dtype == torch.float32))
