"""hash_codes in C++: a blocked product that keeps projections in registers and writes signs only."""

import torch

from truffle.kernels.contract import Needs
from truffle.kernels.isa import ISAS, PINNING, native, resolve
from truffle.kernels.registry import implements


@implements("hash_codes", "cpu_native", Needs(isas=ISAS, pinning=PINNING))
def hash_codes(
    x: torch.Tensor,
    planes: torch.Tensor,
    center: torch.Tensor | None,
    codes: torch.Tensor,
    *,
    K: int,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    native.hash_codes(x, planes, center, codes, K, threads, resolve(isa), pinning)
