"""swiglu in plain torch, float32."""

import torch
import torch.nn.functional as F

from truffle.kernels.contract import Needs
from truffle.kernels.registry import implements


@implements("swiglu", "reference", Needs(device="any"))
def swiglu(
    gate_up: torch.Tensor,
    out: torch.Tensor,
    *,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    gate, up = gate_up.float().chunk(2, -1)
    out.copy_(F.silu(gate) * up)
