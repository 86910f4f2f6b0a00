"""quantize_keys in C++: 64 tokens lie in the lanes from the rotation to the packed words."""

import torch

from truffle.kernels.contract import Needs
from truffle.kernels.isa import ISAS, PINNING, native, resolve
from truffle.kernels.registry import implements


@implements("quantize_keys", "cpu_native", Needs(isas=ISAS, pinning=PINNING))
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
    native.quantize_keys(keys, center, rotation, words, scales, start, bits, threads, resolve(isa), pinning)
