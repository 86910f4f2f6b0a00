"""build_tables in C++: one counting sort a table. The code is the same for every instruction set."""

import torch

from truffle.kernels.contract import Needs
from truffle.kernels.isa import ISAS, PINNING, native, resolve
from truffle.kernels.registry import implements


@implements("build_tables", "cpu_native", Needs(isas=ISAS, pinning=PINNING))
def build_tables(
    codes: torch.Tensor,
    offsets: torch.Tensor,
    ids: torch.Tensor,
    *,
    K: int,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    native.build_tables(codes, offsets, ids, K, threads, resolve(isa), pinning)
