"""dense_attend in C++: the query heads of a group share every row that is loaded."""

import torch

from truffle.kernels.contract import Needs
from truffle.kernels.isa import ISAS, PINNING, native, resolve
from truffle.kernels.registry import implements


@implements("dense_attend", "cpu_native", Needs(isas=ISAS, pinning=PINNING))
def dense_attend(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    lengths: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    scale: float,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    native.dense_attend(q, keys, values, lengths, out, lse, scale, threads, resolve(isa), pinning)
